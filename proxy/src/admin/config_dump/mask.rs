//! `google.protobuf.FieldMask` on messages in JSON.

use std::fmt;

use serde_json::{Map, Value};

/// Paths of fields to keep.
#[derive(Debug)]
pub(super) struct Mask {
    text: String,
    paths: Vec<Vec<String>>,
}

impl Mask {
    /// Paths with dots, separated by commas.
    pub(super) fn parse(text: &str) -> Mask {
        let path = |path: &str| path.split('.').map(str::to_string).collect();
        let paths = text.split(',').filter(|path| !path.is_empty()).map(path).collect();
        Mask { text: text.to_string(), paths }
    }

    /// The message with these fields only, and its `@type`; none if it has none of them. A path goes on into each element of a list.
    pub(super) fn apply(&self, message: &Value) -> Option<Value> {
        let paths: Vec<&[String]> = self.paths.iter().map(Vec::as_slice).collect();
        keep(message, &paths)
    }
}

fn keep(value: &Value, paths: &[&[String]]) -> Option<Value> {
    if paths.iter().any(|path| path.is_empty()) {
        return Some(value.clone());
    }
    match value {
        Value::Array(elements) => {
            let kept: Vec<Value> = elements.iter().filter_map(|one| keep(one, paths)).collect();
            (!kept.is_empty()).then(|| kept.into())
        }
        Value::Object(fields) => keep_fields(fields, paths),
        _ => None,
    }
}

fn keep_fields(fields: &Map<String, Value>, paths: &[&[String]]) -> Option<Value> {
    let mut kept = Map::new();
    for (name, value) in fields {
        let deeper: Vec<&[String]> =
            paths.iter().filter(|path| path[0] == *name).map(|path| &path[1..]).collect();
        if let Some(value) = (!deeper.is_empty()).then(|| keep(value, &deeper)).flatten() {
            kept.insert(name.clone(), value);
        }
    }
    if kept.is_empty() {
        return None;
    }
    if let Some(kind) = fields.get("@type") {
        kept.insert("@type".to_string(), kind.clone());
    }
    Some(kept.into())
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keeps_the_paths_and_types() {
        let message = json!({
            "@type": "t",
            "a": {"@type": "u", "b": 1, "c": {"d": 2}},
            "l": [{"b": 1, "c": 2}, {"c": 3}],
            "x": 1
        });
        let apply = |mask: &str| Mask::parse(mask).apply(&message);
        assert_eq!(
            apply("a.c.d,l.b").unwrap(),
            json!({"@type": "t", "a": {"@type": "u", "c": {"d": 2}}, "l": [{"b": 1}]})
        );
        assert_eq!(apply("a,a.b").unwrap()["a"], message["a"]);
        assert_eq!(apply("nothing"), None);
        assert_eq!(apply("x.y"), None);
        assert_eq!(apply(""), None);
    }
}
