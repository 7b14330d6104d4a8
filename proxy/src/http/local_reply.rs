//! Answers that the proxy gives itself. Every failure that a client can see leaves through here, once.

mod rewrite;

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::route::RouteRequest;
use crate::telemetry::response_flags::ResponseFlags;

/// An answer of the proxy's own.
#[derive(Debug)]
pub struct LocalReply {
    /// The HTTP status (a gRPC request gets 200 with the mapped gRPC status).
    pub status: StatusCode,
    /// Why, for the access log.
    pub flags: ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`
    pub details: Cow<'static, str>,
    /// The body, or `grpc-message`: one sentence for a human; may be empty.
    pub body: Bytes,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The gRPC status where it is not the one mapped from `status`.
    pub grpc_status: Option<u8>,
    /// The downstream connection closes after this answer (HTTP/1).
    pub close: bool,
}

impl LocalReply {
    /// An answer with a body of text.
    pub fn new(
        status: StatusCode,
        details: impl Into<Cow<'static, str>>,
        body: impl Into<Bytes>,
    ) -> Self {
        LocalReply {
            status,
            flags: ResponseFlags::NONE,
            details: details.into(),
            body: body.into(),
            headers: Vec::new(),
            grpc_status: None,
            close: false,
        }
    }

    /// The client must go to `location`, which comes from its own request: one that no header can hold is its mistake.
    pub fn redirect(status: StatusCode, location: &str) -> Self {
        let reply = LocalReply::new(status, "direct_response", "");
        match HeaderValue::from_str(location) {
            Ok(location) => reply.header(LOCATION, location),
            Err(_) => LocalReply::new(StatusCode::BAD_REQUEST, "direct_response", ""),
        }
    }

    /// The same with the `location` of a direct response that says where something is: where it was asked for.
    pub fn at_own_location(self, wanted: &RouteRequest<'_>) -> Self {
        let location = format!("{}://{}{}", wanted.scheme, wanted.authority, wanted.path);
        match HeaderValue::from_str(&location) {
            Ok(location) => self.header(LOCATION, location),
            Err(_) => self,
        }
    }

    /// The same with response flags.
    pub fn flag(mut self, flags: ResponseFlags) -> Self {
        self.flags = flags;
        self
    }

    /// The same with one more header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same, and the connection closes after it.
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// The answer as HTTP, or as gRPC has it when the request was gRPC: status 200, trailers only.
    pub fn response(self, grpc: bool, head: bool) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        if grpc {
            let status = self.grpc_status.unwrap_or_else(|| grpc_status(self.status));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(u16::from(status)));
            if !self.body.is_empty() {
                headers.insert("grpc-message", grpc_message(&self.body));
            }
        } else if !self.body.is_empty() {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        set(headers, self.headers, grpc);
        if !grpc {
            *response.status_mut() = self.status;
            if !head {
                *response.body_mut() = self.body;
            }
        }
        response
    }
}

/// Adds further headers. A content type replaces the one of plain text, but not that of gRPC.
fn set(headers: &mut HeaderMap, more: Vec<(HeaderName, HeaderValue)>, grpc: bool) {
    for (name, value) in more {
        match name {
            CONTENT_TYPE if grpc => {}
            CONTENT_TYPE => {
                headers.insert(CONTENT_TYPE, value);
            }
            name => {
                headers.append(name, value);
            }
        }
    }
}

/// The gRPC status for an HTTP status (gRPC's `http-grpc-status-mapping.md`).
fn grpc_status(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Percent-encodes what a `grpc-message` may not hold.
fn grpc_message(text: &[u8]) -> HeaderValue {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    HeaderValue::from_bytes(&out).expect("printable ASCII is legal in a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_request_gets_trailers_only() {
        let reply = LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, "x", "no healthy upstream\n");
        let response = reply.response(true, false);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "no healthy upstream%0A");
        assert!(response.body().is_empty() && response.headers().get(CONTENT_LENGTH).is_none());
    }

    #[test]
    fn a_head_request_gets_the_length_without_the_body() {
        let response = LocalReply::new(StatusCode::NOT_FOUND, "x", "gone").response(false, true);
        assert_eq!(response.headers()[CONTENT_LENGTH], "4");
        assert!(response.body().is_empty());
    }
}
