//! Closing a connection so that the peer gets what was written last.
//!
//! A socket that is closed with bytes unread resets the connection, and the peer may lose the answer, or the GOAWAY that
//! tells which of its requests were not processed. So the sending side ends first, and what still comes is thrown away until
//! the peer closes or `delayed_close_timeout` is over.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, ReadBuf};

use crate::http::manager::ConnectionManager;
use crate::io::Stream;
use crate::io::deadline::Deadline;

/// How often the rest is read in one go; a peer that sends without end must not hold the worker.
const READS: usize = 16;

/// A downstream connection with an end in two steps.
pub struct DelayedClose {
    inner: Stream,
    manager: Arc<ConnectionManager>,
    /// Since when only the peer's end is waited for.
    waiting_since: Option<Instant>,
    deadline: Deadline,
}

impl DelayedClose {
    /// Closes `inner` as `manager` says.
    pub fn new(inner: Stream, manager: &Arc<ConnectionManager>) -> Self {
        let manager = Arc::clone(manager);
        DelayedClose { inner, manager, waiting_since: None, deadline: Deadline::default() }
    }

    /// The connection itself.
    pub fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(&mut self.inner)
    }

    /// Reads on until the peer has closed or the time is over.
    fn poll_peer(&mut self, cx: &mut Context<'_>, since: Instant) -> Poll<io::Result<()>> {
        let Some(limit) = self.manager.config.delayed_close_timeout else {
            return Poll::Ready(Ok(()));
        };
        let mut thrown_away = [0; 4096];
        for _ in 0..READS {
            let mut buf = ReadBuf::new(&mut thrown_away);
            match AsyncRead::poll_read(Pin::new(&mut self.inner), cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                // However the peer ended: there is nobody left to tell of an error.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    ready!(self.deadline.poll(cx, Some(since + limit)));
                    self.manager.stats.downstream_cx_delayed_close_timeout.inc();
                    return Poll::Ready(Ok(()));
                }
            }
        }
        if since.elapsed() >= limit {
            self.manager.stats.downstream_cx_delayed_close_timeout.inc();
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Read for DelayedClose {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Read::poll_read(self.get_mut().stream(), cx, cursor)
    }
}

impl Write for DelayedClose {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Write::poll_write(self.get_mut().stream(), cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Write::poll_flush(self.get_mut().stream(), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let since = match this.waiting_since {
            Some(since) => since,
            None => {
                ready!(Write::poll_shutdown(this.stream(), cx))?;
                *this.waiting_since.insert(Instant::now())
            }
        };
        this.poll_peer(cx, since)
    }

    fn is_write_vectored(&self) -> bool {
        Write::is_write_vectored(&self.inner)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Write::poll_write_vectored(self.get_mut().stream(), cx, data)
    }
}
