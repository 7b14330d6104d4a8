//! A cluster at run time: its hosts, circuit breakers, statistics and client TLS.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use http::HeaderMap;
use parking_lot::Mutex;

use crate::config::cluster::{Cluster as Config, Discovery, LbPolicy};
use crate::telemetry::stats::Store;
use crate::tls::TlsStats;
use crate::upstream::balance::PickContext;
use crate::upstream::balance::report::LoadReport;
use crate::upstream::balance::zone::LocalZone;

mod aggregate;
pub mod circuit_breaker;
pub mod health_check;
pub mod host;
pub mod host_snapshot;
pub mod original_dst;
pub mod outlier;
pub mod registry;
pub mod resolve;
pub mod retry_tokens;
pub mod sockets;
pub mod stats;
mod table_stats;
mod update;

pub use circuit_breaker::{CircuitBreaker, Permit, Resource};
pub use host::{Health, HealthFlags, Host, since_start};
pub use host_snapshot::{HostSnapshot, Membership};
pub use outlier::Outcome;
pub use registry::{ClusterRegistry, ClusterSlot};
pub use sockets::Sockets;
pub use stats::{EndpointStats, Traffic, TrafficStats};

use aggregate::Aggregate;
use original_dst::OriginalDstHosts;
use table_stats::TableStats;

/// Why no host was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// There is no host, or none that may be used.
    #[error("no healthy upstream")]
    NoHealthyUpstream,
    /// The endpoints' `drop_overloads` policy dropped the request.
    #[error("drop overload")]
    DropOverload,
    /// The policy drops every request.
    #[error("unconditional drop overload")]
    UnconditionalDropOverload,
}

/// A host that was picked.
#[derive(Debug)]
pub struct Picked {
    /// The host.
    pub host: Arc<Host>,
    /// The cluster that the host belongs to, where it is another than the one that was asked: a member of an aggregate
    /// cluster. Connections, circuit breakers and their statistics are the member's; answers are counted for the
    /// aggregate cluster, as in Envoy.
    pub member: Option<Arc<Cluster>>,
}

impl Picked {
    /// The cluster whose connections lead to the host; `asked` is the one that was asked.
    pub fn owner<'a>(&'a self, asked: &'a Arc<Cluster>) -> &'a Arc<Cluster> {
        self.member.as_ref().unwrap_or(asked)
    }
}

/// A cluster, shared by all threads.
pub struct Cluster {
    config: Arc<Config>,
    hosts: ArcSwap<HostSnapshot>,
    /// One update of the hosts at a time.
    updating: Mutex<()>,
    original_dst: Option<OriginalDstHosts>,
    aggregate: Option<Box<Aggregate>>,
    /// Where this proxy is.
    zone: Option<Arc<LocalZone>>,
    tables: Option<TableStats>,
    endpoint_stats: Arc<EndpointStats>,
    traffic: Arc<OnceLock<Traffic>>,
    /// Where outliers are told to; none without a detector.
    reports: OnceLock<outlier::Reports>,
    outlier_stats: Arc<OnceLock<Arc<outlier::OutlierStats>>>,
    /// What health checks need; none without them.
    checks: Option<Arc<health_check::Checks>>,
    health_check_stats: Arc<OnceLock<Arc<health_check::HealthCheckStats>>>,
    store: Arc<Store>,
    /// The transport sockets with TLS. Set before the cluster is put into the registry.
    pub sockets: OnceLock<Sockets>,
    /// [`WARMING`], [`ACTIVE`] or [`RETIRED`].
    phase: AtomicU8,
}

/// Not in the registry yet: hosts may be those of a predecessor that still serves.
const WARMING: u8 = 0;
/// In the registry.
const ACTIVE: u8 = 1;
/// A successor has taken over, or the cluster is gone: its hosts are not its own any more.
const RETIRED: u8 = 2;

