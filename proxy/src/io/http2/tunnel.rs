//! A stream of HTTP/2 that carries another protocol (RFC 8441, RFC 9113 §8.5).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much is copied for one DATA frame at most, the frame size that every peer takes.
const PIECE: usize = 16 * 1024;

/// Both directions of a stream, as bytes. Dropped before both have ended, it resets the stream.
#[derive(Debug)]
pub struct Http2Tunnel {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// What has come and has not been read.
    unread: Bytes,
    is_shut: bool,
}

impl Http2Tunnel {
    /// A tunnel over both halves of one stream.
    pub fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Http2Tunnel { send, receive, unread: Bytes::new(), is_shut: false }
    }

    /// How much may be sent now, of `wanted` bytes.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(wanted);
        loop {
            let room = self.send.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room.min(wanted)));
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(room) => room.map_err(broken)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

impl AsyncRead for Http2Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(this.receive.poll_data(cx)) {
                Some(data) => this.unread = data.map_err(broken)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.unread[..count]);
        this.unread.advance(count);
        this.receive.flow_control().release_capacity(count).map_err(broken)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let this = self.get_mut();
        let count = ready!(this.poll_room(cx, data.len().min(PIECE)))?;
        let piece = Bytes::copy_from_slice(&data[..count]);
        this.send.send_data(piece, false).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task writes.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.is_shut, true) {
            this.send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}
