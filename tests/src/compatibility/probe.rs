//! One field: is it taken, and does anything come of it?

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use proto::{FieldDescriptor, MessageDescriptor, Registry};
use serde_json::{Map, Value, json};

use super::decisions::Decisions;
use super::place::{Place, Step};
use super::roots::{Complaint, Outcome, Root};
use super::values::{is_any, values};
use crate::differential::bootstrap::merge;

/// How many values inside a message are put right, one after the other, until the message is taken.
const MAX_REPAIRS: usize = 60;
/// A place that takes more kinds of extensions than this takes any, and looks at none.
const MANY_EXTENSIONS: usize = 40;

/// What becomes of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The model depends on it.
    Effect {
        /// Values of an enum, and extensions, that are refused all the same, and why.
        refused: BTreeMap<String, String>,
        /// What of it has no effect.
        warning: Option<String>,
    },
    /// It is taken, and a warning says why nothing comes of it.
    NoEffect(String),
    /// It is taken, nothing comes of it, and nothing says so.
    Silent,
    /// It is refused.
    Rejected(String),
    /// Nobody knows: no resource with it was taken, for a reason that lies elsewhere.
    Undecided(String),
}

/// What was found of a field in one place.
pub struct Found {
    pub verdict: Verdict,
    /// Resources with the field, to look at what is inside it: the place of its value, and the extension if it holds one.
    pub inside: Vec<(Place, Value)>,
}

/// Tries fields of one root's resources.
pub struct Probe<'a> {
    pub registry: &'a Registry,
    pub decisions: &'a Decisions,
    pub root: &'a Root,
    pub descriptor: MessageDescriptor,
    /// The extensions that are registered for a field.
    registered: &'a Registered,
}

/// The extensions that are registered for a field, by its name with those of the fields around it.
pub type Registered = RefCell<BTreeMap<String, Vec<Value>>>;

/// What came of the values of one field.
#[derive(Default)]
struct Tally {
    models: BTreeSet<u64>,
    /// There is no good resource without the field, so that the models tell only that it is not another member of its oneof.
    weak: bool,
    warning: Option<String>,
    taken: usize,
    tried: usize,
    inside: Vec<(Place, Value)>,
    refused: BTreeMap<String, String>,
    elsewhere: Option<Complaint>,
}

impl<'a> Probe<'a> {
    /// For the resources of a root.
    pub fn new(
        registry: &'a Registry,
        decisions: &'a Decisions,
        root: &'a Root,
        descriptor: MessageDescriptor,
        registered: &'a Registered,
    ) -> Self {
        Self { registry, decisions, root, descriptor, registered }
    }

    /// Tries a field of the message at `place` of a resource that is good as it stands.
    pub fn field(&self, resource: &Value, place: &Place, field: &FieldDescriptor) -> Found {
        let mut resource = resource.clone();
        if let Some(patch) = self.decisions.with.get(field.full_name()) {
            let message = place.message(&mut resource);
            let mut changed = Value::Object(std::mem::take(message));
            merge(&mut changed, patch);
            *message = changed.as_object().cloned().unwrap_or_default();
        }
        let mut tally = Tally::default();
        self.bases(&resource, place, field, &mut tally);
        let at = place.field(field.name());
        let one = self.element(&at, field);
        let unbounded = is_any(field) || matches!(field.kind(), proto::Kind::Enum(_));
        for value in self.values(&resource, place, field) {
            let label = label(&value);
            tally.tried += 1;
            let with = self.set(&resource, place, field, value);
            let (with, outcome) = self.repaired(with, &one);
            match outcome {
                Outcome::Taken(model, warnings) => {
                    tally.taken += 1;
                    tally.models.insert(model);
                    let here = |complaint: &Complaint| complaint.at == at || complaint.at == one;
                    if let Some(warning) = warnings.into_iter().find(here) {
                        tally.warning.get_or_insert(warning.text);
                    }
                    if is_any(field) || tally.inside.is_empty() {
                        tally.inside.push((one.clone(), with));
                    }
                }
                Outcome::Refused(complaint) if at.holds(&complaint.at) => {
                    let inner = complaint.at.to_string();
                    let inner = inner.strip_prefix(&at.to_string()).unwrap_or_default();
                    let text = format!("{inner} {}", complaint.text).trim().to_owned();
                    tally.refused.insert(label, text);
                }
                Outcome::Refused(complaint) => {
                    tally.elsewhere.get_or_insert(complaint);
                }
            }
            if !unbounded && tally.models.len() > 1 && tally.taken > 0 {
                break;
            }
        }
        tally.found(is_any(field), unbounded)
    }

