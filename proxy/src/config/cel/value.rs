//! Values of expressions.

use std::borrow::Cow;
use std::cmp::Ordering;

use http::HeaderMap;
use serde_json::Value as Json;

use crate::telemetry::stream_info::Metadata;

/// A constant of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Constant {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
}

/// A value while an expression is evaluated.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    /// `request.headers`
    Headers(&'a HeaderMap),
    /// `metadata`
    Metadata(Option<&'a Metadata>),
    /// A value of metadata.
    Json(&'a Json),
}

/// There is no value: something is missing, or of the wrong type. A condition that comes to this is false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoValue;

impl Constant {
    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Constant::Null => Value::Null,
            Constant::Bool(value) => Value::Bool(*value),
            Constant::Int(value) => Value::Int(*value),
            Constant::Uint(value) => Value::Uint(*value),
            Constant::Double(value) => Value::Double(*value),
            Constant::Text(value) => Value::Text(Cow::Borrowed(value)),
        }
    }
}

impl<'a> Value<'a> {
    pub(super) fn bool(&self) -> Result<bool, NoValue> {
        match self.plain() {
            Value::Bool(value) => Ok(value),
            _ => Err(NoValue),
        }
    }

    pub(super) fn text(&self) -> Result<Cow<'_, str>, NoValue> {
        match self {
            Value::Text(text) => Ok(Cow::Borrowed(text)),
            Value::Json(Json::String(text)) => Ok(Cow::Borrowed(text)),
            _ => Err(NoValue),
        }
    }

    /// A value of metadata as what it is; numbers are floating, as in a `Struct`.
    fn plain(&self) -> Value<'a> {
        match self {
            Value::Json(Json::Null) => Value::Null,
            Value::Json(Json::Bool(value)) => Value::Bool(*value),
            Value::Json(Json::Number(number)) => number.as_f64().map_or(Value::Null, Value::Double),
            Value::Json(Json::String(text)) => Value::Text(Cow::Borrowed(text)),
            other => other.clone(),
        }
    }

    /// The element of a list or map.
    pub(super) fn index(&self, key: &Value<'_>) -> Result<Value<'a>, NoValue> {
        match (self, key) {
            (Value::List(list), Value::Int(at)) => {
                usize::try_from(*at).ok().and_then(|at| list.get(at).cloned()).ok_or(NoValue)
            }
            (Value::Json(Json::Array(list)), Value::Int(at)) => {
                let element = usize::try_from(*at).ok().and_then(|at| list.get(at));
                element.map(Value::Json).ok_or(NoValue)
            }
            (_, key) => self.field(&key.text()?).ok_or(NoValue),
        }
    }

    /// The member of a map.
    pub(super) fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Value::Headers(headers) => {
                let mut values = headers.get_all(name).iter();
                let first = String::from_utf8_lossy(values.next()?.as_bytes());
                let joined = values.fold(first, |joined, value| {
                    format!("{joined},{}", String::from_utf8_lossy(value.as_bytes())).into()
                });
                Some(Value::Text(joined))
            }
            Value::Metadata(metadata) => metadata.as_ref()?.get(name).map(Value::Json),
            Value::Json(object) => object.get(name).map(Value::Json),
            _ => None,
        }
    }

    pub(super) fn size(&self) -> Result<i64, NoValue> {
        let size = match self {
            Value::List(list) => list.len(),
            Value::Json(Json::Array(list)) => list.len(),
            Value::Json(Json::Object(map)) => map.len(),
            Value::Headers(headers) => headers.keys_len(),
            Value::Metadata(metadata) => metadata.map_or(0, |metadata| metadata.len()),
            text => text.text()?.chars().count(),
        };
        Ok(size as i64)
    }

    /// Whether the value is an element of a list or a key of a map.
    pub(super) fn is_in(&self, set: &Value<'_>) -> Result<bool, NoValue> {
        match set {
            Value::List(list) => Ok(list.iter().any(|item| self.equals(item))),
            Value::Json(Json::Array(list)) => {
                Ok(list.iter().any(|item| self.equals(&Value::Json(item))))
            }
            map => Ok(map.field(&self.text()?).is_some()),
        }
    }

    /// Values of different kinds are not equal; numbers are equal whatever their kind.
    pub(super) fn equals(&self, other: &Value<'_>) -> bool {
        match (self.plain(), other.plain()) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::List(a), Value::List(b)) => {
                a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.equals(b))
            }
            (Value::Json(a), Value::Json(b)) => a == b,
            (a, b) => a.compare(&b) == Ok(Ordering::Equal),
        }
    }

    pub(super) fn compare(&self, other: &Value<'_>) -> Result<Ordering, NoValue> {
        match (self.plain(), other.plain()) {
            (Value::Text(a), Value::Text(b)) => Ok(a.cmp(&b)),
            (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(&b)),
            (Value::Double(a), b) => a.partial_cmp(&b.double()?).ok_or(NoValue),
            (a, Value::Double(b)) => a.double()?.partial_cmp(&b).ok_or(NoValue),
            (a, b) => Ok(a.integer()?.cmp(&b.integer()?)),
        }
    }

    fn double(&self) -> Result<f64, NoValue> {
        match self {
            Value::Double(value) => Ok(*value),
            other => other.integer().map(|value| value as f64),
        }
    }

    fn integer(&self) -> Result<i128, NoValue> {
        match self {
            Value::Int(value) => Ok(i128::from(*value)),
            Value::Uint(value) => Ok(i128::from(*value)),
            _ => Err(NoValue),
        }
    }
}
