//! A byte stream to a peer: TCP, unix socket or TLS over either, without boxing the plain cases.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::io::Tls;

/// A connection. Speaks tokio's and hyper's I/O traits.
pub enum Stream {
    /// TCP
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// TLS over one of the others.
    Tls(Box<Tls>),
    /// Bytes that were read ahead, before the rest of the connection.
    Replay(Box<Replay>),
}

/// A stream with bytes in front that were read from it before.
pub struct Replay {
    ahead: bytes::Bytes,
    inner: Stream,
}

impl Stream {
    /// Puts bytes that were read from the stream back in front of it.
    pub fn unread(self, ahead: bytes::Bytes) -> Stream {
        if ahead.is_empty() {
            return self;
        }
        Stream::Replay(Box::new(Replay { ahead, inner: self }))
    }

    /// The TCP socket underneath, for socket options.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(tcp) => Some(tcp),
            Stream::Unix(_) => None,
            Stream::Tls(tls) => tls.session.get_ref().0.tcp(),
            Stream::Replay(replay) => replay.inner.tcp(),
        }
    }
}

/// Pieces that are no longer together are written as one.
const JOIN: usize = 1024;

/// Joins the pieces, if they fit; tells the length.
fn join(pieces: &[io::IoSlice<'_>], joined: &mut [u8; JOIN]) -> Option<usize> {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    if length > JOIN {
        return None;
    }
    let mut at = 0;
    for piece in pieces {
        joined[at..at + piece.len()].copy_from_slice(piece);
        at += piece.len();
    }
    Some(length)
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
            Stream::Tls(tls) => tls.poll_read(cx, buf),
            Stream::Replay(replay) => {
                if replay.ahead.is_empty() {
                    return Pin::new(&mut replay.inner).poll_read(cx, buf);
                }
                let n = replay.ahead.len().min(buf.remaining());
                buf.put_slice(&replay.ahead.split_to(n));
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write(cx, data),
            Stream::Unix(unix) => Pin::new(unix).poll_write(cx, data),
            Stream::Tls(tls) => Pin::new(&mut tls.session).poll_write(cx, data),
            Stream::Replay(replay) => Pin::new(&mut replay.inner).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Unix(unix) => Pin::new(unix).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(&mut tls.session).poll_flush(cx),
            Stream::Replay(replay) => Pin::new(&mut replay.inner).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(&mut tls.session).poll_shutdown(cx),
            Stream::Replay(replay) => Pin::new(&mut replay.inner).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => {
                // The kernel takes one small piece at less cost than several: a head with a short body is joined.
                let mut joined = [0; JOIN];
                match join(data, &mut joined) {
                    Some(length) => Pin::new(tcp).poll_write(cx, &joined[..length]),
                    None => Pin::new(tcp).poll_write_vectored(cx, data),
                }
            }
            Stream::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, data),
            Stream::Tls(tls) => Pin::new(&mut tls.session).poll_write_vectored(cx, data),
            Stream::Replay(replay) => Pin::new(&mut replay.inner).poll_write_vectored(cx, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Tcp(tcp) => tcp.is_write_vectored(),
            Stream::Unix(unix) => unix.is_write_vectored(),
            Stream::Tls(tls) => tls.session.is_write_vectored(),
            Stream::Replay(replay) => replay.inner.is_write_vectored(),
        }
    }
}

impl Stream {
    /// Reads into `cursor` and lets `pass` see what came; of that, as much as it returns is kept. Ready with how much came.
    pub fn poll_read_passing(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        cursor: &mut hyper::rt::ReadBufCursor<'_>,
        pass: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        // SAFETY: `ReadBuf` tracks which part is initialised, and nothing in it is made uninitialised.
        let mut buf = ReadBuf::uninit(unsafe { cursor.as_mut() });
        ready!(AsyncRead::poll_read(self, cx, &mut buf))?;
        let filled = buf.filled();
        let (read, passed) = (filled.len(), pass(filled).min(filled.len()));
        // SAFETY: the first `passed` bytes were initialised by the read above.
        unsafe { cursor.advance(passed) };
        Poll::Ready(Ok(read))
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read_passing(cx, &mut cursor, <[u8]>::len).map_ok(|_| ())
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(self, cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(self, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(self, cx)
    }

    fn is_write_vectored(&self) -> bool {
        AsyncWrite::is_write_vectored(self)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write_vectored(self, cx, data)
    }
}
