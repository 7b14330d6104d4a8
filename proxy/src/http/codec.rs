//! HTTP on a downstream connection: which version, and the connection's life around its requests.

use std::error::Error;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::time::sleep_until;

use crate::config::hcm::{Codec, HttpConnectionManager};
use crate::drain::{DrainSignal, Phase};
use crate::http::connection::Connection;
use crate::http::h1;
use crate::http::http2;
use crate::http::manager::ConnectionManager;
use crate::http::overdue;
use crate::http::stats::HttpStats;
use crate::http::worker::Worker;
use crate::io::Stream;
use crate::io::deadline::Deadline;
use crate::io::quiet::Quiet;
use crate::telemetry::stream_info::{ConnectionInfo, Protocol};

/// What every HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves HTTP on a connection until it ends.
pub async fn serve(
    stream: Stream,
    info: Rc<ConnectionInfo>,
    manager: Arc<ConnectionManager>,
    worker: Rc<Worker>,
    drain: DrainSignal,
) {
    let Some((stream, ahead, protocol)) = detect(stream, &info, &manager.config).await else {
        return;
    };
    let stats = Arc::clone(&manager.stats);
    let secure = info.tls.is_some();
    let _open = OpenConnection::count(stats, protocol, secure);
    let follow = drain.clone();
    let connection = Rc::new(Connection::new(manager, worker, info, protocol, drain));
    match protocol {
        Protocol::Http2 => serve_http2(stream.unread(ahead.freeze()), &connection, follow).await,
        _ => serve_http1(stream, ahead, &connection, follow).await,
    }
}

/// Counts a connection while it is open.
struct OpenConnection {
    stats: Arc<HttpStats>,
    protocol: Protocol,
    secure: bool,
    since: Instant,
}

impl OpenConnection {
    fn count(stats: Arc<HttpStats>, protocol: Protocol, secure: bool) -> Self {
        stats.downstream_cx_total.inc();
        stats.downstream_cx_active.inc();
        if secure {
            stats.downstream_cx_ssl_total.inc();
            stats.downstream_cx_ssl_active.inc();
        }
        match protocol {
            Protocol::Http2 => {
                stats.downstream_cx_http2_total.inc();
                stats.downstream_cx_http2_active.inc();
            }
            _ => {
                stats.downstream_cx_http1_total.inc();
                stats.downstream_cx_http1_active.inc();
            }
        }
        OpenConnection { stats, protocol, secure, since: Instant::now() }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let stats = &self.stats;
        stats.downstream_cx_destroy.inc();
        stats.downstream_cx_active.dec();
        if self.secure {
            stats.downstream_cx_ssl_active.dec();
        }
        match self.protocol {
            Protocol::Http2 => stats.downstream_cx_http2_active.dec(),
            _ => stats.downstream_cx_http1_active.dec(),
        }
        stats.downstream_cx_length_ms.record(self.since.elapsed().as_millis() as u64);
    }
}

/// Tells the protocol: as configured, by ALPN, or by the first bytes, which it has read then. `None` if the peer left before
/// it said enough.
async fn detect(
    mut stream: Stream,
    info: &ConnectionInfo,
    config: &HttpConnectionManager,
) -> Option<(Stream, BytesMut, Protocol)> {
    let told = match (config.codec, info.tls.as_ref().map(|tls| &*tls.alpn)) {
        (Codec::Http1, _) => Some(Protocol::Http11),
        (Codec::Http2, _) | (Codec::Auto, Some("h2")) => Some(Protocol::Http2),
        (Codec::Auto, Some(alpn)) if !alpn.is_empty() => Some(Protocol::Http11),
        (Codec::Auto, _) => None,
    };
    if let Some(protocol) = told {
        return Some((stream, BytesMut::new(), protocol));
    }
    let mut ahead = BytesMut::with_capacity(4096);
    let limit = config.idle_timeout.unwrap_or(Duration::MAX);
    let deadline = Instant::now().checked_add(limit);
    loop {
        let read = stream.read_buf(&mut ahead);
        let read = match deadline {
            Some(at) => tokio::time::timeout_at(at.into(), read).await.ok()?,
            None => read.await,
        };
        let n = read.ok()?;
        let compared = ahead.len().min(PREFACE.len());
        let protocol = if ahead[..compared] != PREFACE[..compared] || n == 0 {
            Protocol::Http11
        } else if compared == PREFACE.len() {
            Protocol::Http2
        } else {
            continue;
        };
        if ahead.is_empty() {
            return None;
        }
        return Some((stream, ahead, protocol));
    }
}

async fn serve_http1(
    stream: Stream,
    ahead: BytesMut,
    connection: &Rc<Connection>,
    drain: DrainSignal,
) {
    let mut served = pin!(h1::serve(stream, ahead, Rc::clone(connection)));
    live(connection, drain, served.as_mut(), |_| connection.end()).await;
}

async fn serve_http2(stream: Stream, connection: &Rc<Connection>, drain: DrainSignal) {
    let mut served = pin!(http2::serve(stream, connection));
    live(connection, drain, served.as_mut(), |served| served.get_mut().shut_down()).await;
}

