//! JSON log lines: an object whose leaves are format strings.

use serde_json::Value as Json;

use super::value::write_json_string;
use super::{Format, FormatContext, FormatError, MISSING};

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
        match Node::parse(value)? {
            Node::Object(fields) => Ok(JsonFormat { fields, omit_empty: false }),
            _ => Err(FormatError("the JSON format is not an object".to_string())),
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
        let mut needed = false;
        self.visit(&mut |format| needed |= format.needs_heads());
        needed
    }

    /// The operators that are understood but have no value in this proxy, and print as missing: worth a warning.
    pub fn absent_operators(&self) -> Vec<&'static str> {
        let mut absent = Vec::new();
        self.visit(&mut |format| absent.extend(format.absent_operators()));
        absent
    }

    /// Calls `visit` for every leaf that has an operator.
    fn visit(&self, visit: &mut dyn FnMut(&Format)) {
        self.fields.iter().for_each(|field| field.node.visit(visit));
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

    fn visit(&self, visit: &mut dyn FnMut(&Format)) {
        match self {
            Node::Constant(_) => {}
            Node::Leaf(format) => visit(format),
            Node::Object(fields) => fields.iter().for_each(|field| field.node.visit(visit)),
            Node::Array(nodes) => nodes.iter().for_each(|node| node.visit(visit)),
        }
    }

    fn write(&self, omit_empty: bool, context: &FormatContext<'_>, out: &mut Vec<u8>) {
        match self {
            Node::Constant(bytes) => out.extend_from_slice(bytes),
            Node::Leaf(format) => match format.lone_value(*context) {
                Some(value) => value.write_json(out),
                None => {
                    let mut text = Vec::with_capacity(64);
                    format.write_with(context, if omit_empty { "" } else { MISSING }, &mut text);
                    write_json_string(&text, out);
                }
            },
            Node::Object(fields) => write_object(fields, omit_empty, context, out),
            Node::Array(nodes) => {
                out.push(b'[');
                let items = nodes.iter().map(|node| (&b""[..], node));
                write_items(items, omit_empty, context, out);
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
    let items = fields.iter().map(|field| (&*field.key, &field.node));
    write_items(items, omit_empty, context, out);
    out.push(b'}');
}

/// Writes items with commas between them; with `omit_empty`, those stay out that came to nothing.
fn write_items<'a>(
    items: impl Iterator<Item = (&'a [u8], &'a Node)>,
    omit_empty: bool,
    context: &FormatContext<'_>,
    out: &mut Vec<u8>,
) {
    let first = out.len();
    for (key, node) in items {
        let before = out.len();
        if before > first {
            out.push(b',');
        }
        out.extend_from_slice(key);
        let value = out.len();
        node.write(omit_empty, context, out);
        if omit_empty && matches!(&out[value..], b"null" | b"{}" | b"[]") {
            out.truncate(before);
        }
    }
}

fn encoded(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_json_string(text.as_bytes(), &mut out);
    out
}

/// A protobuf `Struct` has only floating point numbers; whole ones are written without a point, as Envoy does.
fn encoded_number(number: &serde_json::Number) -> Vec<u8> {
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => {
            (float as i64).to_string().into_bytes()
        }
        _ => number.to_string().into_bytes(),
    }
}
