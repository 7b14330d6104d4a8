//! Bytes between two connections, both ways, with half-close and an idle timeout.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::deadline::Deadline;

/// What a relay holds at most in each direction.
const BUFFER: usize = 16 * 1024;

/// Why a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Both sides closed in order, the downstream first.
    ClosedByDownstream,
    /// Both sides closed in order, the upstream first.
    ClosedByUpstream,
    /// Reading from or writing to the downstream failed.
    Downstream,
    /// Reading from or writing to the upstream failed.
    Upstream,
    /// Nothing moved for the idle timeout.
    Idle,
}

/// What a relay did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// Bytes from the downstream to the upstream.
    pub to_upstream: u64,
    /// Bytes from the upstream to the downstream.
    pub to_downstream: u64,
    /// Why it ended.
    pub ended: Ended,
}

/// Relays between `downstream` and `upstream` until both have closed, one fails, or nothing moves for `idle`.
pub async fn relay<D, U>(downstream: &mut D, upstream: &mut U, idle: Option<Duration>) -> Relayed
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Direction::default();
    let mut down = Direction::default();
    let mut deadline = Deadline::default();
    let mut last = Instant::now();
    let mut first = None;
    let ended = poll_fn(|cx| {
        let moved = up.copied + down.copied;
        let up_done = up.poll(cx, downstream, upstream);
        let down_done = down.poll(cx, upstream, downstream);
        if first.is_none() && up.read_closed != down.read_closed {
            first = Some(if up.read_closed {
                Ended::ClosedByDownstream
            } else {
                Ended::ClosedByUpstream
            });
        }
        let result = match (up_done, down_done) {
            (Poll::Ready(Err(side)), _) => Some(side.of(Ended::Downstream, Ended::Upstream)),
            (_, Poll::Ready(Err(side))) => Some(side.of(Ended::Upstream, Ended::Downstream)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                Some(first.unwrap_or(Ended::ClosedByUpstream))
            }
            _ => None,
        };
        if let Some(ended) = result {
            return Poll::Ready(ended);
        }
        if moved != up.copied + down.copied {
            last = Instant::now();
        }
        deadline.poll(cx, idle.map(|idle| last + idle)).map(|()| Ended::Idle)
    });
    let ended = ended.await;
    Relayed { to_upstream: up.copied, to_downstream: down.copied, ended }
}

/// Which side of one direction failed.
enum Failed {
    Reading,
    Writing,
}

impl Failed {
    fn of(self, reader: Ended, writer: Ended) -> Ended {
        match self {
            Failed::Reading => reader,
            Failed::Writing => writer,
        }
    }
}

/// One direction. Its buffer exists only while bytes are on their way, so an idle tunnel costs none.
#[derive(Default)]
struct Direction {
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    copied: u64,
    read_closed: bool,
    done: bool,
}

impl Direction {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<Result<(), Failed>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        loop {
            if self.start == self.end && !self.read_closed {
                match self.poll_fill(cx, reader) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Failed::Reading)),
                    Poll::Pending => {
                        self.buffer = None;
                        // TLS may hold written bytes back.
                        let _ =
                            Pin::new(&mut *writer).poll_flush(cx).map_err(|_| Failed::Writing)?;
                        return Poll::Pending;
                    }
                }
            }
            while self.start < self.end {
                ready!(self.poll_drain(cx, writer)).map_err(|_| Failed::Writing)?;
            }
            if self.read_closed {
                // A peer that is gone already cannot be told so, which is no failure of what was relayed.
                let _ = ready!(Pin::new(&mut *writer).poll_shutdown(cx));
                self.done = true;
                self.buffer = None;
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
    ) -> Poll<io::Result<()>> {
        let buffer = self.buffer.get_or_insert_with(|| vec![0; BUFFER].into_boxed_slice());
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(reader).poll_read(cx, &mut read))?;
        self.start = 0;
        self.end = read.filled().len();
        self.read_closed = self.end == 0;
        Poll::Ready(Ok(()))
    }

    fn poll_drain<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        let Some(buffer) = &self.buffer else { return Poll::Ready(Ok(())) };
        let n = ready!(Pin::new(writer).poll_write(cx, &buffer[self.start..self.end]))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.start += n;
        self.copied += n as u64;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn half_close_passes_and_the_other_direction_goes_on() {
        let (mut client, mut down) = duplex(64);
        let (mut up, mut server) = duplex(64);
        let relaying = tokio::spawn(async move { relay(&mut down, &mut up, None).await });
        client.write_all(b"question").await.expect("write");
        client.shutdown().await.expect("shutdown");
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.expect("read");
        assert_eq!(got, b"question");
        server.write_all(b"answer").await.expect("write");
        drop(server);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.expect("read");
        assert_eq!(got, b"answer");
        let relayed = relaying.await.expect("task");
        let ended = Ended::ClosedByDownstream;
        let wanted = Relayed { to_upstream: 8, to_downstream: 6, ended };
        assert_eq!(relayed, wanted);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_relay_ends() {
        let (_client, mut down) = duplex(64);
        let (mut up, _server) = duplex(64);
        let relayed = relay(&mut down, &mut up, Some(Duration::from_secs(3600))).await;
        assert_eq!(relayed.ended, Ended::Idle);
    }
}
