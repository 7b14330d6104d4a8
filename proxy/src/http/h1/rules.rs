//! What the head of a request may be, and why it is refused.

use std::time::Duration;

use http::StatusCode;

use crate::config::hcm::{HttpConnectionManager, Underscores};
use crate::io::h1::TrailerLimits;

/// The methods that pass without `allow_custom_methods`: those that Envoy knows.
const METHODS: [&[u8]; 35] = [
    b"ACL",
    b"BIND",
    b"CHECKOUT",
    b"CONNECT",
    b"COPY",
    b"DELETE",
    b"GET",
    b"HEAD",
    b"LINK",
    b"LOCK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MOVE",
    b"MSEARCH",
    b"NOTIFY",
    b"OPTIONS",
    b"PATCH",
    b"POST",
    b"PROPFIND",
    b"PROPPATCH",
    b"PURGE",
    b"PUT",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"SOURCE",
    b"SUBSCRIBE",
    b"TRACE",
    b"UNBIND",
    b"UNLINK",
    b"UNLOCK",
    b"UNSUBSCRIBE",
    b"M-SEARCH",
];

/// What the connection manager allows in a request's head.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub(super) accept_http10: bool,
    pub(super) allow_absolute_url: bool,
    pub(super) allow_custom_methods: bool,
    pub(super) reject_underscores: bool,
    pub(super) most_kb: usize,
    pub(super) most_headers: usize,
    /// `request_headers_timeout`: how long a head may take from its first byte to its last.
    pub head_timeout: Option<Duration>,
}

impl Rules {
    /// The rules of a connection manager.
    pub fn new(config: &HttpConnectionManager) -> Rules {
        Rules {
            accept_http10: config.accept_http10,
            allow_absolute_url: config.allow_absolute_url,
            allow_custom_methods: config.allow_custom_methods,
            reject_underscores: config.underscores == Underscores::Reject,
            most_kb: config.max_request_headers_kb as usize,
            most_headers: config.max_headers_count as usize,
            head_timeout: config.request_headers_timeout,
        }
    }

    /// Rules that allow nothing beyond the default but HTTP/1.0: heads of so many KiB and so many fields.
    pub fn strict(most_kb: usize, most_headers: usize) -> Rules {
        Rules {
            accept_http10: true,
            allow_absolute_url: true,
            allow_custom_methods: false,
            reject_underscores: false,
            most_kb,
            most_headers,
            head_timeout: None,
        }
    }

    /// What holds for the trailers of a request.
    pub(super) fn trailers(&self) -> TrailerLimits {
        TrailerLimits { bytes: self.most_kb * 1024, fields: self.most_headers }
    }

    /// How long a head can be that may still pass: its fields, and the punctuation between them.
    pub fn most_bytes(&self) -> usize {
        self.most_kb * 1024 + 4 * self.most_headers + 64
    }
}

/// Why a head is refused before it becomes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status; its reason phrase is the body.
    pub status: StatusCode,
    /// `%RESPONSE_CODE_DETAILS%`
    pub details: &'static str,
}

impl Refusal {
    /// What is not HTTP.
    pub const SYNTAX: Refusal = Refusal::bad("http1.codec_error");
    /// A head that is too long.
    pub const TOO_LARGE: Refusal = Refusal {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        details: "http1.headers_too_large",
    };
    /// A head that did not come to its end in time.
    pub const LATE: Refusal =
        Refusal { status: StatusCode::REQUEST_TIMEOUT, details: "request_header_timeout" };
    /// A path with a fragment, which is no part of what a server may see.
    pub const FRAGMENT: Refusal = Refusal::bad("path_normalization_failed");
    /// A name with an underscore, where those are not wanted.
    pub const UNDERSCORE: Refusal = Refusal::bad("http1.unexpected_underscore");
    pub(super) const TOO_MANY: Refusal =
        Refusal { details: "http1.too_many_headers", ..Refusal::TOO_LARGE };
    pub(super) const VERSION: Refusal =
        Refusal { status: StatusCode::UPGRADE_REQUIRED, details: "low_version" };
    pub(super) const ENCODING: Refusal =
        Refusal { status: StatusCode::NOT_IMPLEMENTED, details: "http1.invalid_transfer_encoding" };

    pub(super) const fn bad(details: &'static str) -> Refusal {
        Refusal { status: StatusCode::BAD_REQUEST, details }
    }
}

/// Whether this is a method that Envoy knows.
pub(super) fn is_known(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"POST") || METHODS.contains(&method)
}
