//! A listener's configuration made ready to serve: clusters, routes, logs and statistics resolved once.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::config;
use crate::config::access_log::AccessLog;
use crate::config::bootstrap::Runtime;
use crate::config::hcm::{HttpConnectionManager, RouteSource};
use crate::config::listener::{FilterChain, Listener as Config};
use crate::config::network_filter::NetworkFilter;
use crate::config::route::{
    Action, ClusterSpecifier, MirrorTarget, RouteConfiguration, WeightedTarget,
};
use crate::config::source::ConfigSource;
use crate::config::tls::DownstreamTls;
use crate::config::{At, ConfigError};
use crate::downstream::filter_chain::FilterChains;
use crate::downstream::inspectors::Inspectors;
use crate::downstream::listener::{Chain, ChainTls, Handler, State};
use crate::downstream::network_filters::Guards;
use crate::downstream::stats::{ListenerStats, TcpStats};
use crate::downstream::tcp_proxy::TcpProxy;
use crate::drain::Drain;
use crate::http::filters::{Build, FilterEntry};
use crate::http::manager::{ConnectionManager, RouteSlot, Routes};
use crate::http::router::runtime::RouterRuntime;
use crate::http::stats::{CodecStats, HttpStats, ListenerHttpStats};
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::log_writer::LogWriter;
use crate::telemetry::stats::{Gauge, SharedStats, Store};
use crate::tls::{ServerTls, TlsStats};
use crate::upstream::cluster::ClusterRegistry;

/// Gives what comes over xDS into filter chains, and sees to it that it gets filled.
pub trait Slots {
    /// A route table that comes over RDS.
    fn routes(&mut self, name: &Arc<str>, source: &ConfigSource) -> RouteSlot;

    /// The TLS side of a chain of the listener, whose secrets may come over SDS.
    ///
    /// # Errors
    /// A secret that is not known, or cannot be used.
    fn tls(
        &mut self,
        context: &Arc<DownstreamTls>,
        listener: &Config,
        at: &At<'_>,
    ) -> Result<Arc<ServerTls>, ConfigError>;
}

/// Makes listeners ready. Groups of statistics with the same prefix are shared, so that an update keeps its counts.
pub struct Builder {
    store: Arc<Store>,
    registry: Arc<ClusterRegistry>,
    logs: LogWriter,
    stats: Arc<SharedStats>,
    inspectors: Inspectors,
    runtime: Runtime,
}

impl Builder {
    /// A builder over what the process shares.
    pub fn new(store: Arc<Store>, registry: Arc<ClusterRegistry>, logs: LogWriter) -> Self {
        Builder {
            store,
            registry,
            logs,
            stats: Arc::default(),
            inspectors: Inspectors::default(),
            runtime: Runtime::default(),
        }
    }

    /// Takes the limits of listeners from these runtime values; without them there are none.
    pub fn with_runtime(self, runtime: Runtime) -> Self {
        Builder { runtime, ..self }
    }

    /// The statistics of a listener.
    pub fn listener_stats(&self, config: &Config) -> Arc<ListenerStats> {
        let prefix = format!("listener.{}.", config.stat_name);
        self.stats.get(&self.store, prefix, ListenerStats::new)
    }

    /// Makes a listener ready. Chains that `previous` has unchanged are taken over with their connections.
    ///
    /// # Errors
    /// A part that cannot be made: a certificate, a log file, an unknown cluster where clusters are validated.
    pub fn state(
        &self,
        config: Arc<Config>,
        previous: Option<&State>,
        slots: &mut dyn Slots,
    ) -> Result<State, ConfigError> {
        let at = At::resource("listener", &config.name);
        let mut chains = Vec::with_capacity(config.filter_chains.len());
        for (index, chain) in config.filter_chains.iter().enumerate() {
            let at = at.index("filter_chains", index);
            let ready = self.chain(chain, &config, previous, &at, slots)?;
            chains.push((chain.matches.clone(), ready));
        }
        let default = match &config.default_filter_chain {
            Some(chain) => {
                let at = at.field("default_filter_chain");
                Some(self.chain(chain, &config, previous, &at, slots)?)
            }
            None => None,
        };
        let access_logs = self.loggers(&config.access_log, &at)?;
        let filters = config.listener_filters.iter();
        Ok(State {
            filters: filters.map(|filter| self.inspectors.filter(filter, &self.store)).collect(),
            connection_limit: self.connection_limit(&config.name),
            chains: FilterChains::new(chains, default).chosen_by(config.chain_tree.clone()),
            access_logs,
            config,
        })
    }

    fn connection_limit(&self, listener: &str) -> Option<u64> {
        let key = format!("envoy.resource_limits.listener.{listener}.connection_limit");
        // Numbers of a Struct are floating.
        self.runtime.get(&key)?.as_f64().map(|limit| limit as u64)
    }

    fn chain(
        &self,
        chain: &Arc<FilterChain>,
        listener: &Config,
        previous: Option<&State>,
        at: &At<'_>,
        slots: &mut dyn Slots,
    ) -> Result<Arc<Chain>, ConfigError> {
        let same = |old: &&Arc<Chain>| {
            old.config.fingerprint == chain.fingerprint && old.config.name == chain.name
        };
        if let Some(unchanged) = previous.and_then(|state| state.chains.iter().find(same)) {
            return Ok(Arc::clone(unchanged));
        }
        let handler = match chain.filters.last() {
            Some(NetworkFilter::Http(config)) => {
                Handler::Http(Arc::new(self.http(config, listener, at, slots)?))
            }
            Some(NetworkFilter::TcpProxy(config)) => Handler::Tcp(Arc::new(self.tcp(config, at)?)),
            Some(NetworkFilter::DirectResponse(bytes)) => Handler::Direct(bytes.clone()),
            Some(NetworkFilter::Echo) => Handler::Echo,
            _ => Handler::None,
        };
        let tls = match &chain.tls {
            Some(context) => {
                let slot = slots.tls(context, listener, &at.field("transport_socket"))?;
                let prefix = format!("listener.{}.ssl.", listener.stat_name);
                Some(ChainTls { slot, stats: self.stats.get(&self.store, prefix, TlsStats::new) })
            }
            None => None,
        };
        let guards = Guards::new(&chain.filters, &self.stats, &self.store, at)?;
        let (config, drain) = (Arc::clone(chain), Drain::default());
        Ok(Arc::new(Chain { config, tls, guards, handler, drain }))
    }

