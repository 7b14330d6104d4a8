//! An HTTP/1 connection with the message that is coming in on it.

use std::io;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::framing::{Broken, Framing, Piece};
use super::{Error, Wire};

/// As much of what follows a message is read while its answer is due, in bytes: behind it may be the end.
const MOST_AHEAD: usize = 16 * 1024;

/// How far the message that is coming in has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// More is due.
    Open,
    /// It is here as a whole.
    Complete,
    /// What comes is no longer understood: nothing more is read.
    Broken,
    /// The peer has left in the middle of it.
    Gone,
    /// Nobody wants what is still coming.
    Unwanted,
    /// As [`State::Unwanted`], and that the peer stops sending is no reason to leave.
    Refused,
    /// The peer has stopped sending, and gets its answer even so.
    Silent,
}

/// A connection and the message coming in. Its head is read by the owner, its body by the reader.
pub struct Link {
    /// The connection's bytes.
    pub wire: Wire,
    state: State,
    framing: Framing,
    /// The number of the message: a reader of an earlier one gets nothing.
    number: u32,
    /// What must be written before the body is read on, as `100 Continue`.
    interim: &'static [u8],
    is_answered: bool,
    /// The owner, where it must hear how the reader fares.
    owner: Option<Waker>,
}

impl Link {
    /// A connection on which no message has begun.
    pub fn new(wire: Wire) -> Self {
        let (state, framing) = (State::Complete, Framing::Length(0));
        Link { wire, state, framing, number: 0, interim: b"", is_answered: false, owner: None }
    }

    /// A message has begun whose body is framed so. `interim` goes to the peer when the body is first read. Returns the message's number.
    pub fn begin(&mut self, framing: Framing, interim: &'static [u8]) -> u32 {
        self.state = if framing.is_complete() { State::Complete } else { State::Open };
        self.framing = framing;
        self.interim = interim;
        self.is_answered = false;
        self.number = self.number.wrapping_add(1);
        self.number
    }

    /// The message is refused: what still comes is thrown away.
    pub fn refuse(&mut self) {
        self.state = State::Refused;
        self.number = self.number.wrapping_add(1);
    }

    /// The reader of message `number` wants no more.
    pub fn abandon(&mut self, number: u32) {
        if self.number == number && self.state == State::Open {
            self.state = State::Unwanted;
            self.wake_owner();
        }
    }

    /// Whether the message is here as a whole.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether message `number` has nothing more for its reader.
    pub fn is_end(&self, number: u32) -> bool {
        self.number != number || self.is_complete()
    }

    /// What is known of how much of message `number` is still to come.
    pub fn size_hint(&self, number: u32) -> SizeHint {
        match self.framing.left() {
            _ if self.number != number => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }

    /// The next frame of message `number`.
    pub fn poll_frame(
        &mut self,
        number: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_end(number) {
            return Poll::Ready(None);
        }
        if let Err(error) = self.invite(cx) {
            self.end(State::Gone);
            return Poll::Ready(Some(Err(error.into())));
        }
        loop {
            if self.state != State::Open {
                return Poll::Ready(Some(Err(Error::Cut)));
            }
            match self.framing.next(&mut self.wire.ahead) {
                Ok(Piece::Data(data)) => {
                    if self.framing.is_complete() {
                        self.end(State::Complete);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Piece::Trailers(trailers)) => {
                    self.end(State::Complete);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Piece::End) => {
                    self.end(State::Complete);
                    return Poll::Ready(None);
                }
                Ok(Piece::More) => {}
                Err(broken) => {
                    self.end(State::Broken);
                    return Poll::Ready(Some(Err(match broken {
                        Broken::Malformed => Error::Malformed("a chunk of a body, or a trailer"),
                        Broken::TooLarge => Error::TooLarge("the trailers of a body"),
                    })));
                }
            }
            match ready!(self.wire.poll_read(cx, self.framing.expected())) {
                Ok(0) if self.framing == Framing::UntilClose => {
                    self.end(State::Complete);
                    return Poll::Ready(None);
                }
                Ok(0) => self.end(State::Gone),
                Ok(_) => {}
                Err(error) => {
                    self.end(State::Gone);
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }

    /// Writes what has to be written before the body is read.
    fn invite(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.interim.is_empty() {
            return Ok(());
        }
        self.wire.out.text().extend_from_slice(std::mem::take(&mut self.interim));
        match self.wire.poll_write(cx) {
            Poll::Ready(written) => written,
            // It goes with the answer.
            Poll::Pending => Ok(()),
        }
    }

    fn end(&mut self, state: State) {
        self.state = state;
        self.wake_owner();
    }

    fn wake_owner(&mut self) {
        if let Some(owner) = self.owner.take() {
            owner.wake();
        }
    }

    /// An answer to the message begins: it is too late for what invites the body, and for saying that the body is malformed.
    pub fn begin_answer(&mut self) {
        self.interim = b"";
        self.is_answered = true;
    }

    /// Ready once the peer is found to have left while an answer is due to it. While the body is read, its reader finds that
    /// out; what follows a message is kept, up to a limit.
    pub fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        loop {
            match self.state {
                State::Gone => return Poll::Ready(Error::Cut),
                State::Broken if self.is_answered => {
                    return Poll::Ready(Error::Malformed("a chunk of a body"));
                }
                State::Broken | State::Silent => return Poll::Pending,
                State::Open => {
                    if !self.owner.as_ref().is_some_and(|owner| owner.will_wake(cx.waker())) {
                        self.owner = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
                State::Unwanted | State::Refused => self.wire.ahead.clear(),
                State::Complete if self.wire.ahead.len() >= MOST_AHEAD => return Poll::Pending,
                State::Complete => {}
            }
            match ready!(self.wire.poll_read(cx, 0)) {
                Ok(0) if self.state == State::Refused => self.state = State::Silent,
                Ok(0) => return Poll::Ready(Error::Cut),
                Ok(_) => {}
                Err(error) => return Poll::Ready(error.into()),
            }
        }
    }
}
