//! The rules of protoc-gen-validate (PGV) that Envoy's API carries in its options (`validate.rules`), checked by reflection.

mod rules;

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MapKey,
    MessageDescriptor, OneofDescriptor, ReflectMessage, Value,
};

use crate::mapping::has_own_form;
use crate::packed::{Content, Packed};
use crate::registry::Registry;
use crate::untyped::Untyped;
use crate::validate::{FieldRules, field_rules::Type};

/// How many violations are collected before the rest is dropped: enough to help, and no more than a NACK can carry.
const MAX_VIOLATIONS: usize = 20;

/// A value that breaks a rule of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The value's path in proto field names, such as `endpoints[0].lb_endpoints[1].load_balancing_weight`.
    pub path: String,
    /// The rule, in PGV's words, and the value.
    pub rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.rule);
        }
        write!(f, "{}: {}", self.path, self.rule)
    }
}

impl Registry {
    /// Checks every value in `message` against the rules of the API, also inside `Any` where the type is known.
    ///
    /// At most the first 20 violations are returned. Envoy reports the first only.
    pub fn validate<T: Message + Name>(&self, message: &T) -> Result<(), Vec<Violation>> {
        let dynamic = self.dynamic(message).map_err(|error| {
            let path = String::new();
            vec![Violation { path, rule: error.to_string() }]
        })?;
        self.validate_dynamic(&dynamic)
    }

    /// [`Registry::validate`] for a message without its Rust type.
    pub fn validate_untyped(&self, message: &Untyped) -> Result<(), Vec<Violation>> {
        self.validate_dynamic(&message.0)
    }

    fn validate_dynamic(&self, message: &DynamicMessage) -> Result<(), Vec<Violation>> {
        let mut validator = Validator::new(self.pool());
        validator.message(message);
        validator.finish()
    }
}

/// What the options of one message type demand.
struct Demands {
    required_oneofs: Vec<OneofDescriptor>,
    /// Fields that have rules or hold messages, which may have some.
    fields: Vec<(FieldDescriptor, Kind, Option<FieldRules>)>,
}

/// A step from a value to one inside it.
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a Value),
}

/// Checks one message after the other.
pub(crate) struct Validator<'p> {
    pool: &'p DescriptorPool,
    options: Options,
    demands: HashMap<String, Rc<Demands>>,
    checker: rules::Checker,
    path: String,
    /// How many messages lie around the value at hand.
    depth: usize,
    violations: Vec<Violation>,
}

/// The options that PGV defines.
struct Options {
    rules: ExtensionDescriptor,
    required: ExtensionDescriptor,
    disabled: ExtensionDescriptor,
}

impl<'p> Validator<'p> {
    pub(crate) fn new(pool: &'p DescriptorPool) -> Self {
        let option = |name| {
            pool.get_extension_by_name(name).expect("the API's descriptors include validate.proto")
        };
        Validator {
            pool,
            options: Options {
                rules: option("validate.rules"),
                required: option("validate.required"),
                disabled: option("validate.disabled"),
            },
            demands: HashMap::new(),
            checker: rules::Checker::default(),
            path: String::new(),
            depth: 0,
            violations: Vec::new(),
        }
    }

    /// Checks a message that is at `path`.
    pub(crate) fn validate_at(&mut self, path: &str, message: &DynamicMessage) {
        self.path.push_str(path);
        self.message(message);
        self.path.clear();
    }

    /// What was found.
    pub(crate) fn finish(self) -> Result<(), Vec<Violation>> {
        if self.violations.is_empty() { Ok(()) } else { Err(self.violations) }
    }

    fn message(&mut self, message: &DynamicMessage) {
        self.depth += 1;
        match message.descriptor().full_name() {
            "google.protobuf.Any" => self.any(message),
            name if has_own_form(name) => {}
            _ => self.fields(message),
        }
        self.depth -= 1;
    }