    /// The models that a change of the field is compared with: without it, and as it stands.
    fn bases(&self, resource: &Value, place: &Place, field: &FieldDescriptor, tally: &mut Tally) {
        let at = place.field(field.name());
        let mut without = resource.clone();
        remove(place.message(&mut without), field);
        let is_set = at.get(resource).is_some();
        tally.weak = !self.base(&without, &at, false, tally);
        if is_set || tally.weak || field.containing_oneof().is_none() {
            self.base(resource, &at, is_set, tally);
        }
    }

    /// Notes the model of a resource, and the warning that it gives at `at` if it says something there.
    fn base(&self, resource: &Value, at: &Place, is_set: bool, tally: &mut Tally) -> bool {
        let Outcome::Taken(model, warnings) = self.root.outcome(self.registry, resource) else {
            return false;
        };
        tally.models.insert(model);
        let here = |complaint: &Complaint| at.holds(&complaint.at);
        if is_set && let Some(warning) = warnings.into_iter().find(here) {
            tally.warning.get_or_insert(warning.text);
        }
        true
    }

    /// Sets what a new value at `one` still lacks, as the complaints name it, until the resource is taken.
    fn repaired(&self, mut resource: Value, one: &Place) -> (Value, Outcome) {
        let mut tried: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..MAX_REPAIRS {
            let outcome = self.root.outcome(self.registry, &resource);
            let Outcome::Refused(complaint) = &outcome else { return (resource, outcome) };
            let inside = one.holds(&complaint.at) && complaint.at != *one;
            let Some((message, fields)) =
                inside.then(|| self.fields_at(&resource, &complaint.at)).flatten()
            else {
                return (resource, outcome);
            };
            let at = complaint.at.clone();
            match self.next(&mut tried, &resource, &at, message, fields, one) {
                Some(changed) => resource = changed,
                None => return (resource, outcome),
            }
        }
        let outcome = self.root.outcome(self.registry, &resource);
        (resource, outcome)
    }

    /// The resource with the next value at a place; where there is none, with the next one further out.
    fn next(
        &self,
        tried: &mut BTreeMap<String, usize>,
        resource: &Value,
        at: &Place,
        message: Place,
        fields: Vec<FieldDescriptor>,
        one: &Place,
    ) -> Option<Value> {
        let all: Vec<(FieldDescriptor, Value)> = fields
            .into_iter()
            .flat_map(|field| {
                let values = self.values(resource, &message, &field);
                values.into_iter().map(move |value| (field.clone(), value))
            })
            .collect();
        let next = tried.entry(at.to_string()).or_default();
        if let Some((field, value)) = all.get(*next) {
            *next += 1;
            return Some(self.set(resource, &message, field, value.clone()));
        }
        let mut outer = (1..at.0.len()).rev().map(|end| Place(at.0[..end].to_vec()));
        let further = outer.find(|place| {
            one.holds(place) && place != one && tried.contains_key(&place.to_string())
        })?;
        tried.retain(|place, _| {
            let place = Place::parse(place);
            place == further || !further.holds(&place)
        });
        let (message, fields) = self.fields_at(resource, &further)?;
        self.next(tried, resource, &further, message, fields, one)
    }

    /// What a field of the message at `place` is tried with; of extensions, those that are registered there.
    fn values(&self, resource: &Value, place: &Place, field: &FieldDescriptor) -> Vec<Value> {
        let all = values(field, self.decisions, self.registry);
        if !is_any(field) || self.decisions.values.contains_key(field.full_name()) {
            return all;
        }
        let one = self.element(&place.field(field.name()), field);
        let around = place.0.iter().rev().filter_map(|step| match step {
            Step::Field(name) => Some(name.as_str()),
            Step::Index(_) | Step::Key(_) => None,
        });
        let around: Vec<&str> = around.take(2).collect();
        let key = format!("{} {around:?}", field.full_name());
        if let Some(known) = self.registered.borrow().get(&key) {
            return known.clone();
        }
        let mut named = resource.clone();
        if self.message_at(resource, place).is_some_and(|m| m.get_field_by_name("name").is_some()) {
            place.message(&mut named).entry("name").or_insert(json!("a"));
        }
        let mut known = Vec::new();
        let mut elsewhere = Vec::new();
        for value in all {
            let with = self.set(&named, place, field, value.clone());
            match self.root.outcome_unchecked(self.registry, &with) {
                Outcome::Taken(..) => known.push(value),
                Outcome::Refused(complaint) if !one.holds(&complaint.at) => elsewhere.push(value),
                Outcome::Refused(complaint) if complaint.at != one => known.push(value),
                Outcome::Refused(complaint) if is_about_value(&complaint) => known.push(value),
                Outcome::Refused(_) => {}
            }
        }
        // What is wrong elsewhere with a few of them may come right; with all of them it says nothing.
        if elsewhere.len() < MANY_EXTENSIONS {
            known.extend(elsewhere);
        }
        self.registered.borrow_mut().insert(key, known.clone());
        known
    }

