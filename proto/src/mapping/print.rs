//! A message to JSON, as `/config_dump` prints it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MapKey,
    MessageDescriptor, ReflectMessage, Value,
};
use serde_json::{Map, Value as Json};

use super::{has_own_form, is_wrapper};
use crate::convert::{number_to_json, struct_to_json, value_to_json};
use crate::google::protobuf;
use crate::type_url;

/// What stands for a secret.
const REDACTED: &str = "[redacted]";
/// How deep messages inside `Any` are opened; what lies deeper is printed as bytes, so that no sender can exhaust the stack.
const MAX_ANY_DEPTH: usize = 32;

/// How JSON names fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldNames {
    /// As the proto file does (`connect_timeout`), like Envoy's admin interface.
    #[default]
    Proto,
    /// In protobuf's JSON form (`connectTimeout`).
    Json,
}

/// Prints messages. Fields with their default value are left out; fields marked `udpa.annotations.sensitive` are redacted.
pub(crate) struct Printer<'p> {
    pool: &'p DescriptorPool,
    sensitive: Option<ExtensionDescriptor>,
    names: FieldNames,
    any_depth: usize,
}

impl<'p> Printer<'p> {
    pub(crate) fn new(pool: &'p DescriptorPool, names: FieldNames) -> Self {
        Printer {
            pool,
            sensitive: pool.get_extension_by_name("udpa.annotations.sensitive"),
            names,
            any_depth: 0,
        }
    }

    /// The message in its JSON form. `secret` says that everything in it is to be redacted.
    pub(crate) fn message(&mut self, message: &DynamicMessage, secret: bool) -> Json {
        let descriptor = message.descriptor();
        let name = descriptor.full_name();
        if is_wrapper(name) {
            let value = message.get_field_by_number(1);
            let kind = descriptor.get_field(1).map(|field| field.kind());
            return kind
                .zip(value)
                .map_or(Json::Null, |(kind, value)| self.value(&kind, &value, secret));
        }
        match name.strip_prefix("google.protobuf.") {
            Some("Any") => self.any(message, secret),
            Some("Struct" | "ListValue" | "Value") if secret => REDACTED.into(),
            Some("Struct") => {
                convert(message, |value: protobuf::Struct| Json::Object(struct_to_json(&value)))
            }
            Some("Value") => convert(message, |value: protobuf::Value| value_to_json(&value)),
            Some("ListValue") => convert(message, |list: protobuf::ListValue| {
                list.values.iter().map(value_to_json).collect()
            }),
            // A duration or time out of range has no JSON form: its fields say what it is.
            Some("Duration" | "Timestamp" | "FieldMask") => serde_json::to_value(message)
                .unwrap_or_else(|_| Json::Object(self.fields(message, secret))),
            _ => Json::Object(self.fields(message, secret)),
        }
    }

    fn fields(&mut self, message: &DynamicMessage, secret: bool) -> Map<String, Json> {
        let mut object = Map::new();
        for (field, value) in message.fields() {
            let secret = secret || self.is_sensitive(&field);
            if secret && !can_be_redacted(&field.kind()) {
                continue;
            }
            let name = match self.names {
                FieldNames::Proto => field.name(),
                FieldNames::Json => field.json_name(),
            };
            object.insert(name.to_owned(), self.field(&field, value, secret));
        }
        object
    }

    fn field(&mut self, field: &FieldDescriptor, value: &Value, secret: bool) -> Json {
        let kind = field.kind();
        match (value, kind.as_message()) {
            (Value::Map(entries), Some(entry)) => {
                let kind = entry.map_entry_value_field().kind();
                let entries = entries.iter();
                entries
                    .map(|(key, value)| (key_text(key), self.value(&kind, value, secret)))
                    .collect()
            }
            (Value::List(values), _) => {
                values.iter().map(|value| self.value(&kind, value, secret)).collect()
            }
            _ => self.value(&kind, value, secret),
        }
    }

