//! Network filters that look at a connection when it comes, before it has said anything.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::config::filter_state::{StateValues, TCP_CLUSTER};
use crate::config::network_filter::{ConnectionLimit, ConnectionRateLimit, NetworkFilter};
use crate::stat_group;
use crate::telemetry::log_format::FormatContext;
use crate::telemetry::response_flags::ResponseFlags;
use crate::telemetry::stats::{SharedStats, Store};
use crate::telemetry::stream_info::StreamInfo;

use super::Denied;

stat_group! {
    /// `connection_limit.<stat_prefix>.`
    pub struct ConnectionLimitStats {
        gauge active_connections,
        counter limited_connections,
    }
}

stat_group! {
    /// `local_rate_limit.<stat_prefix>.`
    pub struct ConnectionRateStats {
        counter rate_limited,
    }
}

/// A filter that looks at connections when they come.
pub(super) enum Arrival {
    /// `envoy.filters.network.connection_limit`
    Limit(Arc<Limit>),
    /// `envoy.filters.network.local_ratelimit`
    Rate(Arc<ConnectionRateLimit>, Arc<ConnectionRateStats>),
    /// `envoy.filters.network.set_filter_state`
    State(Arc<StateValues>),
    /// `envoy.filters.network.sni_cluster`: the server name is the cluster that the TCP proxy goes to.
    SniCluster,
}

/// A limit of connections with those that there are.
pub(super) struct Limit {
    config: Arc<ConnectionLimit>,
    stats: Arc<ConnectionLimitStats>,
    connections: AtomicU64,
}

/// The place of a connection within a limit.
pub struct Place(Arc<Limit>);

impl Arrival {
    /// The filter of a configuration, if it is one of these.
    pub(super) fn new(
        config: &NetworkFilter,
        stats: &SharedStats,
        store: &Store,
    ) -> Option<Arrival> {
        match config {
            NetworkFilter::ConnectionLimit(config) => {
                let prefix = format!("connection_limit.{}.", config.stat_prefix);
                Some(Arrival::Limit(Arc::new(Limit {
                    config: Arc::clone(config),
                    stats: stats.get(store, prefix, ConnectionLimitStats::new),
                    connections: AtomicU64::new(0),
                })))
            }
            NetworkFilter::RateLimit(config) => {
                let prefix = format!("local_rate_limit.{}.", config.stat_prefix);
                let stats = stats.get(store, prefix, ConnectionRateStats::new);
                Some(Arrival::Rate(Arc::clone(config), stats))
            }
            NetworkFilter::FilterState(values) => Some(Arrival::State(Arc::clone(values))),
            NetworkFilter::SniCluster => Some(Arrival::SniCluster),
            _ => None,
        }
    }

    /// Looks at a connection. What it takes of a limit goes into `places`.
    ///
    /// # Errors
    /// The connection must close.
    pub(super) async fn admit(
        &self,
        info: &mut StreamInfo,
        places: &mut Vec<Place>,
    ) -> Result<(), Denied> {
        match self {
            Arrival::Limit(limit) => {
                let Some(most) = limit.config.most else { return Ok(()) };
                let before = limit.connections.fetch_add(1, Relaxed);
                limit.stats.active_connections.inc();
                places.push(Place(Arc::clone(limit)));
                if before < most {
                    return Ok(());
                }
                limit.stats.limited_connections.inc();
                if let Some(delay) = limit.config.delay {
                    tokio::time::sleep(delay).await;
                }
                Err(Denied)
            }
            Arrival::Rate(config, stats) => {
                if config.bucket.as_ref().is_none_or(|bucket| bucket.take()) {
                    return Ok(());
                }
                stats.rate_limited.inc();
                // Envoy's choice of a flag.
                info.flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
                Err(Denied)
            }
            Arrival::State(values) => {
                let mut state = info.connection.filter_state.clone();
                values.set(&of_connection(info), &mut state);
                Rc::make_mut(&mut info.connection).filter_state = state;
                Ok(())
            }
            Arrival::SniCluster => {
                if let Some(name) = info.connection.requested_server_name.clone() {
                    Rc::make_mut(&mut info.connection).filter_state.set(TCP_CLUSTER, name);
                }
                Ok(())
            }
        }
    }
}

fn of_connection(info: &StreamInfo) -> FormatContext<'_> {
    FormatContext { info, request: None, response: None, trailers: None, local_reply_body: None }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
        self.0.stats.active_connections.dec();
    }
}
