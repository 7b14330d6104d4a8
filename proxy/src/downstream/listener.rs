//! A listener, ready to serve: filter chains with everything resolved, and what its connections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::config;
use crate::config::listener::FilterChain;
use crate::downstream::filter_chain::FilterChains;
use crate::downstream::inspect::Filter;
use crate::downstream::network_filters::Guards;
use crate::downstream::stats::ListenerStats;
use crate::downstream::tcp_proxy::TcpProxy;
use crate::drain::{Drain, Phase};
use crate::http::manager::ConnectionManager;
use crate::overload::CountedConnection;
use crate::telemetry::access_log::AccessLogger;
use crate::tls::{ServerTls, TlsStats};

/// A listener. An update in place swaps its state; connections keep the chain that they were given.
pub struct Listener {
    /// Configuration and chains.
    pub state: ArcSwap<State>,
    /// `listener.<address>.`
    pub stats: Arc<ListenerStats>,
    /// Connections now, for the listener's limit.
    connections: AtomicU64,
}

/// What an update replaces.
pub struct State {
    /// The configuration.
    pub config: Arc<config::listener::Listener>,
    /// The listener filters, in order.
    pub filters: Vec<Filter>,
    /// The runtime key `envoy.resource_limits.listener.<name>.connection_limit`; none is no limit.
    pub connection_limit: Option<u64>,
    /// The filter chains.
    pub chains: FilterChains<Arc<Chain>>,
    /// `access_log`: for connections that no chain serves.
    pub access_logs: Vec<AccessLogger>,
}

/// A filter chain.
pub struct Chain {
    /// The configuration.
    pub config: Arc<FilterChain>,
    /// The TLS side, if connections speak TLS.
    pub tls: Option<ChainTls>,
    /// The network filters before the terminal one.
    pub guards: Guards,
    /// What serves connections.
    pub handler: Handler,
    /// Drains its connections.
    pub drain: Drain,
}

/// The TLS side of a filter chain.
pub struct ChainTls {
    /// The context with its secrets.
    pub slot: Arc<ServerTls>,
    /// `listener.<address>.ssl.`
    pub stats: Arc<TlsStats>,
}

/// The terminal filter of a chain.
pub enum Handler {
    /// HTTP.
    Http(Arc<ConnectionManager>),
    /// TCP.
    Tcp(Arc<TcpProxy>),
    /// These bytes, and the end.
    Direct(Bytes),
    /// What comes goes back.
    Echo,
    /// No filter: connections close at once.
    None,
}

impl Chain {
    /// Counts a connection that a filter before the terminal one turned away when it came: as in Envoy, it is one of the
    /// terminal filter's connections all the same.
    pub fn count_denied(&self) {
        match &self.handler {
            Handler::Http(manager) => manager.stats.downstream_cx_total.inc(),
            Handler::Tcp(proxy) => proxy.stats.downstream_cx_total.inc(),
            Handler::Direct(_) | Handler::Echo | Handler::None => {}
        }
    }

    /// How many requests and TCP sessions are under way.
    pub fn active(&self) -> u64 {
        match &self.handler {
            Handler::Http(manager) => manager.stats.downstream_rq_active.get(),
            Handler::Tcp(proxy) => proxy.active(),
            Handler::Direct(_) | Handler::Echo | Handler::None => 0,
        }
    }
}

impl Listener {
    /// A listener with its first state.
    pub fn new(state: State, stats: Arc<ListenerStats>) -> Self {
        Listener { state: ArcSwap::from_pointee(state), stats, connections: AtomicU64::new(0) }
    }

    /// The configuration now.
    pub fn config(&self) -> Arc<config::listener::Listener> {
        Arc::clone(&self.state.load().config)
    }

    /// Moves the drain of every chain.
    pub fn drain(&self, phase: Phase) {
        for chain in self.state.load().chains.iter() {
            chain.drain.advance(phase);
        }
    }

    /// A place for one more connection, which the process has `counted`; none if the listener's limit is reached.
    pub fn admit(self: &Arc<Self>, counted: CountedConnection) -> Option<ConnectionSlot> {
        let limit = self.state.load().connection_limit;
        let now = self.connections.fetch_add(1, Relaxed) + 1;
        let slot = ConnectionSlot { listener: Arc::clone(self), _counted: counted };
        if limit.is_some_and(|limit| now > limit) {
            self.stats.downstream_cx_overflow.inc();
            return None;
        }
        Some(slot)
    }
}

/// The place of a connection in its listener's count.
pub struct ConnectionSlot {
    listener: Arc<Listener>,
    _counted: CountedConnection,
}

impl ConnectionSlot {
    /// The listener.
    pub fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// The connection goes on at another listener, whose limit it already passed elsewhere: as in Envoy, it is only
    /// counted there.
    pub fn hand_to(&mut self, listener: &Arc<Listener>) {
        listener.connections.fetch_add(1, Relaxed);
        self.listener.connections.fetch_sub(1, Relaxed);
        self.listener = Arc::clone(listener);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.listener.connections.fetch_sub(1, Relaxed);
    }
}
