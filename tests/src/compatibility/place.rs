//! Where a value stands in a resource that is written as JSON.

use std::fmt;

use serde_json::{Map, Value};

/// A step from a message to a value inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A field.
    Field(String),
    /// An element of a list.
    Index(usize),
    /// An entry of a map.
    Key(String),
}

/// The steps from a resource to a value in it; printed as Pillion's errors name a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(pub Vec<Step>);

impl Place {
    /// The place one step on.
    pub fn then(&self, step: Step) -> Place {
        let mut steps = self.0.clone();
        steps.push(step);
        Place(steps)
    }

    /// The place of a field of the message that stands here.
    pub fn field(&self, name: &str) -> Place {
        self.then(Step::Field(name.to_owned()))
    }

    /// What stands here.
    pub fn get<'v>(&self, resource: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(resource, |value, step| match step {
            Step::Field(name) | Step::Key(name) => value.get(name),
            Step::Index(index) => value.get(index),
        })
    }

    /// The fields of the message that stands here; whatever lacks on the way is made.
    pub fn message<'v>(&self, resource: &'v mut Value) -> &'v mut Map<String, Value> {
        let mut value = resource;
        for step in &self.0 {
            value = match step {
                Step::Field(name) | Step::Key(name) => {
                    object(value).entry(name).or_insert(Value::Null)
                }
                Step::Index(index) => {
                    if value.get(index).is_none() {
                        *value = Value::Array(vec![Value::Null; index + 1]);
                    }
                    &mut value[index]
                }
            };
        }
        object(value)
    }

    /// Reads `a.b[0].c["k"]`.
    pub fn parse(text: &str) -> Place {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end > 0 {
                steps.push(Step::Field(rest[..end].to_owned()));
            }
            rest = &rest[end..];
            if let Some(inner) = rest.strip_prefix('[') {
                let Some(close) = inner.find(']') else { break };
                let inside = &inner[..close];
                steps.push(match inside.parse() {
                    Ok(index) => Step::Index(index),
                    Err(_) => Step::Key(inside.trim_matches('"').to_owned()),
                });
                rest = &inner[close + 1..];
            }
            rest = rest.strip_prefix('.').unwrap_or(rest);
        }
        Place(steps)
    }

    /// Whether `other` stands here or inside what stands here.
    pub fn holds(&self, other: &Place) -> bool {
        other.0.starts_with(&self.0)
    }
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it has just been made one")
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if at == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_place_is_read_as_it_is_printed() {
        for text in ["", "a", "a.b", "a[0].b", "a[\"k\"].b[1]"] {
            assert_eq!(Place::parse(text).to_string(), text);
        }
        assert!(Place::parse("a.b").holds(&Place::parse("a.b[0].c")));
        assert!(!Place::parse("a.b").holds(&Place::parse("a.bc")));
    }

    #[test]
    fn what_lacks_on_the_way_is_made() {
        let mut value = json!({"a": 1});
        let place = Place::parse("b[0].c[\"k\"]");
        place.message(&mut value).insert("d".into(), json!(2));
        assert_eq!(value, json!({"a": 1, "b": [{"c": {"k": {"d": 2}}}]}));
        assert_eq!(place.get(&value), Some(&json!({"d": 2})));
    }
}
