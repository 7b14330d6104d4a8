//! Format strings with command operators (`%REQ(:PATH)%`), for access logs and header values.
//!
//! A format is parsed once: names are resolved to functions, header names are validated and literals are joined, so
//! that writing one only copies.

use std::fmt;

use http::{HeaderMap, Method};

use crate::telemetry::stream_info::StreamInfo;

mod facts;
mod grpc_status;
mod heads;
mod json;
mod metadata;
mod operators;
mod parse;
mod target;
mod time;
mod value;

pub use json::JsonFormat;
use operators::Operator;
pub use target::decoded_query_parameter;
use value::Value;

/// A time in UTC with milliseconds, as `%START_TIME%` prints it.
pub fn timestamp(time: std::time::SystemTime) -> String {
    let format = time::TimeFormat::parse(None).expect("the default is valid");
    let mut text = Vec::new();
    format.write(time, &mut text);
    String::from_utf8(text).expect("it is ASCII")
}

/// Envoy's default access log line.
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// What stands for a value that does not exist.
const MISSING: &str = "-";

/// The request as it was sanitised and, once it is on its way, changed by its route: what `%REQ(...)%` reads.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// `:method`
    pub method: Method,
    /// `:scheme`
    pub scheme: Box<str>,
    /// `:authority`
    pub authority: Box<str>,
    /// `:path`, with its query
    pub path: Box<str>,
    /// Every header; `host` says the same as `authority`.
    pub headers: HeaderMap,
}

/// Everything that an operator may ask for.
#[derive(Clone, Copy, Debug)]
pub struct FormatContext<'a> {
    /// The stream's facts.
    pub info: &'a StreamInfo,
    /// The request, where there is one (not for TCP).
    pub request: Option<&'a RequestHead>,
    /// The response's headers, once there are some.
    pub response: Option<&'a HeaderMap>,
    /// The response's trailers.
    pub trailers: Option<&'a HeaderMap>,
    /// `%LOCAL_REPLY_BODY%`
    pub local_reply_body: Option<&'a str>,
}

impl<'a> FormatContext<'a> {
    /// What is known where no message is at hand.
    pub fn of(info: &'a StreamInfo) -> Self {
        FormatContext {
            info,
            request: None,
            response: None,
            trailers: None,
            local_reply_body: None,
        }
    }

    /// The gRPC status that the downstream saw: from the trailers, else the headers, else what the HTTP status means in
    /// gRPC; none without a response.
    pub fn grpc_status(&self) -> Option<u32> {
        grpc_status::grpc_status(self)
    }
}

/// A format string, parsed.
#[derive(Clone, Debug, Default)]
pub struct Format {
    pieces: Box<[Piece]>,
    omit_empty: bool,
}

/// A part of a format string.
#[derive(Clone, Debug)]
enum Piece {
    Literal(Box<str>),
    /// An operator, with the number of bytes after which its value is cut.
    Operator(Operator, Option<usize>),
}

/// A format string that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub String);

impl FormatError {
    /// What is wrong with the operator that starts at the byte `offset` of the format string.
    fn at(offset: usize, message: impl fmt::Display) -> Self {
        FormatError(format!("column {}: {message}", offset + 1))
    }
}

impl Format {
    /// Parses a format string. `%%` is a percent sign.
    ///
    /// # Errors
    /// An unknown operator, or one with a bad argument; names the operator and its column.
    pub fn parse(text: &str) -> Result<Format, FormatError> {
        Ok(Format { pieces: parse::pieces(text)?.into(), omit_empty: false })
    }

    /// Envoy's default access log line (`docs/root/configuration/observability/access_log/usage.rst`).
    pub fn default_text() -> Format {
        Format::parse(DEFAULT).expect("the default line is valid, which a test shows")
    }

    /// Makes a missing value empty instead of `-` (`SubstitutionFormatString.omit_empty_values`; header values do so
    /// always).
    #[must_use]
    pub fn omit_empty_values(mut self) -> Format {
        self.omit_empty = true;
        self
    }

    /// The text, if it has no operator.
    pub fn literal(&self) -> Option<&str> {
        match &*self.pieces {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether any operator reads the headers or trailers of the request or response.
    pub fn needs_heads(&self) -> bool {
        self.pieces.iter().any(|piece| match piece {
            Piece::Literal(_) => false,
            Piece::Operator(operator, _) => operator.needs_heads(),
        })
    }

    /// The operators that are understood but have no value in this proxy, and print as missing: worth a warning.
    pub fn absent_operators(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Operator(Operator::Absent(name), _) => Some(*name),
            _ => None,
        })
    }

    /// Appends the formatted text. A missing value is `-`, or nothing with [`Format::omit_empty_values`].
    pub fn write(&self, context: &FormatContext<'_>, out: &mut Vec<u8>) {
        self.write_with(context, if self.omit_empty { "" } else { MISSING }, out);
    }

    fn write_with(&self, context: &FormatContext<'_>, missing: &str, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Operator(operator, limit) => {
                    operator.value(*context).cut(*limit).write_text(out, missing);
                }
            }
        }
    }

    /// The operator's value, if the format is one operator and nothing else.
    fn lone_value<'a>(&'a self, context: FormatContext<'a>) -> Option<Value<'a>> {
        match &*self.pieces {
            [Piece::Operator(operator, limit)] => Some(operator.value(context).cut(*limit)),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
