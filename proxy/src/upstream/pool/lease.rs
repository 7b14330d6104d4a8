//! One request's place on a connection, from the checkout to the end of its response.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Response, StatusCode};

use super::connection::Connection;
use super::{PoolError, ResetReason, SendError};
use crate::io::{Address, Body, CodecError, Incoming};
use crate::telemetry::stream_info::{Protocol, TlsInfo};
use crate::upstream::count::RequestCount;

/// How often a request that a connection gave back unsent is put on another one.
const MAX_RESENDS: usize = 3;

/// A request on a connection.
pub(super) struct Stream {
    connection: Rc<Connection>,
    /// The request was handed over and its response has not ended.
    is_in_flight: bool,
    _count: RequestCount,
}

impl Stream {
    /// Takes a place on a connection that has room.
    ///
    /// # Errors
    /// The circuit breaker of requests is open; the connection is as before.
    pub(super) fn start(connection: &Rc<Connection>) -> Result<Self, PoolError> {
        let pool = &connection.pool;
        let count = RequestCount::start(pool.cluster(), pool.host(), pool.priority())?;
        connection.begin_stream();
        Ok(Stream { connection: Rc::clone(connection), is_in_flight: false, _count: count })
    }

    /// A place on another connection to the host.
    async fn replace(self) -> Result<Self, PoolError> {
        let pool = Rc::clone(&self.connection.pool);
        drop(self);
        pool.lease().await.map(|lease| lease.stream)
    }

    /// A place on a new connection to the host, after the one before was lost.
    async fn replay(self) -> Result<Self, PoolError> {
        let pool = Rc::clone(&self.connection.pool);
        pool.cluster().stats().upstream_rq_reuse_race.inc();
        drop(self);
        pool.new_connection().await
    }

    /// Whether the connection ended before any byte of the response.
    fn is_lost(&self, error: &CodecError) -> bool {
        !self.connection.has_begun_response()
            && ResetReason::of(error, false) == ResetReason::ConnectionTermination
    }

    /// A copy of a request without a body, where the connection keeps none itself and the host may close it any time.
    fn copy(&self, request: &Request<Body>) -> Option<Box<Request<Body>>> {
        if self.connection.protocol != Protocol::Http2 || !self.connection.was_idle() {
            return None;
        }
        let mut copy = Request::new(Body::Empty);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        Some(Box::new(copy))
    }

    /// What the caller is told when hyper gave up on the request.
    fn failed(mut self, error: CodecError, unsent: Option<Box<Request<Body>>>) -> SendError {
        let transport_failure = self.connection.transport_failure();
        let reason = match transport_failure {
            Some(_) => ResetReason::ConnectionTermination,
            None => ResetReason::of(&error, self.connection.has_begun_response()),
        };
        let stats = self.connection.pool.cluster().stats();
        match reason {
            ResetReason::ProtocolError => stats.upstream_cx_protocol_error.inc(),
            ResetReason::RemoteReset => stats.upstream_rq_rx_reset.inc(),
            ResetReason::LocalReset => stats.upstream_rq_tx_reset.inc(),
            _ => {}
        }
        if self.connection.protocol == Protocol::Http2 {
            // The stream has ended, however badly.
            self.is_in_flight = false;
        }
        SendError {
            reason,
            transport_failure,
            is_reused: self.connection.is_reused(),
            unsent,
            source: Some(error),
        }
    }
}

impl Stream {
    /// What the caller is told of a response that hyper took but nobody should.
    fn refused(self) -> SendError {
        self.connection.pool.cluster().stats().upstream_cx_protocol_error.inc();
        SendError {
            reason: ResetReason::ProtocolError,
            transport_failure: None,
            is_reused: self.connection.is_reused(),
            unsent: None,
            source: None,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // HTTP/1 can only give a request up with its connection; on HTTP/2 dropping the response resets the stream.
        if self.is_in_flight {
            if self.connection.protocol == Protocol::Http2 {
                self.connection.pool.cluster().stats().upstream_rq_tx_reset.inc();
            } else {
                self.connection.abort();
            }
        }
        self.connection.end_stream();
    }
}

/// A place for one request on a connection. Dropped unused, it gives the connection back.
pub struct HttpLease {
    stream: Stream,
    may_replay: bool,
}

impl HttpLease {
    pub(super) fn new(stream: Stream) -> Self {
        HttpLease { stream, may_replay: false }
    }

