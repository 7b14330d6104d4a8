//! One value of a tree as one protobuf scalar, by the rules of the JSON mapping as Envoy applies them.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::bytes::Bytes;
use prost_reflect::{Kind, MapKey, Value};
use serde_json::Number;

use super::tree::{Data, Node};

/// Both alphabets are read, with padding or without.
const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, ANY_PADDING);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, ANY_PADDING);

/// What kept a value from being a scalar.
pub(super) enum Mismatch {
    /// The value is of the wrong type or out of range; the text says what was expected.
    Expected(String),
    /// The enum does not define this name.
    UnknownEnumValue(String),
}

fn expected(what: impl Into<String>) -> Mismatch {
    Mismatch::Expected(what.into())
}

/// Reads `node` as a scalar of `kind`, which is no message.
pub(super) fn read(kind: &Kind, node: &Node) -> Result<Value, Mismatch> {
    match kind {
        Kind::Bool => boolean(node).map(Value::Bool).ok_or_else(|| expected("true or false")),
        Kind::String => match &node.data {
            Data::String(text) => Ok(Value::String(text.clone())),
            Data::Bool(_) | Data::Number(_) => Err(expected("a string (put it in quotes)")),
            _ => Err(expected("a string")),
        },
        Kind::Bytes => bytes(node).map(Value::Bytes).ok_or_else(|| expected("bytes in base64")),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            integer(node, "a 32-bit integer").map(Value::I32)
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            integer(node, "a 64-bit integer").map(Value::I64)
        }
        Kind::Uint32 | Kind::Fixed32 => integer(node, "an unsigned 32-bit integer").map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => integer(node, "an unsigned 64-bit integer").map(Value::U64),
        Kind::Double => float(node).map(Value::F64).ok_or_else(|| expected("a number")),
        Kind::Float => {
            float32(node).map(Value::F32).ok_or_else(|| expected("a number of single precision"))
        }
        Kind::Enum(descriptor) => enumeration(descriptor, node).map(Value::EnumNumber),
        Kind::Message(descriptor) => Err(expected(descriptor.full_name())),
    }
}

/// Reads the key of a protobuf map, which JSON always writes as a string.
pub(super) fn read_key(kind: &Kind, key: &str) -> Result<MapKey, Mismatch> {
    let node = Node { data: Data::String(key.to_owned()), position: None };
    read(kind, &node)?.into_map_key().ok_or_else(|| expected("a key"))
}

/// Envoy reads the words `true` and `false` in quotes as well.
fn boolean(node: &Node) -> Option<bool> {
    match &node.data {
        Data::Bool(flag) => Some(*flag),
        Data::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn bytes(node: &Node) -> Option<Bytes> {
    let Data::String(text) = &node.data else {
        return None;
    };
    let decoded = BASE64.decode(text).or_else(|_| BASE64_URL.decode(text));
    decoded.ok().map(Bytes::from)
}

/// A whole number as a number or in quotes; `80.0` and `8e1` are whole.
fn integer<T: TryFrom<i128>>(node: &Node, what: &str) -> Result<T, Mismatch> {
    let whole = match &node.data {
        Data::Number(number) => number.as_i128().or_else(|| whole(number.as_f64()?)),
        Data::String(text) => text.parse().ok().or_else(|| whole(decimal(text)?)),
        _ => None,
    };
    let fitting = whole.and_then(|whole| T::try_from(whole).ok());
    fitting.ok_or_else(|| expected(what))
}

fn whole(number: f64) -> Option<i128> {
    // The cast saturates, and what saturates fits no protobuf type.
    (number.fract() == 0.0).then_some(number as i128)
}

fn float(node: &Node) -> Option<f64> {
    match &node.data {
        Data::Number(number) => Number::as_f64(number),
        Data::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => decimal(text),
        },
        _ => None,
    }
}

fn float32(node: &Node) -> Option<f32> {
    let wide = float(node)?;
    let narrow = wide as f32;
    (narrow.is_finite() == wide.is_finite()).then_some(narrow)
}

/// A finite number as JSON writes it; Rust's parser alone would take `inf` and `nan`, too.
fn decimal(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    let starts_well =
        text.trim_start_matches('-').starts_with(|first: char| first.is_ascii_digit());
    (starts_well && number.is_finite()).then_some(number)
}

/// An enum value by number, or by name in any case; protobuf keeps numbers that the enum does not define.
fn enumeration(descriptor: &prost_reflect::EnumDescriptor, node: &Node) -> Result<i32, Mismatch> {
    match &node.data {
        Data::String(name) => {
            let exact = descriptor.get_value_by_name(name);
            let value = exact.or_else(|| {
                descriptor.values().find(|value| value.name().eq_ignore_ascii_case(name))
            });
            let unknown = || {
                Mismatch::UnknownEnumValue(format!(
                    "{} has no value {name:?}",
                    descriptor.full_name()
                ))
            };
            value.map(|value| value.number()).ok_or_else(unknown)
        }
        // google.protobuf.NullValue.
        Data::Null => Ok(0),
        _ => integer(node, &format!("a value of {}", descriptor.full_name())),
    }
}