impl Cluster {
    /// A cluster as configured. `previous` is the one that it replaces: statistics, circuit breakers' use and hosts
    /// with their health carry over. A static cluster has its hosts at once. `registry` has the local cluster and the
    /// members of an aggregate cluster.
    pub fn new(
        config: Arc<Config>,
        store: &Arc<Store>,
        registry: &ClusterRegistry,
        previous: Option<&Cluster>,
    ) -> Arc<Self> {
        let endpoint_stats = previous.map(|cluster| Arc::clone(&cluster.endpoint_stats));
        let endpoint_stats = endpoint_stats.unwrap_or_else(|| {
            store.register(EndpointStats::new(format!("cluster.{}.", config.stat_name)))
        });
        let traffic = previous.map(|cluster| Arc::clone(&cluster.traffic)).unwrap_or_default();
        let outlier_stats = previous.map(|cluster| Arc::clone(&cluster.outlier_stats));
        let check_stats = previous.map(|cluster| Arc::clone(&cluster.health_check_stats));
        if let Some(traffic) = traffic.get() {
            for (priority, thresholds) in config.circuit_breakers.iter().enumerate() {
                traffic.breaker(priority).set_thresholds(thresholds);
            }
        }
        let is_original_dst = matches!(config.discovery, Discovery::OriginalDst { .. });
        let membership = previous.map(|cluster| cluster.hosts.load().membership().clone());
        let has_own = config.discovery.picks_by_itself().is_some();
        let membership = membership.filter(|_| !has_own).unwrap_or_default();
        let zone = registry.local_zone().cloned();
        let hosts = HostSnapshot::new(membership, &config.lb, zone.as_ref(), None);
        let aggregate = match &config.discovery {
            Discovery::Aggregate { clusters } => Some(Box::new(Aggregate::new(clusters, registry))),
            _ => None,
        };
        let cluster = Arc::new(Cluster {
            hosts: ArcSwap::from_pointee(hosts),
            updating: Mutex::default(),
            original_dst: is_original_dst.then(OriginalDstHosts::default),
            aggregate,
            zone,
            tables: TableStats::new(&config, store),
            endpoint_stats,
            traffic,
            reports: OnceLock::new(),
            outlier_stats: outlier_stats.unwrap_or_default(),
            checks: config.health_check.is_some().then(Arc::default),
            health_check_stats: check_stats.unwrap_or_default(),
            store: Arc::clone(store),
            sockets: OnceLock::new(),
            phase: AtomicU8::new(WARMING),
            config,
        });
        if let Discovery::Static(assignment) = &cluster.config.discovery {
            cluster.set_assignment(assignment);
        }
        cluster
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The cluster's name.
    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    /// The hosts now.
    pub fn hosts(&self) -> Guard<Arc<HostSnapshot>> {
        self.hosts.load()
    }

    /// The hosts that an `ORIGINAL_DST` cluster has made for requests; none for other kinds.
    pub fn original_dst(&self) -> Option<&OriginalDstHosts> {
        self.original_dst.as_ref()
    }

    /// The request header that tells an `ORIGINAL_DST` cluster the host (`use_http_header`).
    pub fn original_dst_header(&self) -> Option<&http::HeaderName> {
        match &self.config.discovery {
            Discovery::OriginalDst { header, .. } => header.as_ref(),
            _ => None,
        }
    }

    /// Statistics of the membership.
    pub fn endpoint_stats(&self) -> &EndpointStats {
        &self.endpoint_stats
    }

    /// Statistics and circuit breakers; made at the first call.
    pub fn traffic(&self) -> &Traffic {
        self.traffic.get_or_init(|| Traffic::new(&self.config, &self.store))
    }

    /// Statistics of the traffic; made at the first call.
    pub fn stats(&self) -> &TrafficStats {
        &self.traffic().stats
    }

    /// Statistics of TLS handshakes with hosts; made at the first call.
    pub fn tls_stats(&self) -> &TlsStats {
        self.traffic().tls(&self.config, &self.store)
    }

    /// The circuit breakers of a routing priority: 0 is the default one, 1 the high one.
    pub fn breaker(&self, priority: usize) -> &Arc<CircuitBreaker> {
        self.traffic().breaker(priority)
    }

    /// The host for one request.
    ///
    /// # Errors
    /// No usable host, or the endpoints' policy drops the request.
    pub fn pick(&self, context: &PickContext<'_>) -> Result<Picked, PickError> {
        if let Some(original_dst) = &self.original_dst {
            let host = original_dst.pick(self, context).ok_or_else(|| self.none_healthy())?;
            return Ok(Picked { host, member: None });
        }
        let snapshot = self.hosts.load();
        if let Some((_, per_million)) = &snapshot.membership().drop_overload {
            if *per_million >= 1_000_000 {
                self.traffic().dropped.inc();
                return Err(PickError::UnconditionalDropOverload);
            }
            if fastrand::u32(..1_000_000) < *per_million {
                self.traffic().dropped.inc();
                return Err(PickError::DropOverload);
            }
        }
        if let Some(aggregate) = &self.aggregate {
            let picked = aggregate.pick(context, self.config.lb.panic_threshold);
            return picked.ok_or_else(|| self.none_healthy());
        }
        if let Some(wanted) = &context.wanted {
            let statuses = &self.config.lb.override_statuses;
            match snapshot.host_at(wanted.address) {
                Some(host) if host.may_override(statuses) => {
                    return Ok(Picked { host: Arc::clone(host), member: None });
                }
                _ if wanted.strict => return Err(self.none_healthy()),
                _ => {}
            }
        }
        let host = self.pick_by_policy(&snapshot, context).ok_or_else(|| self.none_healthy())?;
        Ok(Picked { host, member: None })
    }

    fn pick_by_policy(
        &self,
        snapshot: &HostSnapshot,
        context: &PickContext<'_>,
    ) -> Option<Arc<Host>> {
        let stats = self.stats();
        let mut context = *context;
        if self.config.lb.policy.balance_factor().is_some() {
            context.active_requests = stats.upstream_rq_active.get();
        }
        snapshot.pick(&context, stats).cloned()
    }

    /// Whether the hosts are those of other clusters.
    pub fn is_aggregate(&self) -> bool {
        self.aggregate.is_some()
    }

    /// Takes over what a response says of its host, where the policy wants to know: its headers, and how long it took to
    /// come.
    pub fn note_response(&self, host: &Host, headers: &HeaderMap, latency: Duration) {
        match &self.config.lb.policy {
            LbPolicy::PeakEwma(policy) => host.measured().observe(latency, policy),
            LbPolicy::ClientSideWeighted(_) => self.note_trailers(host, headers),
            _ => {}
        }
    }

    /// Takes over what a response's trailers say of its host.
    pub fn note_trailers(&self, host: &Host, trailers: &HeaderMap) {
        if let LbPolicy::ClientSideWeighted(policy) = &self.config.lb.policy
            && let Some(report) = LoadReport::from_headers(trailers)
        {
            host.measured().report(&report, policy);
        }
    }

    fn none_healthy(&self) -> PickError {
        self.stats().upstream_cx_none_healthy.inc();
        PickError::NoHealthyUpstream
    }

    /// Whether a successor has taken over or the cluster is gone.
    pub fn is_retired(&self) -> bool {
        self.phase.load(SeqCst) == RETIRED
    }

    /// The registry has the cluster: requests come.
    fn activate(&self) {
        self.phase.store(ACTIVE, SeqCst);
    }

    /// Hands the hosts to `successor`: connections made for this cluster drain, hosts that the successor does not
    /// have are given up.
    fn retire(&self, successor: Option<&Cluster>) {
        let _updating = self.updating.lock();
        self.phase.store(RETIRED, SeqCst);
        let kept: std::collections::HashSet<u64> = successor
            .map(|cluster| cluster.hosts().hosts().iter().map(|host| host.id()).collect())
            .unwrap_or_default();
        for host in self.hosts.load().hosts().iter() {
            if kept.contains(&host.id()) {
                host.drain_connections();
            } else {
                host.remove();
            }
        }
        if let Some(original_dst) = &self.original_dst {
            original_dst.clear();
        }
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("name", self.name()).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
