//! The walk over everything that a control plane may send: every field of every message that Pillion looks into.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::thread;

use proto::{FieldDescriptor, MessageDescriptor, Registry};
use serde_json::Value;

use super::decisions::Decisions;
use super::place::Place;
use super::probe::{Found, Probe, Registered, Verdict};
use super::roots::{Outcome, Root, roots};
use super::values::{is_any, message_of};

/// Where a message stands, without indices and names: the field that holds it; empty for a resource.
pub type Edge = String;

/// Everything that was found: by message, then by field, then by where the message stands.
#[derive(Default)]
pub struct Findings {
    /// Fields by their numbers, by message.
    pub messages: BTreeMap<String, BTreeMap<u32, FieldFindings>>,
    /// The extensions that are taken, by the field that takes them.
    pub extensions: BTreeMap<String, BTreeSet<String>>,
}

/// One field in all places.
pub struct FieldFindings {
    /// Its name.
    pub name: String,
    /// Its name with that of its message.
    pub full_name: String,
    /// What becomes of it.
    pub verdicts: BTreeMap<Edge, Verdict>,
    /// Where the messages inside it stand, by where it stands.
    children: BTreeMap<Edge, BTreeSet<Edge>>,
}

struct Visit {
    edge: Edge,
    message: MessageDescriptor,
    place: Place,
    resource: Value,
    /// It stands so in a sample.
    written: bool,
}

/// Walks all roots, each on a thread of its own.
pub fn walk(registry: &Registry, decisions: &Decisions) -> Result<Findings, String> {
    let roots = roots();
    let names: BTreeSet<String> = roots.iter().map(|root| root.message.clone()).collect();
    let found: Vec<Result<Findings, String>> = thread::scope(|scope| {
        let walks: Vec<_> = roots
            .iter()
            .map(|root| scope.spawn(|| walk_root(registry, decisions, root, &names)))
            .collect();
        let lost = || Err("a walk has panicked".to_owned());
        walks.into_iter().map(|walk| walk.join().unwrap_or_else(|_| lost())).collect()
    });
    let mut findings = Findings::default();
    for found in found {
        findings.merge(found?);
    }
    findings.prune();
    findings.lift();
    Ok(findings)
}

fn walk_root(
    registry: &Registry,
    decisions: &Decisions,
    root: &Root,
    roots: &BTreeSet<String>,
) -> Result<Findings, String> {
    let descriptor = registry.message(&root.message).ok_or("a root is no message")?;
    let registered = Registered::default();
    let probe = Probe::new(registry, decisions, root, descriptor.clone(), &registered);
    let mut findings = Findings::default();
    // What stands in a sample is looked at in each; what the probe makes, once.
    let mut seen = BTreeSet::new();
    for sample in decisions.samples.get(&root.message).into_iter().flatten() {
        if let Outcome::Refused(complaint) = root.outcome(registry, sample) {
            let name = &root.message;
            return Err(format!("a sample of {name}: {}: {}", complaint.at, complaint.text));
        }
        let mut queue = VecDeque::from([Visit {
            edge: Edge::new(),
            message: descriptor.clone(),
            place: Place::default(),
            resource: sample.clone(),
            written: true,
        }]);
        while let Some(visit) = queue.pop_front() {
            queue.extend(look(&probe, &visit, roots, &mut seen, &mut findings));
        }
    }
    Ok(findings)
}

/// Looks at all fields of a message; returns what is to be looked at inside them.
fn look(
    probe: &Probe<'_>,
    visit: &Visit,
    roots: &BTreeSet<String>,
    seen: &mut BTreeSet<String>,
    findings: &mut Findings,
) -> Vec<Visit> {
    let mut further = Vec::new();
    for field in visit.message.fields() {
        let Found { verdict, inside } = probe.field(&visit.resource, &visit.place, &field);
        let enters = matches!(verdict, Verdict::Effect { .. } | Verdict::Silent);
        let edge = inner_edge(visit, &field);
        let mut children = BTreeSet::new();
        let written = as_it_stands(probe, visit, &field).map(|inside| (inside, visit.written));
        let made = inside.into_iter().map(|inside| (inside, false));
        for ((place, resource), written) in written.into_iter().chain(made).filter(|_| enters) {
            let Some(message) = probe.message_at(&resource, &place) else { continue };
            if is_any(&field) {
                let taken = findings.extensions.entry(edge.clone()).or_default();
                taken.insert(message.full_name().to_owned());
            } else if message_of(&field).is_none() || roots.contains(message.full_name()) {
                continue;
            }
            children.insert(edge.clone());
            if seen.insert(format!("{edge} {}", message.full_name())) || written {
                further.push(Visit { edge: edge.clone(), message, place, resource, written });
            }
        }
        findings.note(visit, &field, verdict, children);
    }
    further
}