    fn value(&mut self, kind: &Kind, value: &Value, secret: bool) -> Json {
        match value {
            Value::Message(message) => self.message(message, secret),
            Value::Bytes(_) if secret => BASE64_STANDARD.encode(REDACTED).into(),
            _ if secret => REDACTED.into(),
            Value::Bool(flag) => (*flag).into(),
            Value::I32(number) => (*number).into(),
            Value::U32(number) => (*number).into(),
            Value::I64(number) => number.to_string().into(),
            Value::U64(number) => number.to_string().into(),
            // The shortest decimal of the single precision, not the double next to it.
            Value::F32(number) => float(number.to_string().parse().unwrap_or(f64::from(*number))),
            Value::F64(number) => float(*number),
            Value::String(text) => text.clone().into(),
            Value::Bytes(bytes) => BASE64_STANDARD.encode(bytes).into(),
            Value::EnumNumber(number) => enumeration(kind, *number),
            // `field` takes lists and maps apart.
            Value::List(_) | Value::Map(_) => Json::Null,
        }
    }

    fn any(&mut self, any: &DynamicMessage, secret: bool) -> Json {
        let (url, bytes) = (any.get_field_by_number(1), any.get_field_by_number(2));
        let url = url.as_deref().and_then(Value::as_str).unwrap_or_default();
        let bytes = bytes.as_deref().and_then(Value::as_bytes).map_or(&[][..], |bytes| bytes);
        if url.is_empty() && bytes.is_empty() {
            return Json::Object(Map::new());
        }
        let opened = self.pool.get_message_by_name(type_url::message_name(url));
        let opened = opened.filter(|_| self.any_depth < MAX_ANY_DEPTH);
        let content = opened.and_then(|descriptor| self.any_content(&descriptor, bytes, secret));
        let mut object = content.unwrap_or_else(|| {
            let text = if secret { REDACTED.into() } else { BASE64_STANDARD.encode(bytes) };
            Map::from_iter([("value".into(), text.into())])
        });
        object.insert("@type".into(), url.into());
        Json::Object(object)
    }

    /// The fields of the message in an `Any`, or its own JSON form under `value`; `None` when the bytes are no such message.
    fn any_content(
        &mut self,
        descriptor: &MessageDescriptor,
        bytes: &[u8],
        secret: bool,
    ) -> Option<Map<String, Json>> {
        let message = DynamicMessage::decode(descriptor.clone(), bytes).ok()?;
        self.any_depth += 1;
        let printed = self.message(&message, secret);
        self.any_depth -= 1;
        match printed {
            Json::Object(fields) if !has_own_form(descriptor.full_name()) => Some(fields),
            own_form => Some(Map::from_iter([("value".into(), own_form)])),
        }
    }

    fn is_sensitive(&self, field: &FieldDescriptor) -> bool {
        let Some(extension) = &self.sensitive else {
            return false;
        };
        // Most fields have no options, which makes this cheap.
        field.field_descriptor_proto().options.is_some()
            && field.options().get_extension(extension).as_bool() == Some(true)
    }
}

/// Whether a secret of this kind can be told apart from its replacement; numbers are left out instead, as in Envoy.
fn can_be_redacted(kind: &Kind) -> bool {
    matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_))
}

/// A message that this crate has a Rust type for, in the form that `print` gives it.
fn convert<T: Message + Default>(message: &DynamicMessage, print: impl FnOnce(T) -> Json) -> Json {
    message.transcode_to().map_or(Json::Null, print)
}

fn float(number: f64) -> Json {
    if number.is_finite() {
        return number_to_json(number);
    }
    let name = if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    name.into()
}

fn enumeration(kind: &Kind, number: i32) -> Json {
    let value = kind.as_enum().and_then(|descriptor| descriptor.get_value(number));
    value.map_or(number.into(), |value| value.name().into())
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
