//! Counts a connection's bytes in the cluster's statistics.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::Stream;
use crate::upstream::cluster::TrafficStats;
use crate::upstream::written::Written;

/// A stream that counts what passes.
pub(in crate::upstream) struct Metered {
    stream: Stream,
    stats: Arc<TrafficStats>,
    has_read: Arc<AtomicBool>,
    written: Arc<Written>,
}

impl Metered {
    pub(in crate::upstream) fn new(stream: Stream, stats: Arc<TrafficStats>) -> Self {
        Metered { stream, stats, has_read: Arc::default(), written: Arc::default() }
    }

    /// Set by every byte that comes; whoever resets it learns whether some came since.
    pub(in crate::upstream) fn has_read(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_read)
    }

    /// What is written of a request, where somebody wants it kept.
    pub(in crate::upstream) fn written(&self) -> Arc<Written> {
        Arc::clone(&self.written)
    }

    fn count_written<'a>(
        &self,
        written: &Poll<io::Result<usize>>,
        buffers: impl Iterator<Item = &'a [u8]>,
    ) {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.stats.upstream_cx_tx_bytes_total.add(*bytes as u64);
                self.written.add(buffers, *bytes);
            }
            // The connection is gone, and all of this with it.
            Poll::Ready(Err(_)) => self.written.add(buffers, usize::MAX),
            Poll::Pending => {}
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = AsyncRead::poll_read(Pin::new(&mut self.stream), cx, buf);
        if polled.is_ready() {
            let read = buf.filled().len() - before;
            self.stats.upstream_cx_rx_bytes_total.add(read as u64);
            if read > 0 {
                self.has_read.store(true, Relaxed);
            }
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = AsyncWrite::poll_write(Pin::new(&mut self.stream), cx, data);
        self.count_written(&written, std::iter::once(data));
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx)
    }

    fn is_write_vectored(&self) -> bool {
        AsyncWrite::is_write_vectored(&self.stream)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = AsyncWrite::poll_write_vectored(Pin::new(&mut self.stream), cx, data);
        self.count_written(&written, data.iter().map(|buffer| &**buffer));
        written
    }
}
