//! An attempt that failed before the response's head: what the client is told, and what the access log says.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use crate::http::local_reply::LocalReply;
use crate::http::request;
use crate::http::reset;
use crate::http::sanitize::names;
use crate::http::stream::Stream;
use crate::upstream::pool::{PoolError, ResetReason, SendError};

/// Why an attempt failed.
pub struct Failed {
    reason: ResetReason,
    /// What the transport said.
    detail: Option<Arc<str>>,
    /// Whether something of the request has been sent.
    pub is_sent: bool,
}

impl Failed {
    /// The host cannot do what the request needs.
    pub fn protocol_error() -> Self {
        Failed { reason: ResetReason::ProtocolError, detail: None, is_sent: true }
    }

    /// This side has given the attempt up.
    pub fn given_up() -> Self {
        Failed { reason: ResetReason::LocalReset, detail: None, is_sent: true }
    }

    /// Why, in one word.
    pub fn reason(&self) -> ResetReason {
        self.reason
    }
}

impl From<PoolError> for Failed {
    fn from(error: PoolError) -> Self {
        Failed { reason: error.reason, detail: error.transport_failure, is_sent: false }
    }
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Self {
        let is_sent = error.unsent.is_none();
        Failed { reason: error.reason, detail: error.transport_failure, is_sent }
    }
}

/// The answer for a failed attempt, in Envoy's words. Only the access log learns what the transport said.
pub fn reply_to(failed: Failed, stream: &Stream, is_retry: bool) -> LocalReply {
    let connection = &stream.connection;
    if let Some(refusal) = stream.shared.broken() {
        return request::refused(refusal, connection);
    }
    let Failed { reason, detail, .. } = failed;
    let retried = if is_retry { "retried and the latest " } else { "" };
    let text = format!(
        "upstream connect error or disconnect/reset before headers. {retried}reset reason: {reason}"
    );
    let details = reset::details(false, reason, detail.as_deref());
    stream.shared.info.borrow_mut().upstream.transport_failure = detail;
    let status = match reason {
        ResetReason::ProtocolError => StatusCode::BAD_GATEWAY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let reply = LocalReply::new(status, details, text).flag(reset::flag(reason));
    match reason {
        ResetReason::Overflow => {
            reply.header(names::X_ENVOY_OVERLOADED.clone(), HeaderValue::from_static("true"))
        }
        _ => reply,
    }
}
