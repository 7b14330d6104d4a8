//! A request's body that more than one attempt may read.
//!
//! It is read from the downstream once, at the pace of the attempt that reads it, and kept up to a limit: what another
//! attempt or a mirror needs of it is here. Beyond the limit there can be no further attempt, and only what mirrors have
//! still to read is kept; a mirror that falls behind by more than the limit gets no more.

use std::cell::RefCell;
use std::collections::VecDeque;
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
    /// The last frames that came: all of them while the body is kept.
    kept: VecDeque<Kept>,
    is_kept: bool,
    /// How many bytes are kept.
    bytes: u64,
    limit: u64,
    /// How many frames each mirror has read.
    mirrors: Vec<usize>,
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

impl Kept {
    fn len(&self) -> u64 {
        match self {
            Kept::Data(data) => data.len() as u64,
            Kept::Trailers(_) => 0,
        }
    }
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
    /// Keeps up to `limit` bytes of what comes from `source`: for further attempts if `is_kept` says so, else only for
    /// mirrors. `stats` count it if the limit is not enough.
    pub fn new(source: Body, is_kept: bool, limit: u64, stats: &Arc<TrafficStats>) -> Self {
        Replay(Rc::new(RefCell::new(Inner {
            whole: source.size_hint(),
            source,
            kept: VecDeque::new(),
            is_kept,
            bytes: 0,
            limit,
            mirrors: Vec::new(),
            came: 0,
            end: End::NotYet,
            waiting: Vec::new(),
            stats: Arc::clone(stats),
        })))
    }

    /// The body for an attempt, which reads on where nobody has read yet.
    pub fn leader(&self) -> Body {
        Body::stream(Reader { inner: Rc::clone(&self.0), read: 0, mirror: None })
    }

    /// The body for a mirror, which gets only what an attempt has read: a slow mirror holds nobody up.
    pub fn follower(&self) -> Body {
        let mut inner = self.0.borrow_mut();
        let mirror = Some(inner.mirrors.len());
        inner.mirrors.push(0);
        Body::stream(Reader { inner: Rc::clone(&self.0), read: 0, mirror })
    }

    /// Whether another attempt would get the whole body.
    pub fn is_kept(&self) -> bool {
        self.0.borrow().is_kept
    }

    /// There will be no further attempt: keeps only what mirrors have still to read.
    pub fn stop_keeping(&self) {
        let mut inner = self.0.borrow_mut();
        inner.is_kept = false;
        inner.trim();
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
    /// Drops what nobody will read.
    fn trim(&mut self) {
        if self.is_kept {
            return;
        }
        let next = self.mirrors.iter().copied().min().unwrap_or(self.came);
        while self.came - self.kept.len() < next
            && let Some(dropped) = self.kept.pop_front()
        {
            self.bytes -= dropped.len();
        }
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
        self.bytes += frame.len();
        self.kept.push_back(frame.clone());
        self.trim();
        if self.bytes > self.limit && self.is_kept {
            self.stats.retry_or_shadow_abandoned.inc();
            self.is_kept = false;
            self.trim();
        }
        if self.bytes > self.limit && !self.mirrors.is_empty() {
            // Whoever reads too slowly gets an error in place of what it has missed.
            self.mirrors.clear();
            self.trim();
        }
    }

    fn mirror_has_read(&mut self, mirror: Option<usize>, frames: usize) {
        if let Some(read) = mirror.and_then(|mirror| self.mirrors.get_mut(mirror)) {
            *read = frames;
            self.trim();
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
    /// Which mirror it is for, if it is for one.
    mirror: Option<usize>,
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
            let gone = inner.came - inner.kept.len();
            match this.read.checked_sub(gone).and_then(|place| inner.kept.get(place)) {
                Some(kept) => Some(Ok(kept.clone())),
                None => return Poll::Ready(Some(Err(ReadError::NotKept.into()))),
            }
        } else {
            match inner.end {
                End::Good => None,
                End::Broken => Some(Err(ReadError::Broken.into())),
                End::NotYet if this.mirror.is_none() => ready!(inner.poll_more(cx)),
                End::NotYet => {
                    inner.wait(cx);
                    return Poll::Pending;
                }
            }
        };
        this.read += usize::from(next.is_some());
        inner.mirror_has_read(this.mirror, this.read);
        Poll::Ready(next.map(|next| {
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
            0 => self.inner.borrow().whole,
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut inner = self.inner.borrow_mut();
        inner.mirror_has_read(self.mirror, usize::MAX);
        // Whoever waits may be the one who has to read now.
        inner.wake();
    }
}

#[cfg(test)]
mod tests;
