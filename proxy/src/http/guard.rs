//! The gate in front of hyper's HTTP/1 server: reads every request's head and framing before hyper does.
//!
//! hyper is lenient where a proxy must be strict: it drops `Content-Length` beside `Transfer-Encoding`, takes lines that end
//! in a bare LF, and answers what it cannot parse with a bare 400 that no log sees. The guard lets only whole and good heads
//! through. In place of a bad one hyper gets a stand-in, which the service answers with the [`Refusal`]: so the answer keeps
//! its place behind earlier ones and is counted and logged like any other.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::http::delayed_close::DelayedClose;
use crate::io::deadline::Deadline;

mod body;
mod charset;
mod head;

use body::Body;
pub use charset::valid_authority;
pub use head::{Refusal, Rules};
use head::{Search, search};

/// What hyper reads in place of a head that is refused.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\n\r\n";

/// What the guard has found out, for the service. Requests are counted from 1; each of these ends the reading of requests,
/// and so happens at most once.
#[derive(Default)]
pub struct Verdicts {
    refusal: OnceLock<(u32, Refusal)>,
    tunnel: OnceLock<u32>,
    broken: OnceLock<u32>,
}

impl Verdicts {
    /// Why this request is refused, if it is.
    pub fn refusal(&self, request: u32) -> Option<Refusal> {
        let (number, refusal) = self.refusal.get()?;
        (*number == request).then_some(*refusal)
    }

    /// Whether what follows this request belongs to a tunnel, so that no further request can be read.
    pub fn is_tunnel(&self, request: u32) -> bool {
        self.tunnel.get() == Some(&request)
    }

    /// Whether the framing of this request's body was broken.
    pub fn is_broken(&self, request: u32) -> bool {
        self.broken.get() == Some(&request)
    }
}

enum State {
    Head,
    Body {
        body: Body,
        tunnel: bool,
    },
    /// Nothing that follows is HTTP.
    Tunnel,
    /// Nothing that follows is read.
    Refused,
    /// A body's framing is broken.
    Broken,
}

/// A downstream connection whose HTTP/1 requests are checked while they are read. What is good stays where hyper reads it.
pub struct Guard {
    inner: DelayedClose,
    gate: Gate,
}

impl Guard {
    /// Guards `inner` with `rules`; what is found goes into `verdicts`.
    pub fn new(inner: DelayedClose, rules: Rules, verdicts: Arc<Verdicts>) -> Self {
        let gate = Gate {
            rules,
            state: State::Head,
            heads: 0,
            held: BytesMut::new(),
            searched: 0,
            head_since: None,
            head_deadline: Deadline::default(),
            ready: BytesMut::new(),
            verdicts,
        };
        Guard { inner, gate }
    }
}

/// Where in its requests a connection is, and what is known of them.
struct Gate {
    rules: Rules,
    state: State,
    /// How many heads have come.
    heads: u32,
    /// The start of a head that has not come in whole.
    held: BytesMut,
    /// How much of `held` has been searched for its end.
    searched: usize,
    /// Since when `held` holds something.
    head_since: Option<Instant>,
    head_deadline: Deadline,
    /// What hyper gets next.
    ready: BytesMut,
    verdicts: Arc<Verdicts>,
}

