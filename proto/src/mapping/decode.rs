//! A tree to a message: descriptor and tree are walked together, so that every error knows its path and place.

use std::collections::HashMap;

use prost::bytes::Bytes;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor,
    ReflectMessage, Value,
};

use super::scalar::{self, Mismatch};
use super::tree::{Data, Entries, Node, Step};
use super::{ParseError, Parsed, has_own_form, is_wrapper, wrapped_field};
use crate::apart::Apart;
use crate::{type_url, untyped};

/// Turns `root` into a message of the type `descriptor`; types inside `Any` are looked up in `pool`. The messages of the list
/// that `apart` takes are not in it.
pub(super) fn decode(
    pool: &DescriptorPool,
    descriptor: &MessageDescriptor,
    root: &Node,
    apart: Option<&mut Apart<'_>>,
) -> Result<Parsed<DynamicMessage>, ParseError> {
    let mut decoder = Decoder { pool, steps: Vec::new(), unknown: Vec::new(), apart };
    let message = decoder.message(descriptor, root)?;
    Ok(Parsed { message, unknown: decoder.unknown })
}

struct Decoder<'p, 'n, 'a> {
    pool: &'p DescriptorPool,
    /// The way from the root to the value at hand. After an error it is not used again.
    steps: Vec<Crumb<'n>>,
    unknown: Vec<ParseError>,
    apart: Option<&'p mut Apart<'a>>,
}

/// A [`Step`] that borrows its key: most are never told to anybody.
#[derive(Clone, Copy)]
enum Crumb<'n> {
    Key(&'n str),
    Index(usize),
}

impl From<Crumb<'_>> for Step {
    fn from(crumb: Crumb<'_>) -> Step {
        match crumb {
            Crumb::Key(key) => Step::Key(key.to_owned()),
            Crumb::Index(index) => Step::Index(index),
        }
    }
}

impl<'n> Decoder<'_, 'n, '_> {
    fn message(
        &mut self,
        descriptor: &MessageDescriptor,
        node: &'n Node,
    ) -> Result<DynamicMessage, ParseError> {
        let name = descriptor.full_name();
        if name == "google.protobuf.Any" {
            return self.any(descriptor, node);
        }
        let mut message = DynamicMessage::new(descriptor.clone());
        if is_wrapper(name) {
            let field = wrapped_field(descriptor);
            if let Some(value) = self.scalar(&field.kind(), node)? {
                message.set_field(&field, value);
            }
            return Ok(message);
        }
        if has_own_form(name) && name != "google.protobuf.Empty" {
            let json = serde_json::Value::from(node);
            let expected = || self.expected(node, own_form(name));
            return DynamicMessage::deserialize(descriptor.clone(), json).map_err(|_| expected());
        }
        let Data::Map(entries) = &node.data else {
            return Err(self.expected(node, &format!("an object ({name})")));
        };
        self.fields(&mut message, entries.iter())?;
        Ok(message)
    }

    fn fields(
        &mut self,
        message: &mut DynamicMessage,
        entries: impl Iterator<Item = (&'n str, &'n Node)>,
    ) -> Result<(), ParseError> {
        let descriptor = message.descriptor();
        let mut seen: Vec<Place<'_>> = Vec::new();
        for (key, node) in entries {
            self.steps.push(Crumb::Key(key));
            match find_field(&descriptor, key) {
                None => self.unknown(node, format!("{} has no such field", descriptor.full_name())),
                Some(field) => {
                    if let Some(value) = self.field(&field, node)? {
                        let place = Place::new(&field, key);
                        if let Some(other) = seen.iter().find(|other| other.excludes(&place)) {
                            let problem = format!("cannot be given beside {:?}", other.key);
                            return Err(self.fail(node, problem));
                        }
                        seen.push(place);
                        message.set_field(&field, value);
                    }
                }
            }
            self.steps.pop();
        }
        Ok(())
    }

    /// The value of a field; `None` leaves it unset.
    fn field(
        &mut self,
        field: &FieldDescriptor,
        node: &'n Node,
    ) -> Result<Option<Value>, ParseError> {
        if field.is_map() {
            return self.map(field, node);
        }
        if field.is_list() {
            return self.list(&field.kind(), node);
        }
        self.value(&field.kind(), node)
    }

