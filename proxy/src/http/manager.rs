//! An HTTP connection manager, ready to serve: its configuration with everything resolved once.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::config::hcm::HttpConnectionManager;
use crate::http::filters::FilterEntry;
use crate::http::router::runtime::RouterRuntime;
use crate::http::stats::{CodecStats, HttpStats, ListenerHttpStats};
use crate::route::{RouteEntry, RouteTable};
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::stream_info::Protocol;
use crate::upstream::cluster::ClusterSlot;

/// A route table whose routes hold their clusters.
pub type Routes = RouteTable<Arc<ClusterSlot>>;

/// Where a cluster is found.
pub type Slot = ClusterSlot;

/// A route of such a table.
pub type Route = RouteEntry<Arc<ClusterSlot>>;

/// Where a route table is published; empty until the first one came.
pub type RouteSlot = Arc<ArcSwapOption<Routes>>;

/// An HTTP connection manager with its statistics, route table and logs.
pub struct ConnectionManager {
    /// The configuration.
    pub config: Arc<HttpConnectionManager>,
    /// The route table, inline or from RDS.
    pub routes: RouteSlot,
    /// `http.<stat_prefix>.`
    pub stats: Arc<HttpStats>,
    /// `http1.` and `http2.`
    pub codec_stats: [Arc<CodecStats>; 2],
    /// `listener.<address>.http.<stat_prefix>.`
    pub listener_stats: Arc<ListenerHttpStats>,
    /// `access_log`
    pub access_logs: Vec<AccessLogger>,
    /// What runtime values tell the router.
    pub router_runtime: RouterRuntime,
    /// Whether response or request headers must be kept for logs and formatters.
    pub keeps_heads: bool,
    /// `http_filters` before the router, in order.
    pub filters: Box<[FilterEntry]>,
}

impl ConnectionManager {
    /// The statistics of the codec that speaks `protocol`.
    pub fn codec_stats(&self, protocol: Protocol) -> &CodecStats {
        &self.codec_stats[usize::from(protocol == Protocol::Http2)]
    }
}
