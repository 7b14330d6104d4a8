//! A message to JSON, as `/config_dump` prints it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MapKey,
    ReflectMessage, Value,
};
use serde_json::{Map, Value as Json};

use super::tree::Node;
use super::{decode, has_own_form, is_wrapper, wrapped_field};
use crate::TypedStruct;
use crate::convert::{number_to_json, struct_to_json, value_to_json};
use crate::google::protobuf;
use crate::packed::{Content, Packed};
use crate::type_url;

/// What stands for a secret.
const REDACTED: &str = "[redacted]";

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
    /// How many messages lie around the value at hand.
    depth: usize,
}

impl<'p> Printer<'p> {
    pub(crate) fn new(pool: &'p DescriptorPool, names: FieldNames) -> Self {
        Printer {
            pool,
            sensitive: pool.get_extension_by_name("udpa.annotations.sensitive"),
            names,
            depth: 0,
        }
    }

    /// The message in its JSON form. `secret` says that everything in it is to be redacted.
    pub(crate) fn message(&mut self, message: &DynamicMessage, secret: bool) -> Json {
        self.depth += 1;
        let json = self.by_type(message, secret);
        self.depth -= 1;
        json
    }

    fn by_type(&mut self, message: &DynamicMessage, secret: bool) -> Json {
        let descriptor = message.descriptor();
        let name = descriptor.full_name();
        if is_wrapper(name) {
            let field = wrapped_field(&descriptor);
            return self.value(&field.kind(), &message.get_field(&field), secret);
        }
        if TypedStruct::NAMES.contains(&name) {
            return Json::Object(self.typed_struct(message, secret));
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

    /// A typed struct describes a message, whose secrets are found by its type. What that type does not define is left out, as nobody
    /// can say whether it is a secret.
    fn typed_struct(&mut self, message: &DynamicMessage, secret: bool) -> Map<String, Json> {
        let mut fields = self.fields(message, secret);
        let url = message.get_field_by_number(1);
        let url = url.as_deref().and_then(Value::as_str).unwrap_or_default();
        let described = self.pool.get_message_by_name(type_url::message_name(url));
        if let (Some(descriptor), Some(value)) = (described, fields.get_mut("value"))
            && let Ok(parsed) = decode::decode(self.pool, &descriptor, &Node::from(&*value), None)
        {
            *value = self.message(&parsed.message, secret);
        }
        fields
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

    /// The fields of the message in an `Any`, or its own JSON form or its bytes under `value`, beside its type.
    fn any(&mut self, any: &DynamicMessage, secret: bool) -> Json {
        let packed = Packed::of(any);
        if packed.type_url.is_empty() && packed.value.is_empty() {
            return Json::Object(Map::new());
        }
        let printed = match packed.open(self.pool, self.depth) {
            Content::Known(content) => self.any_content(&content, secret),
            Content::UnknownType | Content::Refused(_) if secret => REDACTED.into(),
            Content::UnknownType | Content::Refused(_) => {
                BASE64_STANDARD.encode(&packed.value).into()
            }
        };
        let mut object = match printed {
            Json::Object(fields) => fields,
            value => Map::from_iter([("value".into(), value)]),
        };
        object.insert("@type".into(), packed.type_url.into());
        Json::Object(object)
    }

    fn any_content(&mut self, content: &DynamicMessage, secret: bool) -> Json {
        let printed = self.message(content, secret);
        if has_own_form(content.descriptor().full_name()) {
            return Json::Object(Map::from_iter([("value".into(), printed)]));
        }
        printed
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
