//! Why an attempt ended without a complete answer, in Envoy's words.

use std::sync::Arc;

use http::Request;

use crate::io::{Body, CodecError, h1};
use crate::upstream::connect::ConnectError;

/// The reason of a reset; prints as in `upstream_reset_before_response_started{...}` (before `_` replaces blanks).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// This side could not connect.
    LocalConnectionFailure,
    /// The host refused the connection or its handshake failed.
    RemoteConnectionFailure,
    /// `connect_timeout` expired.
    ConnectionTimeout,
    /// A circuit breaker is open.
    Overflow,
    /// The connection closed while the request was on it.
    ConnectionTermination,
    /// The host reset the stream.
    RemoteReset,
    /// The host refused the stream unprocessed.
    RemoteRefusedStreamReset,
    /// The host broke the protocol.
    ProtocolError,
    /// This side reset the stream: the request's body failed, or the stream was given up.
    LocalReset,
}

impl ResetReason {
    /// Envoy's text.
    pub fn as_str(self) -> &'static str {
        match self {
            ResetReason::LocalConnectionFailure => "local connection failure",
            ResetReason::RemoteConnectionFailure => "remote connection failure",
            ResetReason::ConnectionTimeout => "connection timeout",
            ResetReason::Overflow => "overflow",
            ResetReason::ConnectionTermination => "connection termination",
            ResetReason::RemoteReset => "remote reset",
            ResetReason::RemoteRefusedStreamReset => "remote refused stream reset",
            ResetReason::ProtocolError => "protocol error",
            ResetReason::LocalReset => "local reset",
        }
    }

    /// The reason that an error of a codec comes to, on a request's or on a response body's side. A response that has begun
    /// and is cut off is as broken as one that cannot be parsed.
    pub fn of(error: &CodecError, has_begun: bool) -> ResetReason {
        match error {
            CodecError::Http1(error) => ResetReason::of_http1(error, has_begun),
            CodecError::Http2(error) => ResetReason::of_h2(error),
            CodecError::Body(_) => ResetReason::LocalReset,
        }
    }

    fn of_http1(error: &h1::Error, has_begun: bool) -> ResetReason {
        match error {
            h1::Error::Malformed(_) | h1::Error::TooLarge(_) => ResetReason::ProtocolError,
            h1::Error::Body(_) => ResetReason::LocalReset,
            h1::Error::Cut if has_begun => ResetReason::ProtocolError,
            h1::Error::Cut | h1::Error::Io(_) => ResetReason::ConnectionTermination,
        }
    }

    fn of_h2(error: &h2::Error) -> ResetReason {
        if error.is_io() {
            return ResetReason::ConnectionTermination;
        }
        // A stream above a GOAWAY's last id was not processed either.
        if error.is_remote()
            && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
        {
            return ResetReason::RemoteRefusedStreamReset;
        }
        if error.is_remote() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR) {
            return ResetReason::ProtocolError;
        }
        if error.is_remote() {
            return ResetReason::RemoteReset;
        }
        if error.is_library() { ResetReason::ProtocolError } else { ResetReason::LocalReset }
    }
}

impl std::fmt::Display for ResetReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Envoy's text for a connection whose TLS context waits for a secret.
const NOT_READY: &str = "TLS error: Secret is not supplied by SDS";

/// No connection could be had.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct PoolError {
    /// The reason.
    pub reason: ResetReason,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`
    pub transport_failure: Option<Arc<str>>,
}

impl PoolError {
    /// A circuit breaker is open.
    pub(in crate::upstream) fn overflow() -> Self {
        PoolError { reason: ResetReason::Overflow, transport_failure: None }
    }

    /// The HTTP/2 preface could not be sent.
    pub(in crate::upstream) fn handshake(error: impl std::fmt::Display) -> Self {
        let reason = ResetReason::RemoteConnectionFailure;
        PoolError { reason, transport_failure: Some(error.to_string().into()) }
    }

    /// The worker is ending, or the pool's task was.
    pub(super) fn abandoned() -> Self {
        PoolError { reason: ResetReason::LocalConnectionFailure, transport_failure: None }
    }
}

impl From<ConnectError> for PoolError {
    fn from(error: ConnectError) -> Self {
        let (reason, transport_failure) = match error {
            ConnectError::Local(text) => (ResetReason::LocalConnectionFailure, Some(text)),
            ConnectError::Remote(text) => (ResetReason::RemoteConnectionFailure, Some(text)),
            // As in Envoy, which closes the connection that it has made: it counts as the host's doing.
            ConnectError::NotReady => {
                (ResetReason::RemoteConnectionFailure, Some(NOT_READY.into()))
            }
            ConnectError::Timeout => (ResetReason::ConnectionTimeout, None),
        };
        PoolError { reason, transport_failure }
    }
}

/// A request got no response, or the response broke off.
#[derive(thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    /// The reason.
    pub reason: ResetReason,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`
    pub transport_failure: Option<Arc<str>>,
    /// The connection had carried a request before: a host may close it at any time without having seen this one.
    pub is_reused: bool,
    /// The request, if nothing of it was sent: it may go to any host again.
    pub unsent: Option<Box<Request<Body>>>,
    /// What the codec says, if it came so far. A failed request body is the cause of [`ResetReason::LocalReset`].
    pub source: Option<CodecError>,
}

impl std::fmt::Debug for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendError")
            .field("reason", &self.reason)
            .field("is_reused", &self.is_reused)
            .field("is_unsent", &self.unsent.is_some())
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl From<PoolError> for SendError {
    fn from(error: PoolError) -> Self {
        let PoolError { reason, transport_failure } = error;
        SendError { reason, transport_failure, is_reused: false, unsent: None, source: None }
    }
}
