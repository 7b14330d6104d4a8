//! Network filters of a filter chain.

use std::sync::Arc;
use std::time::Duration;

use crate::config::access_log::AccessLog;
use crate::config::hcm::HttpConnectionManager;

/// A network filter. The last one of a chain is terminal: HTTP connection manager or TCP proxy.
#[derive(Clone, Debug)]
pub enum NetworkFilter {
    /// `envoy.filters.network.http_connection_manager`
    Http(Arc<HttpConnectionManager>),
    /// `envoy.filters.network.tcp_proxy`
    TcpProxy(Arc<TcpProxy>),
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.
#[derive(Clone, Debug)]
pub struct TcpProxy {
    /// `stat_prefix`
    pub stat_prefix: Arc<str>,
    /// `cluster`, or `weighted_clusters` with their weights; weights sum up to more than 0.
    pub clusters: Vec<(Arc<str>, u32)>,
    /// `idle_timeout`; default 1 h, none for 0.
    pub idle_timeout: Option<Duration>,
    /// `max_downstream_connection_duration`
    pub max_duration: Option<Duration>,
    /// `max_connect_attempts`; default 1.
    pub max_connect_attempts: u32,
    /// `access_log`
    pub access_log: Vec<AccessLog>,
}