/// Counts the end of a connection: by the peer or `by_us`, with requests on it or without.
fn note_end<E: Error + 'static>(connection: &Connection, result: Result<(), E>, by_us: bool) {
    let stats = &connection.manager.stats;
    let (side, side_active) = match by_us {
        true => (&stats.downstream_cx_destroy_local, &stats.downstream_cx_destroy_local_active_rq),
        false => {
            (&stats.downstream_cx_destroy_remote, &stats.downstream_cx_destroy_remote_active_rq)
        }
    };
    side.inc();
    if connection.ends_busy() {
        side_active.inc();
        stats.downstream_cx_destroy_active_rq.inc();
    }
    let Err(error) = result else { return };
    // What is malformed on HTTP/1 was counted where it was answered.
    let of_http2 = (&error as &dyn Error).downcast_ref::<h2::Error>();
    if of_http2.is_some_and(h2::Error::is_library) {
        stats.downstream_cx_protocol_error.inc();
    }
    tracing::debug!(connection = connection.info.id, %error, "downstream connection ended");
}

/// Runs a connection until it ends by itself, is idle or old for too long, or is drained to the end.
async fn live<E: Error + 'static, C: Future<Output = Result<(), E>>>(
    connection: &Rc<Connection>,
    mut drain: DrainSignal,
    mut served: Pin<&mut C>,
    graceful: impl Fn(Pin<&mut C>),
) {
    let config = &connection.manager.config;
    let oldest = config.max_connection_duration.map(|max| Instant::now() + max);
    let mut draining_since = None;
    let mut phase = drain.phase();
    let mut shut_down = false;
    let mut shut_down_since = None;
    let mut response_deadline = Deadline::default();
    loop {
        if phase == Phase::Closing {
            return note_end(connection, Ok::<(), E>(()), true);
        }
        if phase == Phase::Draining && draining_since.is_none() {
            draining_since = Some(Instant::now());
            shut_down |= connection.protocol == Protocol::Http2;
        }
        if shut_down && shut_down_since.is_none() {
            shut_down_since = Some(Instant::now());
            graceful(served.as_mut());
        }
        let wake = match shut_down_since {
            None => next_check(connection, oldest, draining_since),
            Some(since) => Some(next_look(shut_down_until(connection, since))),
        };
        tokio::select! {
            biased;
            result = served.as_mut() => {
                return note_end(connection, result, shut_down || connection.must_close());
            }
            () = overdue(connection, &mut response_deadline) => {
                return note_end(connection, Ok::<(), E>(()), true);
            }
            news = Quiet::new(news(connection, &mut drain, wake)) => match (news, shut_down_since) {
                (News::Phase(now), _) => phase = now,
                (News::ShutDown, _) => shut_down = true,
                (News::Time, None) => shut_down = expire(connection, oldest, draining_since),
                (News::Time, Some(since)) => {
                    let over = Instant::now() >= shut_down_until(connection, since);
                    // A peer that stalls would never do its part of an orderly end.
                    if over && connection.active() == 0 {
                        return note_end(connection, Ok::<(), E>(()), true);
                    }
                }
            },
        }
    }
}

/// What a connection has to hear of beside its requests.
enum News {
    Phase(Phase),
    ShutDown,
    /// It is time to look at the connection.
    Time,
}

async fn news(connection: &Connection, drain: &mut DrainSignal, at: Option<Instant>) -> News {
    tokio::select! {
        biased;
        phase = drain.changed() => News::Phase(phase),
        () = connection.shutdown.notified() => News::ShutDown,
        () = wait_until(at) => News::Time,
    }
}

/// Waits until the response of an HTTP/1 connection is overdue. Those of HTTP/2 have tasks of their own.
async fn overdue(connection: &Connection, deadline: &mut Deadline) {
    poll_fn(|cx| match (connection.protocol, &*connection.current.borrow()) {
        (Protocol::Http2, _) | (_, None) => Poll::Pending,
        (_, Some(shared)) => overdue::poll(connection, shared, deadline, cx),
    })
    .await;
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// When the connection must be looked at next. Idle time is checked lazily: requests do not touch a timer.
fn next_check(
    connection: &Connection,
    oldest: Option<Instant>,
    draining_since: Option<Instant>,
) -> Option<Instant> {
    let config = &connection.manager.config;
    let idle = config.idle_timeout.and_then(|idle| {
        let since = if connection.active() > 0 { Instant::now() } else { connection.idle_since() };
        since.checked_add(idle)
    });
    let drained = draining_since.map(|since| next_look(since + config.drain_timeout));
    [idle, oldest, drained].into_iter().flatten().min()
}

/// `at`, but not at once: what had to end by then may take a little longer.
fn next_look(at: Instant) -> Instant {
    at.max(Instant::now() + Duration::from_millis(100))
}

/// How long a connection that shuts down and has no streams left may take to write what is left and to close.
fn shut_down_until(connection: &Connection, since: Instant) -> Instant {
    since.max(connection.idle_since()) + connection.manager.config.drain_timeout
}

/// Whether a limit has passed, so that the connection must shut down.
fn expire(
    connection: &Connection,
    oldest: Option<Instant>,
    draining_since: Option<Instant>,
) -> bool {
    let config = &connection.manager.config;
    let stats = &connection.manager.stats;
    let now = Instant::now();
    if oldest.is_some_and(|oldest| now >= oldest) {
        stats.downstream_cx_max_duration_reached.inc();
        return true;
    }
    let idle = connection.active() == 0;
    let idle_for = now - connection.idle_since();
    if idle && config.idle_timeout.is_some_and(|limit| idle_for >= limit) {
        stats.downstream_cx_idle_timeout.inc();
        return true;
    }
    idle && draining_since.is_some_and(|since| now >= since + config.drain_timeout)
}
