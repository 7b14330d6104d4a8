//! What an endpoint answers.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, SERVER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use super::json;

const TEXT: &str = "text/plain; charset=UTF-8";
const HTML: &str = "text/html; charset=UTF-8";
const JSON: &str = "application/json";

/// An answer that is there, or the work that makes it.
pub(super) enum Answer {
    Now(Reply),
    /// To be called on another thread.
    Later(Box<dyn FnOnce() -> Reply + Send>),
}

/// An answer as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn later(print: impl FnOnce() -> Reply + Send + 'static) -> Answer {
        Answer::Later(Box::new(print))
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer::Now(reply)
    }
}

impl Reply {
    pub(super) fn text(body: impl Into<String>) -> Reply {
        Reply { status: StatusCode::OK, content_type: TEXT, body: body.into() }
    }

    pub(super) fn html(body: String) -> Reply {
        Reply { status: StatusCode::OK, content_type: HTML, body }
    }

    /// `value` in Envoy's layout.
    pub(super) fn json(value: &Value) -> Reply {
        Reply::raw_json(json::pretty(value))
    }

    pub(super) fn raw_json(body: String) -> Reply {
        Reply { status: StatusCode::OK, content_type: JSON, body }
    }

    pub(super) fn error(status: StatusCode, body: impl Into<String>) -> Reply {
        Reply { status, content_type: TEXT, body: body.into() }
    }

    pub(super) fn bad_request(body: impl Into<String>) -> Reply {
        Reply::error(StatusCode::BAD_REQUEST, body)
    }

    /// What a command answers that has nothing to show.
    pub(super) fn ok() -> Reply {
        Reply::text("OK\n")
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(SERVER, HeaderValue::from_static("envoy"));
        response
    }
}