    fn fields(&mut self, message: &DynamicMessage) {
        let demands = self.demands(&message.descriptor());
        for oneof in &demands.required_oneofs {
            if !oneof.fields().any(|field| message.has_field(&field)) {
                self.within(Step::Field(oneof.name()), |this| this.violation("value is required"));
            }
        }
        for (field, kind, rules) in &demands.fields {
            // What is not set can only break a rule.
            if rules.is_some() || message.has_field(field) {
                self.within(Step::Field(field.name()), |this| {
                    this.field(message, field, kind, rules.as_ref())
                });
            }
        }
    }

    fn field(
        &mut self,
        message: &DynamicMessage,
        field: &FieldDescriptor,
        kind: &Kind,
        rules: Option<&FieldRules>,
    ) {
        if field.supports_presence() && !message.has_field(field) {
            // A required member of a oneof is required only when it is the one that is set.
            if rules.is_some_and(is_required)
                && field.containing_oneof().is_none_or(|oneof| oneof.is_synthetic())
            {
                self.violation("value is required");
            }
            return;
        }
        match (message.get_field(field).as_ref(), rules.and_then(|rules| rules.r#type.as_ref())) {
            (Value::List(items), Some(Type::Repeated(demanded))) => {
                self.report(rules::broken_by_list(demanded, items));
                self.list(kind, items, demanded.items.as_deref());
            }
            (Value::List(items), _) => self.list(kind, items, None),
            (Value::Map(entries), Some(Type::Map(demanded))) => {
                self.report(rules::broken_by_map(demanded, entries));
                self.map(kind, entries, demanded.keys.as_deref(), demanded.values.as_deref());
            }
            (Value::Map(entries), _) => self.map(kind, entries, None, None),
            (value, _) => self.value(kind, value, rules),
        }
    }

    fn list(&mut self, kind: &Kind, items: &[Value], rules: Option<&FieldRules>) {
        for (index, item) in items.iter().enumerate() {
            self.within(Step::Index(index), |this| this.value(kind, item, rules));
        }
    }

    fn map(
        &mut self,
        kind: &Kind,
        entries: &HashMap<MapKey, Value>,
        key_rules: Option<&FieldRules>,
        value_rules: Option<&FieldRules>,
    ) {
        let Some(entry) = kind.as_message() else {
            return;
        };
        let (key_kind, value_kind) =
            (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        for (key, value) in entries {
            let key = Value::from(key.clone());
            self.within(Step::Key(&key), |this| {
                this.value(&key_kind, &key, key_rules);
                this.value(&value_kind, value, value_rules);
            });
        }
    }

    /// A value that is set and is neither list nor map.
    fn value(&mut self, kind: &Kind, value: &Value, rules: Option<&FieldRules>) {
        if let Some(demanded) = rules.and_then(|rules| rules.r#type.as_ref()) {
            let broken = self.checker.broken(demanded, kind, value);
            self.report(broken);
        }
        let skipped =
            rules.and_then(|rules| rules.message.as_ref()).is_some_and(|rules| rules.skip());
        if let (Value::Message(message), false) = (value, skipped) {
            self.message(message);
        }
    }

    /// The content of an `Any`. A type that is not known here has no rules; whether it can be used is for the reader to say.
    fn any(&mut self, any: &DynamicMessage) {
        match Packed::of(any).open(self.pool, self.depth) {
            Content::Known(message) => self.message(&message),
            Content::UnknownType => {}
            Content::Refused(reason) => self.violation(reason),
        }
    }

    /// The demands of a message type, read from its options once.
    fn demands(&mut self, descriptor: &MessageDescriptor) -> Rc<Demands> {
        if let Some(known) = self.demands.get(descriptor.full_name()) {
            return known.clone();
        }
        let demands = Rc::new(self.options.demands(descriptor));
        self.demands.insert(descriptor.full_name().to_owned(), demands.clone());
        demands
    }

    fn within(&mut self, step: Step<'_>, check: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        match step {
            Step::Field(name) => {
                if length > 0 {
                    self.path.push('.');
                }
                self.path.push_str(name);
            }
            Step::Index(index) => self.path.push_str(&format!("[{index}]")),
            Step::Key(key) => self.path.push_str(&format!("[{key}]")),
        }
        check(self);
        self.path.truncate(length);
    }

    fn report(&mut self, broken: Option<String>) {
        if let Some(rule) = broken {
            self.violation(rule);
        }
    }

    fn violation(&mut self, rule: impl Into<String>) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation { path: self.path.clone(), rule: rule.into() });
        }
    }
}