    /// Our end of the connection.
    pub fn local_address(&self) -> Option<&Address> {
        self.stream.connection.ends.local.as_ref()
    }

    /// The TLS session with the host, if there is one.
    pub fn tls(&self) -> Option<&Arc<TlsInfo>> {
        self.stream.connection.ends.tls.as_ref()
    }

    /// HTTP/1.1 or HTTP/2.
    pub fn protocol(&self) -> Protocol {
        self.stream.connection.protocol
    }

    /// The connection's number within the worker.
    pub fn connection_id(&self) -> u64 {
        self.stream.connection.id
    }

    /// Whether the connection has carried a request before.
    pub fn is_reused(&self) -> bool {
        self.stream.connection.is_reused()
    }

    /// Lets [`send`](Self::send) send a request without a body once more, on a new connection, if this one has served
    /// others before and ends before any byte of a response. For requests that may be sent twice.
    pub fn allow_replay(&mut self) {
        self.may_replay = self.is_reused();
    }

    /// Sends a request and waits for its response's headers. HTTP/1 wants the URI in origin form with a `Host`
    /// header, HTTP/2 with scheme and authority. A request that the connection gives back unsent (the host closed it
    /// just now) goes to another connection of the host. Dropping the future resets the request.
    ///
    /// # Errors
    /// The reset's reason; see [`SendError`] on whether the request may be sent again.
    pub async fn send(
        self,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, ResponseLease), SendError> {
        let mut stream = self.stream;
        let mut may_replay = self.may_replay;
        let mut resends = 0;
        loop {
            let is_connect = request.method() == Method::CONNECT;
            let copy = if may_replay { stream.copy(&request) } else { None };
            let sent = stream.connection.send(request, may_replay);
            stream.is_in_flight = true;
            let mut error = match sent.await {
                Ok(response) => {
                    if stream.connection.protocol != Protocol::Http2 && has_odd_framing(&response) {
                        return Err(stream.refused());
                    }
                    if stream.connection.protocol != Protocol::Http2
                        && is_tunnel(response.status(), is_connect)
                    {
                        stream.connection.upgraded();
                    }
                    return Ok((response, ResponseLease { stream }));
                }
                Err(error) => error,
            };
            let unsent = error.unsent.take();
            let replaced = match unsent {
                Some(unsent) if resends < MAX_RESENDS => {
                    request = *unsent;
                    stream.replace().await
                }
                None if may_replay && stream.is_lost(&error.error) => {
                    match copy.map(|copy| *copy).or_else(|| stream.connection.kept_request()) {
                        Some(again) => request = again,
                        None => return Err(stream.failed(error.error, None)),
                    }
                    may_replay = false;
                    stream.replay().await
                }
                unsent => return Err(stream.failed(error.error, unsent)),
            };
            resends += 1;
            stream = match replaced {
                Ok(stream) => stream,
                Err(error) => {
                    return Err(SendError { unsent: Some(Box::new(request)), ..error.into() });
                }
            };
        }
    }
}

/// Whether two readers may see the end of a response's body at two places: a length beside chunks, or another encoding.
fn has_odd_framing<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(encoding) = encodings.next() else { return false };
    !encoding.as_bytes().eq_ignore_ascii_case(b"chunked")
        || encodings.next().is_some()
        || headers.contains_key(CONTENT_LENGTH)
}

/// Whether a response turns an HTTP/1 connection into a tunnel.
fn is_tunnel(status: StatusCode, is_connect: bool) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (is_connect && status.is_success())
}

/// The connection while it carries a response. Dropped before [`finish`](Self::finish), it resets the request: an
/// HTTP/1 connection closes; on HTTP/2 dropping the response's body resets the stream.
pub struct ResponseLease {
    stream: Stream,
}

impl ResponseLease {
    /// The connection takes no further request.
    pub fn retire(&self) {
        self.stream.connection.drain();
    }

    /// Takes over what the response's trailers say of the host, where the cluster's policy wants to know.
    pub fn note_trailers(&self, trailers: &HeaderMap) {
        let pool = &self.stream.connection.pool;
        pool.cluster().note_trailers(pool.host(), trailers);
    }

    /// The response has ended in good order: the connection is free for the next request.
    pub fn finish(mut self) {
        self.stream.is_in_flight = false;
    }

    /// Counts the reset that ended the response's body, and tells its reason.
    pub fn failed(self, error: CodecError) -> SendError {
        self.stream.failed(error, None)
    }
}
