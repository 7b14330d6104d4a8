//! Format strings with command operators (`%REQ(:PATH)%`), for access logs and header values.

use http::{HeaderMap, Method};

use crate::telemetry::stream_info::StreamInfo;

/// The request as it came in, after sanitising: what `%REQ(...)%` reads.
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
    /// Every other header.
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

/// A format string, parsed.
#[derive(Clone, Debug, Default)]
pub struct Format {
    #[allow(dead_code)]
    segments: Vec<()>,
}

/// A JSON object whose leaves are format strings.
#[derive(Clone, Debug)]
pub struct JsonFormat {
    #[allow(dead_code)]
    root: (),
}

/// A format string that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub String);

impl Format {
    /// Parses a format string.
    ///
    /// # Errors
    /// An unknown operator, or one with a bad argument.
    pub fn parse(_text: &str) -> Result<Format, FormatError> {
        Ok(Format::default())
    }

    /// Appends the formatted text.
    pub fn write(&self, _context: &FormatContext<'_>, _out: &mut Vec<u8>) {}
}
