//! The two bodies of a stream: the request's on its way up, the response's on its way down.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http::h1::Refusal;
use crate::http::overdue::Limits;
use crate::http::reset;
use crate::http::stream::{Shared, Stream};
use crate::io::{BodyError, CodecError, Incoming, h1};
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
            Some(Err(error)) => {
                match error {
                    CodecError::Http1(h1::Error::Malformed(_)) => {
                        this.shared.note_broken(Refusal::SYNTAX);
                    }
                    CodecError::Http1(h1::Error::TooLarge(_)) => {
                        this.shared.note_broken(Refusal::TOO_LARGE);
                    }
                    _ => {}
                }
                return Poll::Ready(Some(Err(error.into())));
            }
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
        ResponseBody::Stream(Box::new(StreamBody::new(source, stream, limits)))
    }
}

/// A response's body. It owns the stream, which is recorded when this is dropped.
pub struct StreamBody {
    source: Source,
    stream: Stream,
    ended: bool,
}

/// The upstream broke off a response that had started.
#[derive(Debug, thiserror::Error)]
#[error("upstream reset after the response had started: {reason}")]
pub struct ResponseBroken {
    /// The reason.
    pub reason: ResetReason,
    /// What the codec says: an HTTP/2 reason passes on.
    pub source: Option<CodecError>,
}

impl StreamBody {
    /// The body of `stream`'s response.
    pub fn new(source: Source, stream: Stream, limits: Limits) -> Self {
        stream.shared.limits.set(limits);
        StreamBody { source, stream, ended: false }
    }

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
        if let (Some(trailers), Source::Upstream { lease: Some(lease), .. }) =
            (frame.trailers_ref(), &self.source)
        {
            lease.note_trailers(trailers);
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

    /// The upstream broke off: counted where its connection is kept, said in the stream's facts, passed on as a reset.
    fn upstream_broke(&mut self, error: CodecError) -> BodyError {
        let lease = match &mut self.source {
            Source::Upstream { lease, .. } => lease.take(),
            Source::Local(_) => None,
        };
        // The lease is there until the body has ended, well or not.
        let Some(lease) = lease else { return error.into() };
        let failed = lease.failed(error);
        let stats = &self.stream.connection.manager.stats;
        stats.rq_reset_after_downstream_response_started.inc();
        let mut info = self.stream.shared.info.borrow_mut();
        info.flags.insert(reset::flag(failed.reason));
        info.details =
            Some(reset::details(true, failed.reason, failed.transport_failure.as_deref()).into());
        drop(info);
        ResponseBroken { reason: failed.reason, source: failed.source }.into()
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
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
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_source_end()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Local(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Upstream { body, .. } => body.size_hint(),
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
            ResponseBody::Stream(stream) => Pin::new(stream.as_mut()).poll_frame(cx),
            ResponseBody::Detached => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Stream(stream) => stream.is_end_stream(),
            ResponseBody::Detached => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Stream(stream) => stream.size_hint(),
            ResponseBody::Detached => SizeHint::with_exact(0),
        }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        // A codec does not poll a body that says it has ended.
        if self.is_source_end() {
            self.end();
        }
    }
}
