//! What a JSON or YAML text says, before any message is known: a tree of values with their places in the text.

use std::collections::BTreeMap;
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
    /// The last of equal keys wins, as in Envoy.
    Map(BTreeMap<String, Node>),
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
                entries.map(|(key, value)| (key.clone(), serde_json::Value::from(value))).collect()
            }
        }
    }
}