impl Options {
    fn demands(&self, descriptor: &MessageDescriptor) -> Demands {
        let disabled = descriptor.options().get_extension(&self.disabled).as_bool() == Some(true);
        if disabled {
            return Demands { required_oneofs: Vec::new(), fields: Vec::new() };
        }
        let is_required = |oneof: &OneofDescriptor| {
            oneof.options().get_extension(&self.required).as_bool() == Some(true)
        };
        let fields = descriptor.fields().map(|field| {
            let (kind, rules) = (field.kind(), self.rules_of(&field));
            (field, kind, rules)
        });
        Demands {
            required_oneofs: descriptor.oneofs().filter(is_required).collect(),
            fields: fields
                .filter(|(_, kind, rules)| rules.is_some() || matches!(kind, Kind::Message(_)))
                .collect(),
        }
    }

    fn rules_of(&self, field: &FieldDescriptor) -> Option<FieldRules> {
        let options = field.options();
        if !options.has_extension(&self.rules) {
            return None;
        }
        options.get_extension(&self.rules).as_message()?.transcode_to().ok()
    }
}

/// Whether a message field must be set.
fn is_required(rules: &FieldRules) -> bool {
    let of_type = match &rules.r#type {
        Some(Type::Any(rules)) => rules.required(),
        Some(Type::Duration(rules)) => rules.required(),
        Some(Type::Timestamp(rules)) => rules.required(),
        _ => false,
    };
    of_type || rules.message.as_ref().is_some_and(|rules| rules.required())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Adds the names of all fields that are set in `rules`, such as `uint32.lte`.
    fn collect(prefix: &str, rules: &DynamicMessage, names: &mut BTreeSet<String>) {
        for (field, value) in rules.fields() {
            let name = format!("{prefix}{}", field.name());
            match value {
                Value::Message(inner) if matches!(field.name(), "items" | "keys" | "values") => {
                    collect("", inner, names)
                }
                Value::Message(inner) if inner.descriptor().package_name() == "validate" => {
                    collect(&format!("{name}."), inner, names);
                }
                _ => {
                    names.insert(name);
                }
            }
        }
    }

    #[test]
    fn every_rule_that_the_api_uses_is_checked() {
        let registry = Registry::load();
        let rules = registry.pool().get_extension_by_name("validate.rules").unwrap();
        let mut used = BTreeSet::new();
        for message in registry.pool().all_messages() {
            for field in message.fields().filter(|field| field.options().has_extension(&rules)) {
                collect("", field.options().get_extension(&rules).as_message().unwrap(), &mut used);
            }
        }
        let checked = |name: &String| {
            let (kind, rule) = name.split_once('.').unwrap();
            match kind {
                "message" => matches!(rule, "required" | "skip"),
                "string" => rules::STRING_RULES.contains(&rule),
                "bytes" => matches!(rule, "min_len" | "max_len"),
                "enum" => matches!(rule, "const" | "defined_only" | "in" | "not_in"),
                "repeated" => matches!(rule, "min_items" | "max_items" | "unique" | "ignore_empty"),
                "map" => matches!(rule, "min_pairs" | "max_pairs" | "ignore_empty"),
                "any" => matches!(rule, "required" | "in" | "not_in"),
                "timestamp" => rule == "required",
                "bool" => rule == "const",
                // Numbers and durations: all that PGV has.
                _ => true,
            }
        };
        let missing: Vec<_> = used.iter().filter(|name| !checked(name)).collect();
        assert!(used.len() > 30, "{used:?}");
        assert!(missing.is_empty(), "{missing:?}");
    }
}
