//! An attempt that failed before the response's head: what the client is told, and what the access log says.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use crate::http::local_reply::LocalReply;
use crate::http::request;
use crate::http::sanitize::names;
use crate::http::stream::Stream;
use crate::telemetry::response_flags::ResponseFlags;
use crate::upstream::pool::{PoolError, ResetReason, SendError};

/// Why an attempt failed.
pub struct Failed {
    reason: ResetReason,
    /// What the transport said.
    detail: Option<Arc<str>>,
}

impl Failed {
    /// The upstream does not do what the protocol, or the upgrade, needs.
    pub const PROTOCOL: Failed = Failed { reason: ResetReason::ProtocolError, detail: None };
}

impl From<PoolError> for Failed {
    fn from(error: PoolError) -> Self {
        Failed { reason: error.reason, detail: error.transport_failure }
    }
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Self {
        Failed { reason: error.reason, detail: error.transport_failure }
    }
}

/// The answer for a failed attempt, in Envoy's words.
pub fn reply_to(failed: Failed, stream: &Stream) -> LocalReply {
    let connection = &stream.connection;
    if connection.verdicts.is_broken(connection.requests()) {
        return request::broken_body(connection);
    }
    let Failed { reason, detail } = failed;
    let why = reason.as_str();
    let transport = detail.as_deref();
    let mut text =
        format!("upstream connect error or disconnect/reset before headers. reset reason: {why}");
    let mut details = format!("upstream_reset_before_response_started{{{why}");
    if let Some(transport) = transport {
        text.push_str(&format!(", transport failure reason: {transport}"));
        details.push_str(&format!("|{transport}"));
        stream.shared.info.borrow_mut().upstream.transport_failure = Some(transport.into());
    }
    details.push('}');
    let details = details.replace(|c: char| c.is_ascii_whitespace(), "_");
    let status = match reason {
        ResetReason::ProtocolError => StatusCode::BAD_GATEWAY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let reply = LocalReply::new(status, details, text).flag(flag(reason));
    match reason {
        ResetReason::Overflow => {
            reply.header(names::X_ENVOY_OVERLOADED.clone(), HeaderValue::from_static("true"))
        }
        _ => reply,
    }
}

fn flag(reason: ResetReason) -> ResponseFlags {
    match reason {
        ResetReason::LocalConnectionFailure
        | ResetReason::RemoteConnectionFailure
        | ResetReason::ConnectionTimeout => ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
        ResetReason::ConnectionTermination => ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
        ResetReason::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
        ResetReason::RemoteReset | ResetReason::RemoteRefusedStreamReset => {
            ResponseFlags::UPSTREAM_REMOTE_RESET
        }
        ResetReason::ProtocolError => ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
        ResetReason::LocalReset => ResponseFlags::LOCAL_RESET,
    }
}
