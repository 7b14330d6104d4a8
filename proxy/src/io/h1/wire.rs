//! A socket with what was read and not used, and what is not yet written.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::io::Stream;

/// How much is read at once where not much is expected.
const SMALL_READ: usize = 16 * 1024;

/// How much is read at once at most, in bytes.
const LARGE_READ: usize = 64 * 1024;

/// Data up to this length is copied behind what is in front of it, in bytes; the kernel takes one piece at less cost than two.
const COPIED: usize = 2 * 1024;

/// From this length on, text is written before more is put behind it, in bytes.
const MOST_TEXT: usize = 16 * 1024;

/// A buffer that grew beyond this is given back when it is empty, in bytes.
const KEPT_TEXT: usize = 1024;

thread_local! {
    /// What small reads go through, so that a connection that waits holds no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SMALL_READ].into_boxed_slice());
}

/// Hears how many bytes pass.
pub trait Meter {
    /// So many bytes came.
    fn received(&self, bytes: usize);
    /// So many bytes went.
    fn sent(&self, bytes: usize);
}

/// A connection's socket with its two buffers.
pub struct Wire {
    stream: Stream,
    /// What was read and is not used yet.
    pub ahead: BytesMut,
    /// What is to be written.
    pub out: Out,
    meter: Option<Box<dyn Meter>>,
    is_over: bool,
}

impl Wire {
    /// A connection of which `ahead` was read before.
    pub fn new(stream: Stream, ahead: BytesMut) -> Self {
        Wire { stream, ahead, out: Out::default(), meter: None, is_over: false }
    }

    /// A connection whose bytes are counted.
    pub fn metered(stream: Stream, meter: Box<dyn Meter>) -> Self {
        Wire { meter: Some(meter), ..Wire::new(stream, BytesMut::new()) }
    }

    /// Reads more behind what was read ahead; 0 at the end of the stream. About `wanted` bytes are expected.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, wanted: u64) -> Poll<io::Result<usize>> {
        let read = if wanted < SMALL_READ as u64 {
            let ahead = &mut self.ahead;
            let stream = &mut self.stream;
            SCRATCH.with_borrow_mut(|scratch| poll_read_through(stream, scratch, ahead, cx))
        } else {
            self.ahead.reserve(wanted.min(LARGE_READ as u64) as usize);
            pin!(self.stream.read_buf(&mut self.ahead)).poll(cx)
        };
        let read = ready!(read);
        self.is_over |= !matches!(read, Ok(1..));
        let read = read?;
        if let Some(meter) = &self.meter {
            meter.received(read);
        }
        Poll::Ready(Ok(read))
    }

    /// Writes all that is to be written.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let stream = Pin::new(&mut self.stream);
            let written = ready!(match self.out.pieces() {
                (text, [], _) => stream.poll_write(cx, text),
                (text, data, tail) => {
                    let pieces = [IoSlice::new(text), IoSlice::new(data), IoSlice::new(tail)];
                    stream.poll_write_vectored(cx, &pieces)
                }
            })?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(meter) = &self.meter {
                meter.sent(written);
            }
            self.out.advance(written);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Whether the peer has ended its side, or broken the connection.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The socket.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// The socket as a plain one, with what was read ahead in front.
    pub fn into_stream(self) -> Stream {
        self.stream.unread(self.ahead.freeze())
    }
}

fn poll_read_through(
    stream: &mut Stream,
    scratch: &mut [u8],
    ahead: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let read = ready!(pin!(stream.read(scratch)).poll(cx))?;
    match ahead.is_empty() {
        true => *ahead = BytesMut::from(&scratch[..read]),
        false => ahead.extend_from_slice(&scratch[..read]),
    }
    Poll::Ready(Ok(read))
}

/// What is to be written: text, perhaps a large piece of data behind it, and a bit of framing behind that.
#[derive(Default)]
pub struct Out {
    text: Vec<u8>,
    /// How much of `text` is written.
    written: usize,
    data: Bytes,
    tail: &'static [u8],
}

impl Out {
    /// Where text is put. Only while [`is_full`](Self::is_full) is not true.
    pub fn text(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.data.is_empty(), "text would overtake data");
        &mut self.text
    }

    /// Puts data behind the text, and `tail` behind it. Only while [`is_full`](Self::is_full) is not true.
    pub fn put(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= COPIED {
            self.text().extend_from_slice(&data);
            self.text.extend_from_slice(tail);
        } else {
            (self.data, self.tail) = (data, tail);
        }
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Whether this must be written before more comes.
    pub fn is_full(&self) -> bool {
        !self.data.is_empty() || !self.tail.is_empty() || self.text.len() >= MOST_TEXT
    }

    fn pieces(&self) -> (&[u8], &[u8], &[u8]) {
        let text = &self.text[self.written..];
        match self.data.is_empty() {
            // What is left of the framing may be alone.
            true if text.is_empty() => (self.tail, &[], &[]),
            _ => (text, &self.data, self.tail),
        }
    }

    fn advance(&mut self, mut written: usize) {
        let text = written.min(self.text.len() - self.written);
        self.written += text;
        written -= text;
        let data = written.min(self.data.len());
        self.data.advance(data);
        self.tail = &self.tail[written - data..];
        if self.written == self.text.len() {
            self.written = 0;
            self.text.clear();
            if self.text.capacity() > KEPT_TEXT {
                self.text = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_written_comes_in_order_however_little_goes_at_once() {
        let data = vec![b'd'; COPIED + 1];
        let whole = [b"text".as_slice(), &data, b"\r\n"].concat();
        for step in [1, 2, 3, 5, 4 + COPIED, whole.len()] {
            let mut out = Out::default();
            out.text().extend_from_slice(b"text");
            out.put(Bytes::from(data.clone()), b"\r\n");
            assert!(out.is_full());
            let mut got = Vec::new();
            while !out.is_empty() {
                let (text, data, tail) = out.pieces();
                let rest = [text, data, tail].concat();
                let taken = step.min(rest.len());
                got.extend_from_slice(&rest[..taken]);
                out.advance(taken);
            }
            assert!(got == whole && !out.is_full(), "{step}");
        }
    }

    #[test]
    fn small_data_is_text() {
        let mut out = Out::default();
        out.put(Bytes::from_static(b"abc"), b"\r\n");
        assert_eq!((out.is_full(), out.pieces()), (false, (&b"abc\r\n"[..], &b""[..], &b""[..])));
    }
}
