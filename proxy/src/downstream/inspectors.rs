//! Listener filters made ready to run.

use std::sync::Arc;

use crate::config::listener::{ListenerFilter, ListenerFilterKind};
use crate::downstream::inspect::proxy_protocol::ProxyProtocol;
use crate::downstream::inspect::{Filter, FilterKind};
use crate::downstream::stats::{
    HttpInspectorStats, ProxyProtocolStats, ProxyVersionStats, TlsInspectorStats,
};
use crate::telemetry::stats::{SharedStats, Store};

/// Makes listener filters. All filters of a kind share their statistics, as in Envoy.
#[derive(Default)]
pub(super) struct Inspectors {
    stats: SharedStats,
}

impl Inspectors {
    /// The filter of a configuration.
    pub(super) fn filter(&self, config: &ListenerFilter, store: &Store) -> Filter {
        Filter { kind: self.kind(&config.kind, store), disabled: config.disabled.clone() }
    }

    fn kind(&self, config: &ListenerFilterKind, store: &Store) -> FilterKind {
        match config {
            ListenerFilterKind::OriginalDst => FilterKind::OriginalDst,
            ListenerFilterKind::OriginalSrc { mark } => FilterKind::OriginalSrc(*mark),
            ListenerFilterKind::FilterState(values) => FilterKind::FilterState(Arc::clone(values)),
            ListenerFilterKind::TlsInspector => {
                let prefix = "tls_inspector.".to_owned();
                FilterKind::TlsInspector(self.stats.get(store, prefix, TlsInspectorStats::new))
            }
            ListenerFilterKind::HttpInspector => {
                let prefix = "http_inspector.".to_owned();
                FilterKind::HttpInspector(self.stats.get(store, prefix, HttpInspectorStats::new))
            }
            ListenerFilterKind::ProxyProtocol { optional, disallowed, stat_prefix } => {
                let prefix = match &**stat_prefix {
                    "" => "proxy_proto.".to_owned(),
                    name => format!("proxy_proto.{name}."),
                };
                let version = |version: &str| -> Arc<ProxyVersionStats> {
                    let prefix = format!("{prefix}versions.{version}.");
                    self.stats.get(store, prefix, ProxyVersionStats::new)
                };
                FilterKind::ProxyProtocol(ProxyProtocol {
                    optional: *optional,
                    disallowed: *disallowed,
                    versions: [version("v1"), version("v2")],
                    stats: self.stats.get(store, prefix, ProxyProtocolStats::new),
                })
            }
        }
    }
}
