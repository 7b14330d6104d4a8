//! What a JSON or YAML text says, before any message is known: a tree of values with their places in the text.

use std::fmt;

use serde_json::Number;

/// A place in a text, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column in characters.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A value and where it is. The value of a map's key is where the key is.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) data: Data,
    /// `None` in a tree read from JSON, whose parser keeps no positions; see [`Node::position_of`].
    pub(super) position: Option<Position>,
}

/// The kinds of value that JSON has.
#[derive(Debug, Clone)]
pub(super) enum Data {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Node>),
    Map(Entries),
}

/// The entries of a map in the order of their keys. The last of equal keys wins, as in Envoy.
#[derive(Debug, Clone)]
pub(super) struct Entries(Vec<(String, Node)>);

impl FromIterator<(String, Node)> for Entries {
    fn from_iter<I: IntoIterator<Item = (String, Node)>>(entries: I) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        // A stable sort, so that the last of equal keys stays the last.
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        entries.dedup_by(|later, kept| {
            let equal = later.0 == kept.0;
            if equal {
                std::mem::swap(later, kept);
            }
            equal
        });
        Entries(entries)
    }
}

impl Entries {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let found = self.0.binary_search_by(|(known, _)| known.as_str().cmp(key));
        found.ok().map(|index| &self.0[index].1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(key, node)| (key.as_str(), node))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One step from a value to a value inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// Writes steps as `static_resources.clusters[0].name`.
pub(super) fn render(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Key(key) if path.is_empty() => path.push_str(key),
            Step::Key(key) => {
                path.push('.');
                path.push_str(key);
            }
        }
    }
    path
}

impl Node {
    /// Where the value at the end of `steps` is.
    pub(super) fn position_of(&self, steps: &[Step]) -> Option<Position> {
        let Some((step, rest)) = steps.split_first() else {
            return self.position;
        };
        let inner = match (step, &self.data) {
            (Step::Key(key), Data::Map(entries)) => entries.get(key)?,
            (Step::Index(index), Data::List(values)) => values.get(*index)?,
            _ => return None,
        };
        inner.position_of(rest)
    }

    /// The value in a word, for errors.
    pub(super) fn describe(&self) -> String {
        match &self.data {
            Data::Null => "null".into(),
            Data::Bool(flag) => format!("the boolean {flag}"),
            Data::Number(number) => format!("the number {number}"),
            Data::String(text) => format!("the string {text:?}"),
            Data::List(_) => "a list".into(),
            Data::Map(_) => "an object".into(),
        }
    }
}

impl From<&serde_json::Value> for Node {
    /// The depth is bounded: serde_json's parser stops at 128 levels.
    fn from(value: &serde_json::Value) -> Self {
        let data = match value {
            serde_json::Value::Null => Data::Null,
            serde_json::Value::Bool(flag) => Data::Bool(*flag),
            serde_json::Value::Number(number) => Data::Number(number.clone()),
            serde_json::Value::String(text) => Data::String(text.clone()),
            serde_json::Value::Array(values) => Data::List(values.iter().map(Node::from).collect()),
            serde_json::Value::Object(fields) => {
                let fields = fields.iter();
                Data::Map(fields.map(|(key, value)| (key.clone(), value.into())).collect())
            }
        };
        Node { data, position: None }
    }
}

impl From<&Node> for serde_json::Value {
    fn from(node: &Node) -> Self {
        match &node.data {
            Data::Null => serde_json::Value::Null,
            Data::Bool(flag) => serde_json::Value::Bool(*flag),
            Data::Number(number) => serde_json::Value::Number(number.clone()),
            Data::String(text) => serde_json::Value::String(text.clone()),
            Data::List(values) => values.iter().map(serde_json::Value::from).collect(),
            Data::Map(entries) => {
                let entries = entries.iter();
                entries
                    .map(|(key, value)| (key.to_owned(), serde_json::Value::from(value)))
                    .collect()
            }
        }
    }
}