/// The resource as it is, where the field is set in it: a sample may say more than a value of the probe's.
fn as_it_stands(
    probe: &Probe<'_>,
    visit: &Visit,
    field: &FieldDescriptor,
) -> Option<(Place, Value)> {
    let at = visit.place.field(field.name());
    let set = at.get(&visit.resource)?;
    let one = match (set.as_array(), field.is_map()) {
        (Some(_), _) => probe.element(&at, field),
        (_, true) => at.then(super::place::Step::Key(set.as_object()?.keys().next()?.clone())),
        _ => at,
    };
    one.get(&visit.resource)?;
    Some((one, visit.resource.clone()))
}

/// What stands in a field that any kind of extension has is told apart by where the extension stands.
fn inner_edge(visit: &Visit, field: &FieldDescriptor) -> Edge {
    match visit.message.name() {
        "TypedExtensionConfig" | "TransportSocket" => format!("{} > {}", visit.edge, field.name()),
        _ => field.full_name().to_owned(),
    }
}

impl Findings {
    fn note(
        &mut self,
        visit: &Visit,
        field: &FieldDescriptor,
        verdict: Verdict,
        children: BTreeSet<Edge>,
    ) {
        let fields = self.messages.entry(visit.message.full_name().to_owned()).or_default();
        let found = fields.entry(field.number()).or_insert_with(|| FieldFindings {
            name: field.name().to_owned(),
            full_name: field.full_name().to_owned(),
            verdicts: BTreeMap::new(),
            children: BTreeMap::new(),
        });
        found.children.entry(visit.edge.clone()).or_default().extend(children);
        found.take(visit.edge.clone(), verdict);
    }

    /// Takes in what another sample has shown.
    fn merge(&mut self, other: Findings) {
        for (place, extensions) in other.extensions {
            self.extensions.entry(place).or_default().extend(extensions);
        }
        for (message, fields) in other.messages {
            let known = self.messages.entry(message).or_default();
            for (number, field) in fields {
                match known.get_mut(&number) {
                    Some(known) => known.merge(field),
                    None => {
                        known.insert(number, field);
                    }
                }
            }
        }
    }

    /// Drops what stands inside fields that are refused, or without effect, after all.
    fn prune(&mut self) {
        let mut reached = BTreeSet::from([Edge::new()]);
        loop {
            let known = reached.len();
            for field in self.messages.values().flat_map(BTreeMap::values) {
                for (edge, verdict) in &field.verdicts {
                    let enters = matches!(verdict, Verdict::Effect { .. } | Verdict::Silent);
                    if enters && reached.contains(edge) {
                        reached.extend(field.children.get(edge).into_iter().flatten().cloned());
                    }
                }
            }
            if reached.len() == known {
                break;
            }
        }
        for fields in self.messages.values_mut() {
            for field in fields.values_mut() {
                field.verdicts.retain(|edge, _| reached.contains(edge));
            }
            fields.retain(|_, field| !field.verdicts.is_empty());
        }
        self.messages.retain(|_, fields| !fields.is_empty());
        self.extensions.retain(|edge, _| reached.contains(edge));
    }

    /// A field that changes nothing by itself has an effect where something inside it has one.
    fn lift(&mut self) {
        loop {
            let mut with_effect: BTreeSet<Edge> = BTreeSet::new();
            for field in self.messages.values().flat_map(BTreeMap::values) {
                let effects =
                    field.verdicts.iter().filter(|(_, v)| matches!(v, Verdict::Effect { .. }));
                with_effect.extend(effects.map(|(edge, _)| edge.clone()));
            }
            let mut lifted = false;
            for field in self.messages.values_mut().flat_map(BTreeMap::values_mut) {
                for (edge, verdict) in &mut field.verdicts {
                    let children = field.children.get(edge).into_iter().flatten();
                    let has_effect = children.into_iter().any(|child| with_effect.contains(child));
                    if has_effect && *verdict == Verdict::Silent {
                        *verdict = Verdict::Effect { refused: BTreeMap::new(), warning: None };
                        lifted = true;
                    }
                }
            }
            if !lifted {
                return;
            }
        }
    }
}

impl FieldFindings {
    fn take(&mut self, edge: Edge, verdict: Verdict) {
        match self.verdicts.get_mut(&edge) {
            Some(known) if rank(known) >= rank(&verdict) => {}
            Some(known) => *known = verdict,
            None => {
                self.verdicts.insert(edge, verdict);
            }
        }
    }

    fn merge(&mut self, other: FieldFindings) {
        for (edge, verdict) in other.verdicts {
            self.take(edge, verdict);
        }
        for (edge, children) in other.children {
            self.children.entry(edge).or_default().extend(children);
        }
    }
}

/// Which of two findings at one place counts: a field may matter only beside something else.
fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Undecided(_) => 0,
        Verdict::Silent => 1,
        Verdict::Rejected(_) => 2,
        Verdict::NoEffect(_) => 3,
        Verdict::Effect { .. } => 4,
    }
}