    fn list(&mut self, kind: &Kind, node: &'n Node) -> Result<Option<Value>, ParseError> {
        let items = match &node.data {
            Data::Null => return Ok(None),
            Data::List(items) => items,
            _ => return Err(self.expected(node, "a list")),
        };
        let is_apart = self.is_apart();
        let mut values = Vec::with_capacity(if is_apart { 0 } else { items.len() });
        for (index, item) in items.iter().enumerate() {
            self.steps.push(Crumb::Index(index));
            if matches!(item.data, Data::Null) && !takes_null(kind) {
                return Err(self.fail(item, "null cannot be an item of this list"));
            }
            match (self.value(kind, item)?, &mut self.apart) {
                (Some(Value::Message(message)), Some(apart)) if is_apart => apart.take(&message),
                (value, _) => values.extend(value),
            }
            self.steps.pop();
        }
        Ok(Some(Value::List(values)))
    }

    /// Whether the value at hand is the list whose messages are taken apart.
    fn is_apart(&self) -> bool {
        let is =
            |(crumb, name): (&Crumb<'_>, &&str)| matches!(crumb, Crumb::Key(key) if key == name);
        self.apart.as_ref().is_some_and(|apart| {
            apart.path().len() == self.steps.len() && self.steps.iter().zip(apart.path()).all(is)
        })
    }

    fn map(
        &mut self,
        field: &FieldDescriptor,
        node: &'n Node,
    ) -> Result<Option<Value>, ParseError> {
        let kind = field.kind();
        let Some(entry) = kind.as_message() else {
            return Ok(None);
        };
        let entries = match &node.data {
            Data::Null => return Ok(None),
            Data::Map(entries) => entries,
            _ => return Err(self.expected(node, "an object")),
        };
        let (key_kind, value_kind) =
            (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let mut values = HashMap::with_capacity(entries.len());
        for (key, node) in entries.iter() {
            self.steps.push(Crumb::Key(key));
            let map_key = scalar::read_key(&key_kind, key)
                .map_err(|mismatch| self.mismatch(node, mismatch))?;
            if let Some(value) = self.value(&value_kind, node)? {
                values.insert(map_key, value);
            }
            self.steps.pop();
        }
        Ok(Some(Value::Map(values)))
    }

    /// One value that is neither list nor map; `None` for null and for an enum value that the enum does not define.
    fn value(&mut self, kind: &Kind, node: &'n Node) -> Result<Option<Value>, ParseError> {
        if matches!(node.data, Data::Null) && !takes_null(kind) {
            return Ok(None);
        }
        match kind {
            Kind::Message(descriptor) => {
                self.message(descriptor, node).map(|message| Some(Value::Message(message)))
            }
            scalar => self.scalar(scalar, node),
        }
    }

    fn scalar(&mut self, kind: &Kind, node: &Node) -> Result<Option<Value>, ParseError> {
        match scalar::read(kind, node) {
            Ok(value) => Ok(Some(value)),
            Err(Mismatch::UnknownEnumValue(problem)) => {
                self.unknown(node, problem);
                Ok(None)
            }
            Err(mismatch) => Err(self.mismatch(node, mismatch)),
        }
    }

    fn any(
        &mut self,
        descriptor: &MessageDescriptor,
        node: &'n Node,
    ) -> Result<DynamicMessage, ParseError> {
        let Data::Map(entries) = &node.data else {
            return Err(self.expected(node, "an object with \"@type\""));
        };
        let mut any = DynamicMessage::new(descriptor.clone());
        if entries.is_empty() {
            return Ok(any);
        }
        let (url, inner) = self.any_type(node, entries)?;
        let content = if has_own_form(inner.full_name()) {
            self.any_value(&inner, node, entries)?
        } else {
            let mut content = DynamicMessage::new(inner);
            self.fields(&mut content, entries.iter().filter(|(key, _)| *key != "@type"))?;
            content
        };
        any.set_field_by_name("type_url", Value::String(url));
        any.set_field_by_name("value", Value::Bytes(Bytes::from(untyped::encode(&content))));
        Ok(any)
    }

    /// The type URL of an `Any` and the message it names.
    fn any_type(
        &mut self,
        node: &Node,
        entries: &'n Entries,
    ) -> Result<(String, MessageDescriptor), ParseError> {
        let Some(given) = entries.get("@type") else {
            return Err(self.fail(node, "\"@type\" is missing"));
        };
        self.steps.push(Crumb::Key("@type"));
        let Data::String(url) = &given.data else {
            return Err(self.expected(given, "a type URL"));
        };
        let known = self.pool.get_message_by_name(type_url::message_name(url));
        let Some(known) = known.filter(|_| url.contains('/')) else {
            return Err(self.fail(given, format!("the type {url:?} is not known")));
        };
        self.steps.pop();
        Ok((url.clone(), known))
    }

    /// The content of an `Any` whose type has a JSON form of its own, which stands under `value`.
    fn any_value(
        &mut self,
        descriptor: &MessageDescriptor,
        node: &Node,
        entries: &'n Entries,
    ) -> Result<DynamicMessage, ParseError> {
        for (key, other) in entries.iter().filter(|(key, _)| !matches!(*key, "@type" | "value")) {
            self.steps.push(Crumb::Key(key));
            self.unknown(other, format!("{} has \"value\" only", descriptor.full_name()));
            self.steps.pop();
        }
        let Some(value) = entries.get("value") else {
            return Err(self.fail(node, "\"value\" is missing"));
        };
        self.steps.push(Crumb::Key("value"));
        let message = self.message(descriptor, value)?;
        self.steps.pop();
        Ok(message)
    }

    fn unknown(&mut self, node: &Node, problem: String) {
        let unknown = self.fail(node, problem);
        self.unknown.push(unknown);
    }

    fn mismatch(&self, node: &Node, mismatch: Mismatch) -> ParseError {
        match mismatch {
            Mismatch::Expected(what) => self.expected(node, &what),
            Mismatch::UnknownEnumValue(problem) => self.fail(node, problem),
        }
    }

    fn expected(&self, node: &Node, what: &str) -> ParseError {
        self.fail(node, format!("{what} is expected here, not {}", node.describe()))
    }

    fn fail(&self, node: &Node, problem: impl Into<String>) -> ParseError {
        let steps = self.steps.iter().copied().map(Step::from).collect();
        ParseError { steps, position: node.position, problem: problem.into() }
    }
}

/// A field by the name of the proto file or by its JSON name.
fn find_field(descriptor: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    let by_name = descriptor.get_field_by_name(key);
    by_name.or_else(|| descriptor.get_field_by_json_name(key))
}

/// A field that is given, and the spelling it is given under.
struct Place<'n> {
    number: u32,
    oneof: Option<OneofDescriptor>,
    key: &'n str,
}

impl<'n> Place<'n> {
    fn new(field: &FieldDescriptor, key: &'n str) -> Self {
        let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        Place { number: field.number(), oneof, key }
    }

    /// Whether two fields cannot both be given: they are one field under two spellings, or members of one oneof.
    fn excludes(&self, other: &Place<'_>) -> bool {
        self.number == other.number || (self.oneof.is_some() && self.oneof == other.oneof)
    }
}

/// Whether null is a value of its own here and not the absence of one.
fn takes_null(kind: &Kind) -> bool {
    match kind {
        Kind::Message(descriptor) => descriptor.full_name() == "google.protobuf.Value",
        Kind::Enum(descriptor) => descriptor.full_name() == "google.protobuf.NullValue",
        _ => false,
    }
}

/// What JSON writes for a well-known message, in words.
fn own_form(full_name: &str) -> &'static str {
    match full_name.strip_prefix("google.protobuf.") {
        Some("Duration") => "a duration in seconds, such as \"0.25s\",",
        Some("Timestamp") => "a time, such as \"2026-01-31T12:00:00Z\",",
        Some("FieldMask") => "a string of field paths",
        Some("ListValue") => "a list",
        _ => "an object",
    }
}