    fn http(
        &self,
        config: &Arc<HttpConnectionManager>,
        listener: &Config,
        at: &At<'_>,
        slots: &mut dyn Slots,
    ) -> Result<ConnectionManager, ConfigError> {
        let prefix = stat_safe(&config.stat_prefix);
        let routes = match &config.routes {
            RouteSource::Inline(table) => {
                if table.validate_clusters.unwrap_or(true) {
                    self.validate_clusters(table, at)?;
                }
                let table = self.route_table(table);
                Arc::new(ArcSwapOption::from_pointee(table))
            }
            RouteSource::Rds { name, source } => slots.routes(name, source),
        };
        let access_logs = self.loggers(&config.access_log, at)?;
        let replies = config.local_replies.as_ref();
        let keeps_heads = access_logs.iter().any(AccessLogger::needs_heads)
            || replies.is_some_and(|replies| replies.needs_heads());
        Ok(ConnectionManager {
            config: Arc::clone(config),
            routes,
            stats: self.stats.get(&self.store, format!("http.{prefix}."), HttpStats::new),
            codec_stats: ["http1.", "http2."]
                .map(|prefix| self.stats.get(&self.store, prefix.into(), CodecStats::new)),
            listener_stats: self.stats.get(
                &self.store,
                format!("listener.{}.http.{prefix}.", listener.stat_name),
                ListenerHttpStats::new,
            ),
            access_logs,
            router_runtime: RouterRuntime::new(&self.runtime),
            keeps_heads,
            filters: self.http_filters(config, &format!("http.{prefix}."), at)?,
        })
    }

    /// The HTTP filters before the router.
    fn http_filters(
        &self,
        config: &HttpConnectionManager,
        stat_prefix: &str,
        at: &At<'_>,
    ) -> Result<Box<[FilterEntry]>, ConfigError> {
        let build = Build {
            stat_prefix,
            store: &self.store,
            stats: &self.stats,
            runtime: &self.runtime,
            at,
        };
        config.filters.iter().map(|filter| FilterEntry::build(filter, &build)).collect()
    }

    fn tcp(
        &self,
        config: &Arc<config::network_filter::TcpProxy>,
        at: &At<'_>,
    ) -> Result<TcpProxy, ConfigError> {
        let clusters = config.clusters.iter();
        let prefix = format!("tcp.{}.", stat_safe(&config.stat_prefix));
        Ok(TcpProxy {
            config: Arc::clone(config),
            clusters: clusters.map(|cluster| self.registry.slot(&cluster.name)).collect(),
            stats: self.stats.get(&self.store, prefix, TcpStats::new),
            sessions: Gauge::default(),
            access_logs: self.loggers(&config.access_log, at)?,
        })
    }

    /// A route table whose routes hold their clusters.
    pub fn route_table(&self, config: &Arc<RouteConfiguration>) -> Routes {
        Routes::build(config, |name| self.registry.slot(name))
    }

    /// Refuses a table that names a cluster which does not exist (`validate_clusters`).
    ///
    /// # Errors
    /// The first such cluster.
    pub fn validate_clusters(
        &self,
        table: &RouteConfiguration,
        at: &At<'_>,
    ) -> Result<(), ConfigError> {
        // Like Envoy, not those that a tree leads to.
        let hosts = table.virtual_hosts.iter().filter(|host| host.tree.is_none());
        let routes = hosts.flat_map(|host| &host.routes);
        for name in routes.flat_map(|route| named_clusters(&route.action)) {
            if !self.registry.is_known(name) {
                let at = at.field("route_config");
                return Err(at.error(format!(
                    "route: unknown cluster '{name}'; define it, or set validate_clusters to false"
                )));
            }
        }
        Ok(())
    }

    fn loggers(&self, logs: &[AccessLog], at: &At<'_>) -> Result<Vec<AccessLogger>, ConfigError> {
        let made = logs.iter().enumerate().map(|(index, log)| {
            AccessLogger::new(log.clone(), &self.logs)
                .map_err(|error| at.index("access_log", index).error(error))
        });
        made.collect()
    }
}

/// Every cluster that an action names, mirrors included.
fn named_clusters(action: &Action) -> Vec<&Arc<str>> {
    let Action::Forward(action) = action else { return Vec::new() };
    let mut names = match &action.cluster {
        ClusterSpecifier::Cluster(name) => vec![name],
        ClusterSpecifier::Header(_) => Vec::new(),
        ClusterSpecifier::Weighted(weighted) => {
            let clusters = weighted.clusters.iter();
            let named = clusters.filter_map(|entry| match &entry.cluster {
                WeightedTarget::Cluster(name) => Some(name),
                WeightedTarget::Header(_) => None,
            });
            named.collect()
        }
    };
    names.extend(action.resilience.mirrors.iter().filter_map(|mirror| match &mirror.target {
        MirrorTarget::Cluster(name) => Some(name),
        MirrorTarget::Header(_) => None,
    }));
    names
}

/// Envoy replaces `:` in names that go into statistics.
fn stat_safe(name: &str) -> String {
    name.replace(':', "_")
}
