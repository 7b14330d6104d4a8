//! JSON log lines: an object whose leaves are format strings.

use serde_json::Value as Json;

use super::value::{write_json_string, write_number};
use super::{Format, FormatContext, FormatError};

/// A JSON object whose leaves are format strings (`json_format`).
///
/// A leaf that is one operator keeps its type: a number stays a number, a missing value is null. Keys are written in
/// alphabetical order, as Envoy does.
#[derive(Clone, Debug)]
pub struct JsonFormat {
    fields: Vec<Field>,
    omit_empty: bool,
}

/// A member of an object, with its key already encoded (`"key":`).
#[derive(Clone, Debug)]
struct Field {
    key: Box<[u8]>,
    node: Node,
}

#[derive(Clone, Debug)]
enum Node {
    /// Encoded when the format was parsed.
    Constant(Box<[u8]>),
    Leaf(Format),
    Object(Vec<Field>),
    Array(Vec<Node>),
}

impl JsonFormat {
    /// Parses the value of `json_format`, which is an object.
    ///
    /// # Errors
    /// A value that is no object, or a leaf whose format string cannot be parsed; names the key.
    pub fn from_value(value: &Json) -> Result<JsonFormat, FormatError> {
        let Json::Object(_) = value else {
            return Err(FormatError("the JSON format is not an object".to_string()));
        };
        match Node::parse(value)? {
            Node::Object(fields) => Ok(JsonFormat { fields, omit_empty: false }),
            _ => unreachable!("an object becomes an object"),
        }
    }

    /// Leaves out members whose value is missing (`SubstitutionFormatString.omit_empty_values`).
    #[must_use]
    pub fn omit_empty_values(mut self) -> JsonFormat {
        self.omit_empty = true;
        self
    }

    /// Whether any operator reads the headers or trailers of the request or response.
    pub fn needs_heads(&self) -> bool {
        self.fields.iter().any(|field| field.node.needs_heads())
    }

    /// Appends one line: the object and a newline.
    pub fn write(&self, context: &FormatContext<'_>, out: &mut Vec<u8>) {
        write_object(&self.fields, self.omit_empty, context, out);
        out.push(b'\n');
    }
}

impl Node {
    fn parse(value: &Json) -> Result<Node, FormatError> {
        Ok(match value {
            Json::String(text) => {
                let format = Format::parse(text)?;
                match format.literal() {
                    Some(literal) => Node::Constant(encoded(literal).into()),
                    None => Node::Leaf(format),
                }
            }
            Json::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_unstable_by_key(|(key, _)| *key);
                let fields = members.into_iter().map(|(key, value)| Field::parse(key, value));
                Node::Object(fields.collect::<Result<_, _>>()?)
            }
            Json::Array(items) => {
                Node::Array(items.iter().map(Node::parse).collect::<Result<_, _>>()?)
            }
            Json::Number(number) => Node::Constant(encoded_number(number).into()),
            Json::Null | Json::Bool(_) => Node::Constant(value.to_string().into_bytes().into()),
        })
    }

    fn needs_heads(&self) -> bool {
        match self {
            Node::Constant(_) => false,
            Node::Leaf(format) => format.needs_heads(),
            Node::Object(fields) => fields.iter().any(|field| field.node.needs_heads()),
            Node::Array(nodes) => nodes.iter().any(Node::needs_heads),
        }
    }

    fn write(&self, omit_empty: bool, context: &FormatContext<'_>, out: &mut Vec<u8>) {
        match self {
            Node::Constant(bytes) => out.extend_from_slice(bytes),
            Node::Leaf(format) => match format.lone_value(*context) {
                Some(value) => value.write_json(out),
                None => {
                    let mut text = Vec::with_capacity(64);
                    format.write(context, &mut text);
                    write_json_string(&text, out);
                }
            },
            Node::Object(fields) => write_object(fields, omit_empty, context, out),
            Node::Array(nodes) => {
                out.push(b'[');
                for (index, node) in nodes.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    node.write(omit_empty, context, out);
                }
                out.push(b']');
            }
        }
    }
}

impl Field {
    fn parse(key: &str, value: &Json) -> Result<Field, FormatError> {
        let node = Node::parse(value).map_err(|error| FormatError(format!("{key}: {error}")))?;
        let mut key = encoded(key);
        key.push(b':');
        Ok(Field { key: key.into(), node })
    }
}

fn write_object(
    fields: &[Field],
    omit_empty: bool,
    context: &FormatContext<'_>,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    let first = out.len();
    for field in fields {
        let before = out.len();
        if before > first {
            out.push(b',');
        }
        out.extend_from_slice(&field.key);
        let value = out.len();
        field.node.write(omit_empty, context, out);
        if omit_empty && &out[value..] == b"null" {
            out.truncate(before);
        }
    }
    out.push(b'}');
}

fn encoded(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_json_string(text.as_bytes(), &mut out);
    out
}

/// A protobuf `Struct` has only floating point numbers; whole ones are written without a point, as Envoy does.
fn encoded_number(number: &serde_json::Number) -> Vec<u8> {
    match number.as_f64() {
        Some(float) if float >= 0.0 && float.fract() == 0.0 && float < 1e15 => {
            let mut out = Vec::new();
            write_number(float as u64, &mut out);
            out
        }
        _ => number.to_string().into_bytes(),
    }
}
