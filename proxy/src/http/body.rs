//! The two bodies of a stream: the request's on its way up, the response's on its way down.

use std::borrow::Cow;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http::reset;
use crate::http::stream::{Shared, Stream};
use crate::io::BodyError;
use crate::io::deadline::Deadline;
use crate::telemetry::response_flags::ResponseFlags;
use crate::upstream::pool::{ResetReason, ResponseLease};

/// The downstream's request body, counted on its way upstream.
pub struct RequestBody {
    inner: Incoming,
    shared: Rc<Shared>,
    trailers: bool,
}

impl RequestBody {
    /// Wraps the body of the stream that `shared` belongs to. Without `trailers`, they are dropped.
    pub fn new(inner: Incoming, shared: Rc<Shared>, trailers: bool) -> Self {
        RequestBody { inner, shared, trailers }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => {
                this.shared.complete_request();
                return Poll::Ready(None);
            }
        };
        this.shared.touch();
        if let Some(data) = frame.data_ref() {
            this.shared.info.borrow_mut().bytes_received += data.len() as u64;
        }
        let dropped = frame.is_trailers() && !this.trailers;
        if frame.is_trailers() || this.inner.is_end_stream() {
            this.shared.complete_request();
        }
        Poll::Ready((!dropped).then_some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Where a response's body comes from.
pub enum Source {
    /// The proxy itself.
    Local(Bytes),
    /// An upstream host, over a leased connection.
    Upstream {
        /// The body.
        body: Incoming,
        /// Given back when the body has ended.
        lease: Option<ResponseLease>,
        /// Whether trailers pass.
        trailers: bool,
    },
}

/// The limits on a response that streams.
#[derive(Clone, Copy, Default)]
pub struct Limits {
    /// `stream_idle_timeout`
    pub idle: Option<Duration>,
    /// When the route's timeout or the longest duration of the stream is over.
    pub until: Option<Instant>,
}

/// The response's body on its way downstream.
pub enum ResponseBody {
    /// It streams.
    Stream(Box<StreamBody>),
    /// There is none, and the stream lives on elsewhere: the connection becomes a tunnel.
    Detached,
}

impl ResponseBody {
    /// The body of `stream`'s response.
    pub fn new(source: Source, stream: Stream, limits: Limits) -> Self {
        let deadline = Deadline::default();
        ResponseBody::Stream(Box::new(StreamBody {
            source,
            stream,
            limits,
            deadline,
            ended: false,
        }))
    }
}

/// A response's body. It owns the stream, which is recorded when this is dropped.
pub struct StreamBody {
    source: Source,
    stream: Stream,
    limits: Limits,
    deadline: Deadline,
    ended: bool,
}

/// Why a response broke off after it had started.
#[derive(Debug, thiserror::Error)]
pub enum ResponseBroken {
    /// The upstream broke off.
    #[error("upstream reset after the response had started: {reason}")]
    Upstream {
        /// The reason.
        reason: ResetReason,
        /// What the codec says: an HTTP/2 reason passes on.
        source: Option<hyper::Error>,
    },
    /// A timer of the proxy ended the stream.
    #[error("{0}")]
    Timeout(&'static str),
}

impl StreamBody {
    fn end(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        if let Source::Upstream { lease, .. } = &mut self.source {
            let mut info = self.stream.shared.info.borrow_mut();
            info.upstream.last_rx = Some(self.stream.shared.last_activity() - info.start);
            drop(info);
            if let Some(lease) = lease.take() {
                lease.finish();
            }
        }
        self.stream.complete();
    }

    /// Counts a frame, and keeps trailers where somebody may ask for them.
    fn observe(&mut self, frame: &Frame<Bytes>) {
        self.stream.shared.touch();
        if let Some(data) = frame.data_ref() {
            self.stream.shared.info.borrow_mut().bytes_sent += data.len() as u64;
        }
        if let Some(trailers) = frame.trailers_ref()
            && self.stream.connection.manager.keeps_heads
            && self.passes_trailers()
        {
            self.stream.trailers = Some(Box::new(trailers.clone()));
        }
        if frame.is_trailers() || self.is_source_end() {
            self.end();
        }
    }

    fn passes_trailers(&self) -> bool {
        matches!(self.source, Source::Upstream { trailers: true, .. })
    }

    fn is_source_end(&self) -> bool {
        match &self.source {
            Source::Local(bytes) => bytes.is_empty(),
            Source::Upstream { body, .. } => body.is_end_stream(),
        }
    }

    /// The upstream broke off, or a timer ended the stream: said in the stream's facts, passed on as a reset.
    fn broken(
        &mut self,
        flag: ResponseFlags,
        details: impl Into<Cow<'static, str>>,
        error: ResponseBroken,
    ) -> BodyError {
        let stats = &self.stream.connection.manager.stats;
        stats.rq_reset_after_downstream_response_started.inc();
        let mut info = self.stream.shared.info.borrow_mut();
        info.flags.insert(flag);
        info.details = Some(details.into());
        drop(info);
        error.into()
    }

    /// The upstream broke off: counted where its connection is kept.
    fn upstream_broke(&mut self, error: hyper::Error) -> BodyError {
        let lease = match &mut self.source {
            Source::Upstream { lease, .. } => lease.take(),
            Source::Local(_) => None,
        };
        // The lease is there until the body has ended, well or not.
        let Some(lease) = lease else { return error.into() };
        let failed = lease.failed(error);
        let details = reset::details(true, failed.reason, failed.transport_failure.as_deref());
        let broken = ResponseBroken::Upstream { reason: failed.reason, source: failed.source };
        self.broken(reset::flag(failed.reason), details, broken)
    }

    /// Whether a limit has passed while the body had nothing to give.
    fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let idle_at = self.limits.idle.map(|idle| self.stream.shared.last_activity() + idle);
        let until = self.limits.until;
        let at = idle_at.into_iter().chain(until).min();
        ready!(self.deadline.poll(cx, at));
        let stats = &self.stream.connection.manager.stats;
        let error = if at == idle_at {
            stats.downstream_rq_idle_timeout.inc();
            self.broken(
                ResponseFlags::STREAM_IDLE_TIMEOUT,
                "stream_idle_timeout",
                ResponseBroken::Timeout("stream timeout"),
            )
        } else {
            stats.downstream_rq_max_duration_reached.inc();
            self.broken(
                ResponseFlags::UPSTREAM_REQUEST_TIMEOUT,
                "response_timeout",
                ResponseBroken::Timeout("upstream request timeout"),
            )
        };
        Poll::Ready(error)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self;
        let polled = match &mut this.source {
            Source::Local(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Local(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Upstream { body, .. } => Pin::new(body).poll_frame(cx),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.observe(&frame);
                let dropped = frame.is_trailers() && !this.passes_trailers();
                Poll::Ready((!dropped).then_some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(this.upstream_broke(error)))),
            Poll::Pending => this.poll_limits(cx).map(|error| Some(Err(error))),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            ResponseBody::Stream(stream) => stream.poll_next(cx),
            ResponseBody::Detached => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Stream(stream) => stream.is_source_end(),
            ResponseBody::Detached => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let ResponseBody::Stream(stream) = self else { return SizeHint::with_exact(0) };
        match &stream.source {
            Source::Local(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Upstream { body, .. } => body.size_hint(),
        }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        // hyper does not poll a body that says it has ended.
        if self.is_source_end() {
            self.end();
        }
    }
}
