//! What overload makes the proxy do. The overload manager on the control thread writes it; whoever is on the path of a
//! connection or a request reads it, at the cost of one relaxed load.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::stat_group;

mod timers;

pub use timers::{Least, ScaledTimers, Timer, TimerChanges};

stat_group! {
    /// `overload.<load shed point>.`
    pub struct PointStats {
        gauge scale_percent,
        counter shed_load_count,
    }
}

/// What the process does about overload now; nothing unless a manager says so.
#[derive(Debug, Default)]
pub struct Overload {
    /// `envoy.overload_actions.stop_accepting_requests`: of the requests.
    pub stop_accepting_requests: Share,
    /// `envoy.overload_actions.disable_http_keepalive`: of the responses.
    pub disable_http_keepalive: Share,
    /// `envoy.overload_actions.reject_incoming_connections`: of the connections.
    pub reject_incoming_connections: Share,
    /// `envoy.overload_actions.reduce_timeouts`
    pub timers: ScaledTimers,
    /// Whether anything of all this holds now.
    engaged: AtomicBool,
    /// `envoy.overload_actions.stop_accepting_connections`
    paused: watch::Sender<bool>,
    points: [ShedPoint; Point::ALL.len()],
    connections: ConnectionLimit,
}

impl Overload {
    /// Whether any action or point does anything now: who has many things to ask begins with this.
    pub fn is_engaged(&self) -> bool {
        self.engaged.load(Relaxed)
    }

    /// Some action or point does something now, or none does any more.
    pub fn engage(&self, engaged: bool) {
        self.engaged.store(engaged, Relaxed);
    }

    /// Whether load is shed at this point now. Counts if so.
    pub fn sheds(&self, point: Point) -> bool {
        let point = &self.points[point as usize];
        let sheds = point.share.hits();
        if sheds && let Some(stats) = point.stats.get() {
            stats.shed_load_count.inc();
        }
        sheds
    }

    /// What is shed at this point.
    pub fn point(&self, point: Point) -> &ShedPoint {
        &self.points[point as usize]
    }

    /// Listeners stop accepting, or go on.
    pub fn pause_accepting(&self, pause: bool) {
        self.paused.send_replace(pause);
    }

    /// Whether listeners accept nothing, and when that changes.
    pub fn paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }

    /// `max_active_downstream_connections`
    pub fn limit_connections(&self, limit: u64) {
        // There is one manager, and it says so once.
        let _ = self.connections.limit.set(limit);
    }

    /// How many connections count against the limit.
    pub fn connections(&self) -> u64 {
        self.connections.active.load(Relaxed)
    }

    /// Counts one more downstream connection of the process; none if that is one too many.
    pub fn count_connection(self: &Arc<Self>) -> Option<CountedConnection> {
        let Some(limit) = self.connections.limit.get() else {
            return Some(CountedConnection(None));
        };
        let now = self.connections.active.fetch_add(1, Relaxed) + 1;
        let counted = CountedConnection(Some(Arc::clone(self)));
        (now <= *limit).then_some(counted)
    }
}

/// How many downstream connections the process may have.
#[derive(Debug, Default)]
struct ConnectionLimit {
    limit: OnceLock<u64>,
    active: AtomicU64,
}

/// A downstream connection that counts against the limit of the process, where there is one.
#[derive(Debug, Default)]
pub struct CountedConnection(Option<Arc<Overload>>);

impl Drop for CountedConnection {
    fn drop(&mut self) {
        if let Some(overload) = &self.0 {
            overload.connections.active.fetch_sub(1, Relaxed);
        }
    }
}

/// A share of events, from 0 (none) to 1 (all).
#[derive(Debug, Default)]
pub struct Share(AtomicU32);

impl Share {
    /// From now on, of this share.
    pub fn set(&self, share: f64) {
        self.0.store((share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32, Relaxed);
    }

    /// Whether the next event is one of the share.
    pub fn hits(&self) -> bool {
        match self.0.load(Relaxed) {
            0 => false,
            u32::MAX => true,
            share => fastrand::u32(..) < share,
        }
    }
}

/// What is shed at a load shed point.
#[derive(Debug, Default)]
pub struct ShedPoint {
    /// The share that is shed.
    pub share: Share,
    /// `overload.<name>.`; set once the point is configured.
    pub stats: OnceLock<Arc<PointStats>>,
}

/// Where load may be shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Accepted connections are closed.
    TcpListenerAccept,
    /// Requests are answered with 503 before anything else looks at them.
    DecodeHeaders,
    /// Connections are closed with their first byte.
    CreatingCodec,
    /// HTTP/1 requests are answered with 500, and their connection closes.
    Http1AbortDispatch,
    /// HTTP/2 connections are told GOAWAY, and end after the streams that they have.
    Http2GoAway,
    /// HTTP/2 connections are told GOAWAY and end.
    Http2GoAwayAndClose,
    /// Requests are answered with 503 before HTTP filters see them.
    FilterCheck,
    /// Requests that need a new connection to a host fail as by a circuit breaker.
    NewUpstreamConnection,
}

impl Point {
    /// Every point, in order, with its name behind `envoy.load_shed_points.`.
    pub const ALL: [(Point, &'static str); 8] = [
        (Point::TcpListenerAccept, "tcp_listener_accept"),
        (Point::DecodeHeaders, "http_connection_manager_decode_headers"),
        (Point::CreatingCodec, "hcm_ondata_creating_codec"),
        (Point::Http1AbortDispatch, "http1_server_abort_dispatch"),
        (Point::Http2GoAway, "http2_server_go_away_on_dispatch"),
        (Point::Http2GoAwayAndClose, "http2_server_go_away_and_close_on_dispatch"),
        (Point::FilterCheck, "http_downstream_filter_check"),
        (Point::NewUpstreamConnection, "connection_pool_new_connection"),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_events_is_hit() {
        let share = Share::default();
        assert!(!share.hits());
        share.set(1.0);
        assert!((0..100).all(|_| share.hits()));
        share.set(0.25);
        let hits = (0..40_000).filter(|_| share.hits()).count();
        assert!((9_500..10_500).contains(&hits), "{hits}");
    }

    #[test]
    fn connections_beyond_the_limit_are_refused_until_one_ends() {
        let overload = Arc::new(Overload::default());
        assert!(overload.count_connection().is_some());
        assert_eq!(overload.connections(), 0);
        overload.limit_connections(2);
        let first = overload.count_connection();
        let second = overload.count_connection();
        assert!(first.is_some() && second.is_some() && overload.count_connection().is_none());
        drop(first);
        assert!(overload.count_connection().is_some());
        assert_eq!(overload.connections(), 1);
    }

    #[test]
    fn points_stand_in_their_order() {
        for (index, (point, _)) in Point::ALL.into_iter().enumerate() {
            assert_eq!(point as usize, index);
        }
    }
}
