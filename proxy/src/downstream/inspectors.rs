//! Listener filters made ready to run.

use std::sync::Arc;

use crate::config::listener::ListenerFilter;
use crate::downstream::inspect::Filter;
use crate::downstream::inspect::proxy_protocol::ProxyProtocol;
use crate::downstream::stats::{
    HttpInspectorStats, ProxyProtocolStats, ProxyVersionStats, TlsInspectorStats,
};
use crate::telemetry::stats::SharedStats;
use crate::telemetry::stats::Store;

/// Makes listener filters. All filters of a kind share their statistics, as in Envoy.
#[derive(Default)]
pub(super) struct Inspectors {
    tls: SharedStats<TlsInspectorStats>,
    http: SharedStats<HttpInspectorStats>,
    proxy: SharedStats<ProxyProtocolStats>,
    proxy_versions: SharedStats<ProxyVersionStats>,
}

impl Inspectors {
    /// The filter of a configuration.
    pub(super) fn filter(&self, config: &ListenerFilter, store: &Store) -> Filter {
        match config {
            ListenerFilter::OriginalDst => Filter::OriginalDst,
            ListenerFilter::TlsInspector => {
                let prefix = "tls_inspector.".to_owned();
                Filter::TlsInspector(self.tls.get(store, prefix, TlsInspectorStats::new))
            }
            ListenerFilter::HttpInspector => {
                let prefix = "http_inspector.".to_owned();
                Filter::HttpInspector(self.http.get(store, prefix, HttpInspectorStats::new))
            }
            ListenerFilter::ProxyProtocol { optional, disallowed, stat_prefix } => {
                let prefix = match &**stat_prefix {
                    "" => "proxy_proto.".to_owned(),
                    name => format!("proxy_proto.{name}."),
                };
                let version = |version: &str| -> Arc<ProxyVersionStats> {
                    let prefix = format!("{prefix}versions.{version}.");
                    self.proxy_versions.get(store, prefix, ProxyVersionStats::new)
                };
                Filter::ProxyProtocol(ProxyProtocol {
                    optional: *optional,
                    disallowed: *disallowed,
                    versions: [version("v1"), version("v2")],
                    stats: self.proxy.get(store, prefix, ProxyProtocolStats::new),
                })
            }
        }
    }
}
