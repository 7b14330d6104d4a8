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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::manager::ConnectionManager;
use crate::io::Stream;
use crate::io::deadline::Deadline;

/// How often the rest is read in one go; a peer that sends without end must not hold the worker.
const READS: usize = 16;

/// The end of a connection, in two steps.
#[derive(Default)]
pub struct Closing {
    /// Since when only the peer's end is waited for.
    waiting_since: Option<Instant>,
    deadline: Deadline,
}

/// A downstream connection that ends so when it is shut down.
pub struct DelayedClose {
    inner: Stream,
    manager: Arc<ConnectionManager>,
    closing: Closing,
}

impl DelayedClose {
    /// Closes `inner` as `manager` says.
    pub fn new(inner: Stream, manager: &Arc<ConnectionManager>) -> Self {
        let manager = Arc::clone(manager);
        DelayedClose { inner, manager, closing: Closing::default() }
    }

    fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(&mut self.inner)
    }
}

impl Closing {
    /// Ready once the connection may be dropped.
    ///
    /// # Errors
    /// The sending side cannot be ended.
    pub fn poll(
        &mut self,
        stream: &mut Stream,
        manager: &ConnectionManager,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let since = match self.waiting_since {
            Some(since) => since,
            None => {
                ready!(AsyncWrite::poll_shutdown(Pin::new(&mut *stream), cx))?;
                *self.waiting_since.insert(Instant::now())
            }
        };
        let Some(limit) = manager.config.delayed_close_timeout else {
            return Poll::Ready(Ok(()));
        };
        let is_over = match poll_end(stream, cx) {
            Poll::Ready(true) => return Poll::Ready(Ok(())),
            Poll::Ready(false) => since.elapsed() >= limit,
            Poll::Pending => self.deadline.poll(cx, Some(since + limit)).is_ready(),
        };
        if is_over {
            manager.stats.downstream_cx_delayed_close_timeout.inc();
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

/// Throws away what comes. Ready with whether the peer has ended; if not, the task is woken to go on.
fn poll_end(stream: &mut Stream, cx: &mut Context<'_>) -> Poll<bool> {
    let mut thrown_away = [0; 4096];
    for _ in 0..READS {
        let mut buf = ReadBuf::new(&mut thrown_away);
        match ready!(AsyncRead::poll_read(Pin::new(&mut *stream), cx, &mut buf)) {
            Ok(()) if !buf.filled().is_empty() => {}
            // However the peer ended: there is nobody left to tell of an error.
            _ => return Poll::Ready(true),
        }
    }
    cx.waker().wake_by_ref();
    Poll::Ready(false)
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
        let DelayedClose { inner, manager, closing } = self.get_mut();
        closing.poll(inner, manager, cx)
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
