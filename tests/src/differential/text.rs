//! Texts of an observation: what is compared, with everything that differs from run to run taken out.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value, json};

/// Longer bodies are noted by their beginning and their length.
const LONGEST: usize = 1024;

/// Headers by name as it was sent; a repeated header has a list of values.
pub fn header_fields(headers: &[(String, String)]) -> Value {
    let mut fields = Map::new();
    for (name, value) in headers {
        match fields.get_mut(name) {
            None => {
                fields.insert(name.clone(), json!(value));
            }
            Some(Value::Array(values)) => values.push(json!(value)),
            Some(first) => *first = json!([first, value]),
        }
    }
    Value::Object(fields)
}

/// Bytes as text.
pub fn text_of(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(LONGEST)];
    let text = String::from_utf8_lossy(shown);
    match bytes.len() {
        length if length > LONGEST => format!("{text}... ({length} bytes)"),
        _ => text.into_owned(),
    }
}

/// Bytes written in hexadecimal, with blanks anywhere between pairs.
pub fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: String = text.split_whitespace().collect();
    let pairs = digits.as_bytes().chunks(2).map(String::from_utf8_lossy);
    pairs
        .map(|pair| u8::from_str_radix(&pair, 16).map_err(|error| format!("hex {pair}: {error}")))
        .collect()
}

/// Takes out of a text what differs from run to run.
pub struct Normaliser {
    rules: Vec<(Regex, String)>,
}

impl Normaliser {
    /// `names` are the placeholders of the run, whose values become names again; `masks` comes from the case.
    pub fn new(names: &BTreeMap<String, String>, masks: &[String]) -> Result<Self, String> {
        let mut rules = Vec::new();
        let mut rule = |pattern: &str, with: &str| match Regex::new(pattern) {
            Ok(regex) => {
                rules.push((regex, with.to_owned()));
                Ok(())
            }
            Err(error) => Err(format!("mask {pattern}: {error}")),
        };
        for mask in masks {
            rule(mask, "<masked>")?;
        }
        for (name, value) in names {
            rule(&format!(r"\b{}\b", regex::escape(value)), &format!("{{{{{name}}}}}"))?;
        }
        rule(r"127\.0\.0\.(\d+):\d{4,5}\b", "127.0.0.$1:<port>")?;
        rule(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>")?;
        rule(r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z", "<time>")?;
        Ok(Self { rules })
    }

    /// Normalises every text in a value.
    pub fn apply(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            // A port in a JSON log.
            Value::Number(number) => {
                let text = self.text(&number.to_string());
                if text != number.to_string() {
                    *value = json!(text);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.apply(item)),
            Value::Object(map) => {
                for (key, item) in map {
                    match key.to_ascii_lowercase().as_str() {
                        "date" | "x-envoy-upstream-service-time" => {
                            *item = json!(format!("<{key}>"))
                        }
                        _ => self.apply(item),
                    }
                }
            }
            _ => {}
        }
    }

    fn text(&self, text: &str) -> String {
        self.rules.iter().fold(text.to_owned(), |text, (regex, with)| {
            regex.replace_all(&text, with).into_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_taken_out() {
        let names = BTreeMap::from([("upstream.a".to_owned(), "23456".to_owned())]);
        let normaliser = Normaliser::new(&names, &["secret-[0-9]+".to_owned()]).unwrap();
        let mut seen = json!({
            "date": "Tue, 24 Nov 2026 11:31:24 GMT",
            "log": ["127.0.0.1:23456 127.0.0.9:41234 secret-42 12345678-1234-4234-9234-123456789abc"],
            "port": 23456,
            "status": 200,
        });
        normaliser.apply(&mut seen);
        let kept = json!({
            "date": "<date>",
            "log": ["127.0.0.1:{{upstream.a}} 127.0.0.9:<port> <masked> <uuid>"],
            "port": "{{upstream.a}}",
            "status": 200,
        });
        assert_eq!(seen, kept);
    }

    #[test]
    fn a_repeated_header_has_a_list_of_values() {
        let headers =
            [("a", "1"), ("b", "2"), ("a", "3")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(header_fields(&headers), json!({"a": ["1", "3"], "b": "2"}));
    }

    #[test]
    fn a_mask_that_is_no_regular_expression_is_named() {
        let error = Normaliser::new(&BTreeMap::new(), &["(".to_owned()]).err().unwrap();
        assert!(error.starts_with("mask ("), "{error}");
    }
}