    /// The place of a field's value: inside the list or the map that the field may be.
    pub fn element(&self, at: &Place, field: &FieldDescriptor) -> Place {
        match (field.is_list(), field.is_map()) {
            (true, _) => at.then(Step::Index(0)),
            (_, true) => at.then(Step::Key(self.key(field).to_owned())),
            _ => at.clone(),
        }
    }

    fn key(&self, field: &FieldDescriptor) -> &str {
        self.decisions.keys.get(field.full_name()).map_or("k", String::as_str)
    }

    /// The resource with a value in a field, and without the other members of its oneof.
    fn set(&self, resource: &Value, place: &Place, field: &FieldDescriptor, value: Value) -> Value {
        let mut resource = resource.clone();
        let message = place.message(&mut resource);
        remove(message, field);
        let value = match (field.is_list(), field.is_map()) {
            (true, _) => json!([value]),
            (_, true) => json!({self.key(field): value}),
            _ => value,
        };
        message.insert(field.name().to_owned(), value);
        resource
    }

    /// The field at a place, or the members of the oneof that a complaint names there, and the place of their message.
    fn fields_at(&self, resource: &Value, at: &Place) -> Option<(Place, Vec<FieldDescriptor>)> {
        let last = at.0.iter().rposition(|step| matches!(step, Step::Field(_)))?;
        let Step::Field(name) = &at.0[last] else { return None };
        let message = Place(at.0[..last].to_vec());
        let descriptor = self.message_at(resource, &message)?;
        if let Some(field) = descriptor.get_field_by_name(name) {
            return Some((message, vec![field]));
        }
        let oneof = descriptor.oneofs().find(|oneof| oneof.name() == name)?;
        Some((message, oneof.fields().collect()))
    }

    /// The type of the message at a place.
    pub fn message_at(&self, resource: &Value, place: &Place) -> Option<MessageDescriptor> {
        let mut message = self.descriptor.clone();
        for (index, step) in place.0.iter().enumerate() {
            let Step::Field(name) = step else { continue };
            let field = message.get_field_by_name(name)?;
            message = match super::values::message_of(&field) {
                Some(inner) => inner,
                None if is_any(&field) => {
                    let end = index + 1 + usize::from(field.is_list() || field.is_map());
                    let inner = Place(place.0.get(..end)?.to_vec());
                    let url = inner.get(resource)?.get("@type")?.as_str()?;
                    self.registry.message(proto::type_url::message_name(url))?
                }
                None => return None,
            };
        }
        Some(message)
    }
}

impl Tally {
    fn found(self, any: bool, lists_values: bool) -> Found {
        let Tally { models, weak, warning, taken, tried, inside, refused, elsewhere } = self;
        let no_value = |(_, text): (String, String)| text;
        let verdict = match (taken, warning) {
            (0, _) => match (refused.into_iter().next(), elsewhere) {
                (Some(refused), _) => Verdict::Rejected(no_value(refused)),
                (None, Some(complaint)) => {
                    Verdict::Undecided(format!("{}: {}", complaint.at, complaint.text))
                }
                (None, None) if any => Verdict::Rejected("no extension is taken here".into()),
                (None, None) => Verdict::Undecided("there is no value to try it with".into()),
            },
            (_, warning) if models.len() > 1 && (!weak || warning.is_none()) => {
                let refused = if lists_values { refused } else { BTreeMap::new() };
                Verdict::Effect { refused, warning }
            }
            (_, Some(warning)) => Verdict::NoEffect(warning),
            // What must be there, and can say one thing only, has the effect that the message around it has.
            (_, None) if weak && tried <= 1 => {
                Verdict::Effect { refused: BTreeMap::new(), warning: None }
            }
            // A value that changes nothing beside others that are refused is the default.
            (_, None) => match refused.into_iter().next() {
                Some(refused) => Verdict::Rejected(no_value(refused)),
                None => Verdict::Silent,
            },
        };
        let inside = if inside.len() > MANY_EXTENSIONS { Vec::new() } else { inside };
        Found { verdict, inside }
    }
}

/// Whether a complaint at the place of an extension is about what it says, and not about that there is one.
fn is_about_value(complaint: &Complaint) -> bool {
    let of_the_extension = ["registered", "not supported", "no such extension"];
    !of_the_extension.iter().any(|text| complaint.text.contains(text))
}

/// A value as the page names it: an enum's value, an extension's type.
fn label(value: &Value) -> String {
    let named = value.as_str().or_else(|| value.get("@type")?.as_str());
    named.map_or_else(|| value.to_string(), |name| name.rsplit('/').next().unwrap_or(name).into())
}

fn remove(message: &mut Map<String, Value>, field: &FieldDescriptor) {
    message.remove(field.name());
    for other in field
        .containing_oneof()
        .into_iter()
        .flat_map(|oneof| oneof.fields().map(|field| field.name().to_owned()).collect::<Vec<_>>())
    {
        message.remove(&other);
    }
}
