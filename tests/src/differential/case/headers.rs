//! Headers as a case writes them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Headers in order. A case writes a map, whose values may be lists for repeated headers, or a list of `[name, value]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// Whether a header of this lower-case name is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut headers = Vec::new();
        match Value::deserialize(deserializer)? {
            Value::Object(map) => {
                for (name, value) in map {
                    match value {
                        Value::Array(values) => {
                            headers.extend(values.iter().map(|v| (name.clone(), text(v))))
                        }
                        value => headers.push((name, text(&value))),
                    }
                }
            }
            Value::Array(pairs) => {
                for pair in pairs {
                    match pair.as_array().map(Vec::as_slice) {
                        Some([name, value]) => headers.push((text(name), text(value))),
                        _ => return Err(D::Error::custom("a header in a list is [name, value]")),
                    }
                }
            }
            _ => return Err(D::Error::custom("headers are a map or a list of [name, value]")),
        }
        Ok(Self(headers))
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn headers_are_a_map_or_a_list() {
        let read = |value: Value| serde_json::from_value::<Headers>(value).map(|headers| headers.0);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let map = json!({"a": ["1", "2"], "b": 3});
        assert_eq!(read(map).unwrap(), [pair("a", "1"), pair("a", "2"), pair("b", "3")]);
        let list = json!([["b", "1"], ["a", "2"]]);
        assert_eq!(read(list).unwrap(), [pair("b", "1"), pair("a", "2")]);
        assert!(read(json!([["b"]])).is_err());
    }
}
