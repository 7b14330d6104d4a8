//! Protobuf's JSON mapping: text to a tree, a tree to a message, and a message to JSON.

mod decode;
mod json;
mod print;
mod scalar;
mod tree;
mod yaml;

use std::fmt;

use crate::apart::Apart;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor};

pub use print::FieldNames;
pub(crate) use print::Printer;
pub use tree::Position;
use tree::{Node, Step};

/// Why a text is no message of the type that was asked for.
///
/// Prints as `static_resources.clusters[0].connect_timeout: "100ms" is no duration … (line 4, column 5)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    steps: Vec<Step>,
    position: Option<Position>,
    problem: String,
}

impl ParseError {
    /// An error of the text itself, which has no path.
    pub(crate) fn at(position: Option<Position>, problem: impl Into<String>) -> Self {
        ParseError { steps: Vec::new(), position, problem: problem.into() }
    }

    /// The path of the value as the file spells it; empty for an error of syntax.
    pub fn path(&self) -> String {
        tree::render(&self.steps)
    }

    /// Where in the text the value, or its key, is.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// What is wrong with the value.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.steps.is_empty() {
            write!(f, "{}: ", self.path())?;
        }
        f.write_str(&self.problem)?;
        match self.position {
            Some(position) => write!(f, " ({position})"),
            None => Ok(()),
        }
    }
}

/// A message read from a text, and what of the text it has no place for.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<T> {
    /// The message, without the unknown parts.
    pub message: T,
    /// Fields and enum values that the message's type does not define, in the order of their paths.
    pub unknown: Vec<ParseError>,
}

impl<T> Parsed<T> {
    /// The same with another form of the message.
    pub(crate) fn try_map<U, E>(
        self,
        change: impl FnOnce(T) -> Result<U, E>,
    ) -> Result<Parsed<U>, E> {
        Ok(Parsed { message: change(self.message)?, unknown: self.unknown })
    }

    /// The message, or the first unknown part as an error.
    pub fn strict(self) -> Result<T, ParseError> {
        match self.unknown.into_iter().next() {
            Some(unknown) => Err(unknown),
            None => Ok(self.message),
        }
    }
}

/// The two text formats that the mapping reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON, read strictly.
    Json,
    /// YAML, read as Envoy does.
    Yaml,
}

/// A text whose syntax has been read. It takes no [`crate::Registry`] to get so far, so that one can be loaded meanwhile.
#[derive(Debug)]
pub struct Document {
    root: Node,
    /// JSON, for the positions of errors.
    json: Option<Box<str>>,
}

impl Document {
    /// Reads `text`.
    ///
    /// # Errors
    /// What is wrong with its syntax.
    pub fn parse(format: Format, text: &str) -> Result<Document, ParseError> {
        Ok(match format {
            Format::Yaml => Document { root: yaml::parse(text)?, json: None },
            Format::Json => Document { root: json::parse(text)?, json: Some(text.into()) },
        })
    }

    /// The text as a message of the type `descriptor`; types inside `Any` are looked up in `pool`.
    pub(crate) fn decode(
        &self,
        pool: &DescriptorPool,
        descriptor: &MessageDescriptor,
        apart: Option<&mut Apart<'_>>,
    ) -> Result<Parsed<DynamicMessage>, ParseError> {
        let decoded = decode::decode(pool, descriptor, &self.root, apart);
        match &self.json {
            Some(text) => json::add_positions(decoded, text),
            None => decoded,
        }
    }
}

/// Whether a message is one of the wrappers, such as `google.protobuf.UInt32Value`, which JSON writes as their value.
pub(crate) fn is_wrapper(full_name: &str) -> bool {
    matches!(
        full_name.strip_prefix("google.protobuf."),
        Some(
            "BoolValue"
                | "StringValue"
                | "BytesValue"
                | "Int32Value"
                | "Int64Value"
                | "UInt32Value"
                | "UInt64Value"
                | "FloatValue"
                | "DoubleValue"
        )
    )
}

/// The only field of a wrapper.
fn wrapped_field(wrapper: &MessageDescriptor) -> FieldDescriptor {
    wrapper.get_field(1).expect("every wrapper has the field `value`, whose number is 1")
}

/// Whether JSON writes the message otherwise than as an object of its fields. Inside `Any` such a value stands under the key `value`.
pub(crate) fn has_own_form(full_name: &str) -> bool {
    is_wrapper(full_name)
        || matches!(
            full_name.strip_prefix("google.protobuf."),
            Some(
                "Any"
                    | "Timestamp"
                    | "Duration"
                    | "FieldMask"
                    | "Struct"
                    | "ListValue"
                    | "Value"
                    | "Empty"
            )
        )
}
