//! A request's body that more than one attempt may read.
//!
//! It is read from the downstream once, at the pace of the attempt that reads it, and kept up to a limit: what another
//! attempt or a mirror needs of it is here. Beyond the limit nothing is kept any more, and only the attempt that reads on
//! gets the rest.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::io::{Body, BodyError};
use crate::upstream::cluster::TrafficStats;

/// A body that can be read several times while it is kept.
pub struct Replay(Rc<RefCell<Inner>>);

/// What has come of the body, and where the rest comes from.
struct Inner {
    source: Body,
    whole: SizeHint,
    /// Everything that came, as long as it is kept.
    kept: Vec<Kept>,
    is_kept: bool,
    bytes: u64,
    limit: u64,
    /// How many frames came.
    came: usize,
    end: End,
    /// Readers that wait for more.
    waiting: Vec<Waker>,
    stats: Arc<TrafficStats>,
}

/// One frame.
#[derive(Clone)]
enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    Good,
    Broken,
}

/// A reader came too late, or the downstream broke off.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the request's body is not kept any more")]
    NotKept,
    #[error("the request's body broke off")]
    Broken,
}

impl Replay {
    /// Keeps up to `limit` bytes of what comes from `source`. `stats` count it if that is not enough.
    pub fn new(source: Body, limit: u64, stats: &Arc<TrafficStats>) -> Self {
        Replay(Rc::new(RefCell::new(Inner {
            whole: source.size_hint(),
            source,
            kept: Vec::new(),
            is_kept: true,
            bytes: 0,
            limit,
            came: 0,
            end: End::NotYet,
            waiting: Vec::new(),
            stats: Arc::clone(stats),
        })))
    }

    /// The body for an attempt, which reads on where nobody has read yet.
    pub fn leader(&self) -> Body {
        Body::stream(Reader { inner: Rc::clone(&self.0), read: 0, leads: true })
    }

    /// The body for a mirror, which gets only what an attempt has read: a slow mirror holds nobody up.
    pub fn follower(&self) -> Body {
        Body::stream(Reader { inner: Rc::clone(&self.0), read: 0, leads: false })
    }

    /// Whether another attempt would get the whole body.
    pub fn is_kept(&self) -> bool {
        self.0.borrow().is_kept
    }

    /// Keeps nothing more, unless mirrors still read.
    pub fn stop_keeping(&self, has_followers: bool) {
        if !has_followers {
            self.0.borrow_mut().forget();
        }
    }

    /// Reads while no attempt does. Ready once the body has outgrown the limit.
    pub fn poll_outgrown(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.0.borrow_mut();
        while inner.is_kept && inner.end == End::NotYet {
            if ready!(inner.poll_more(cx)).is_none() {
                break;
            }
        }
        if inner.is_kept { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Inner {
    fn forget(&mut self) {
        self.is_kept = false;
        self.kept = Vec::new();
    }

    /// The next frame from the downstream; none at its end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Kept, BodyError>>> {
        let polled = Pin::new(&mut self.source).poll_frame(cx);
        if polled.is_pending() {
            self.wait(cx);
        }
        let frame = match ready!(polled) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Kept::Data(data),
                Err(frame) => Kept::Trailers(frame.into_trailers().unwrap_or_default()),
            },
            other => {
                self.end = if other.is_none() { End::Good } else { End::Broken };
                self.wake();
                return Poll::Ready(other.map(|frame| frame.map(|_| Kept::Data(Bytes::new()))));
            }
        };
        self.came += 1;
        if self.source.is_end_stream() {
            self.end = End::Good;
        }
        self.keep(&frame);
        self.wake();
        Poll::Ready(Some(Ok(frame)))
    }

    fn keep(&mut self, frame: &Kept) {
        if !self.is_kept {
            return;
        }
        if let Kept::Data(data) = frame {
            self.bytes += data.len() as u64;
        }
        if self.bytes > self.limit {
            self.stats.retry_or_shadow_abandoned.inc();
            self.forget();
        } else {
            self.kept.push(frame.clone());
        }
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waiting.iter().any(|waiting| waiting.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
    }

    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

/// One reading of a body.
struct Reader {
    inner: Rc<RefCell<Inner>>,
    /// How many frames it has read.
    read: usize,
    leads: bool,
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut inner = this.inner.borrow_mut();
        let next = if this.read < inner.came {
            match inner.kept.get(this.read) {
                Some(kept) => Some(Ok(kept.clone())),
                None => return Poll::Ready(Some(Err(ReadError::NotKept.into()))),
            }
        } else {
            match inner.end {
                End::Good => None,
                End::Broken => Some(Err(ReadError::Broken.into())),
                End::NotYet if this.leads => ready!(inner.poll_more(cx)),
                End::NotYet => {
                    inner.wait(cx);
                    return Poll::Pending;
                }
            }
        };
        Poll::Ready(next.map(|next| {
            this.read += 1;
            next.map(|kept| match kept {
                Kept::Data(data) => Frame::data(data),
                Kept::Trailers(trailers) => Frame::trailers(trailers),
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        let inner = self.inner.borrow();
        self.read == inner.came && inner.end == End::Good
    }

    fn size_hint(&self) -> SizeHint {
        match self.read {
            0 => self.inner.borrow().whole.clone(),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Whoever waits may be the one who has to read now.
        self.inner.borrow_mut().wake();
    }
}

#[cfg(test)]
mod tests;