impl Gate {
    /// Follows the requests in `bytes`; returns how many bytes hyper may have.
    fn scan(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.state {
                State::Head => match self.scan_head(rest) {
                    Some(length) => at += length,
                    None => return at,
                },
                State::Body { body, tunnel } => match body.feed(rest) {
                    Ok(taken) => {
                        at += taken;
                        if body.is_complete() {
                            self.state = if *tunnel { State::Tunnel } else { State::Head };
                        }
                    }
                    Err(body::Broken) => {
                        self.verdicts.broken.get_or_init(|| self.heads);
                        self.state = State::Broken;
                        return at;
                    }
                },
                State::Tunnel => return bytes.len(),
                State::Refused | State::Broken => return at,
            }
        }
        at
    }

    /// The length of the head that `bytes` start with, if it is whole and good.
    fn scan_head(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut length = None;
        let checked = match search(bytes, self.searched) {
            Search::End(end) => {
                length = Some(end);
                head::check(&bytes[..end], &self.rules)
            }
            Search::More if bytes.len() <= self.rules.most_bytes() => {
                self.searched = bytes.len();
                return None;
            }
            Search::More => Err(Refusal::TOO_LARGE),
            Search::BareLineFeed => Err(Refusal::SYNTAX),
        };
        self.searched = 0;
        self.head_since = None;
        self.heads += 1;
        match checked {
            Ok(head) => {
                if head.tunnel {
                    self.verdicts.tunnel.get_or_init(|| self.heads);
                }
                self.state = match (head.body, head.tunnel) {
                    (body, tunnel) if !body.is_complete() => State::Body { body, tunnel },
                    (_, true) => State::Tunnel,
                    (_, false) => State::Head,
                };
                length
            }
            Err(refusal) => {
                // hyper cuts the fragment off, and the log may tell the rest.
                let passes = refusal == Refusal::FRAGMENT;
                self.refuse(refusal, !passes);
                length.filter(|_| passes)
            }
        }
    }

    /// Refuses the latest head, perhaps with a stand-in for it.
    fn refuse(&mut self, refusal: Refusal, stand_in: bool) {
        self.verdicts.refusal.get_or_init(|| (self.heads, refusal));
        self.state = State::Refused;
        if stand_in {
            self.ready.extend_from_slice(STAND_IN);
        }
    }

    /// Refuses a head that has begun and does not come to its end in time.
    fn poll_late_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.head_since.zip(self.rules.head_timeout);
        ready!(self.head_deadline.poll(cx, limit.map(|(since, timeout)| since + timeout)));
        self.head_since = None;
        self.held.clear();
        self.heads += 1;
        self.refuse(Refusal::LATE, true);
        Poll::Ready(())
    }

    /// Keeps the start of a head until the rest comes.
    fn hold(&mut self, start: BytesMut) {
        if matches!(self.state, State::Head) && !start.is_empty() {
            self.head_since.get_or_insert_with(Instant::now);
            self.held = start;
        }
    }

    /// Looks at what was read; returns how much of it hyper may have where it is. The rest is kept here, if it is wanted.
    fn take_in(&mut self, read: &[u8]) -> usize {
        if matches!(self.state, State::Refused) {
            return 0;
        }
        if self.held.is_empty() {
            let passed = self.scan(read);
            if passed < read.len() {
                self.hold(BytesMut::from(&read[passed..]));
            }
            return passed;
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(read);
        let passed = self.scan(&held);
        let rest = held.split_off(passed);
        // A stand-in comes behind what passed.
        let stand_in = std::mem::replace(&mut self.ready, held);
        self.ready.unsplit(stand_in);
        self.hold(rest);
        0
    }
}

fn give(ready: &mut BytesMut, cursor: &mut ReadBufCursor<'_>) {
    let length = ready.len().min(cursor.remaining());
    cursor.put_slice(&ready[..length]);
    ready.advance(length);
}

impl Read for Guard {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = cursor.remaining();
        loop {
            if !this.gate.ready.is_empty() {
                give(&mut this.gate.ready, &mut cursor);
            }
            if cursor.remaining() < room {
                return Poll::Ready(Ok(()));
            }
            match this.gate.state {
                State::Tunnel => return Read::poll_read(Pin::new(&mut this.inner), cx, cursor),
                State::Broken => {
                    let kind = io::ErrorKind::InvalidData;
                    return Poll::Ready(Err(io::Error::new(
                        kind,
                        "a chunk of the request's body is malformed",
                    )));
                }
                _ => {}
            }
            let Guard { inner, gate } = &mut *this;
            let stream = inner.stream();
            let polled = stream.poll_read_passing(cx, &mut cursor, |read| gate.take_in(read));
            let Poll::Ready(read) = polled else {
                ready!(gate.poll_late_head(cx));
                continue;
            };
            let open = read? > 0;
            if cursor.remaining() < room {
                continue;
            }
            match (open, &this.gate.state) {
                // The rest of a refused connection is thrown away while its answer is written: bytes that nobody has read
                // would make the kernel reset the connection, and the answer with it.
                (true, State::Refused) if this.gate.ready.is_empty() => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                (false, State::Refused) => return Poll::Pending,
                (false, _) => return Poll::Ready(Ok(())),
                (true, _) => {}
            }
        }
    }
}

impl Write for Guard {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Write::poll_write(Pin::new(&mut self.get_mut().inner), cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Write::poll_flush(Pin::new(&mut self.get_mut().inner), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Write::poll_shutdown(Pin::new(&mut self.get_mut().inner), cx)
    }

    fn is_write_vectored(&self) -> bool {
        Write::is_write_vectored(&self.inner)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Write::poll_write_vectored(Pin::new(&mut self.get_mut().inner), cx, data)
    }
}
