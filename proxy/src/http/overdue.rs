//! The limits on a response under way. They hold too where nobody asks for its body: a client that does not read keeps
//! its codec from polling it, so they are watched beside the codec and not from within the body.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::http::connection::Connection;
use crate::http::stream::Shared;
use crate::io::deadline::Deadline;
use crate::telemetry::response_flags::ResponseFlags;

/// The limits on a response that streams.
#[derive(Clone, Copy, Default)]
pub struct Limits {
    /// `stream_idle_timeout`
    pub idle: Option<Duration>,
    /// When the route's timeout or the longest duration of the stream is over.
    pub until: Option<Instant>,
}

/// Ready once the response of the stream is overdue, which its facts and the statistics then tell. Whoever asks has to end
/// the stream.
pub fn poll(
    connection: &Connection,
    shared: &Shared,
    deadline: &mut Deadline,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let limits = shared.limits.get();
    let idle_at = limits.idle.map(|idle| shared.last_activity() + idle);
    let at = idle_at.into_iter().chain(limits.until).min();
    ready!(deadline.poll(cx, at));
    shared.limits.take();
    let stats = &connection.manager.stats;
    stats.rq_reset_after_downstream_response_started.inc();
    let (flag, details) = if at == idle_at {
        stats.downstream_rq_idle_timeout.inc();
        (ResponseFlags::STREAM_IDLE_TIMEOUT, "stream_idle_timeout")
    } else {
        stats.downstream_rq_max_duration_reached.inc();
        (ResponseFlags::UPSTREAM_REQUEST_TIMEOUT, "response_timeout")
    };
    let mut info = shared.info.borrow_mut();
    info.flags.insert(flag);
    info.details = Some(details.into());
    Poll::Ready(())
}
