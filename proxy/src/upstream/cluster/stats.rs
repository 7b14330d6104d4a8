//! A cluster's statistics, under Envoy's names.

use std::sync::{Arc, OnceLock};

use super::circuit_breaker::CircuitBreaker;
use crate::config::cluster::Cluster as Config;
use crate::stat_group;
use crate::telemetry::stats::{Counter, Store};
use crate::tls::TlsStats;

stat_group! {
    /// `cluster.<name>.*` of the membership: there for every cluster.
    pub struct EndpointStats {
        counter membership_change,
        gauge membership_total,
        gauge membership_healthy,
        gauge membership_degraded,
        gauge membership_excluded,
    }
}

stat_group! {
    /// `cluster.<name>.*` of the traffic: made when the cluster is first used.
    pub struct TrafficStats {
        counter bind_errors,
        counter lb_healthy_panic,
        counter lb_local_cluster_not_ok,
        counter lb_recalculate_zone_structures,
        gauge lb_subsets_active,
        counter lb_subsets_created,
        counter lb_subsets_fallback,
        counter lb_subsets_fallback_panic,
        counter lb_subsets_removed,
        counter lb_subsets_selected,
        gauge lb_subsets_single_host_per_subset_duplicate,
        counter lb_zone_cluster_too_small,
        counter lb_zone_no_capacity_left,
        counter lb_zone_routing_all_directly,
        counter lb_zone_routing_cross_zone,
        counter lb_zone_routing_sampled,
        counter original_dst_host_invalid,
        counter retry_or_shadow_abandoned,
        gauge upstream_cx_active,
        counter upstream_cx_close_notify,
        counter upstream_cx_connect_attempts_exceeded,
        counter upstream_cx_connect_fail,
        histogram upstream_cx_connect_ms,
        counter upstream_cx_connect_timeout,
        counter upstream_cx_destroy,
        counter upstream_cx_destroy_local,
        counter upstream_cx_destroy_local_with_active_rq,
        counter upstream_cx_destroy_remote,
        counter upstream_cx_destroy_remote_with_active_rq,
        counter upstream_cx_destroy_with_active_rq,
        counter upstream_cx_http1_total,
        counter upstream_cx_http2_total,
        counter upstream_cx_idle_timeout,
        histogram upstream_cx_length_ms,
        counter upstream_cx_max_duration_reached,
        counter upstream_cx_max_requests,
        counter upstream_cx_none_healthy,
        counter upstream_cx_overflow,
        counter upstream_cx_protocol_error,
        counter upstream_cx_rx_bytes_total,
        counter upstream_cx_total,
        counter upstream_cx_tx_bytes_total,
        counter upstream_internal_redirect_failed_total,
        counter upstream_internal_redirect_succeeded_total,
        codes upstream_rq,
        gauge upstream_rq_active,
        counter upstream_rq_active_overflow,
        counter upstream_rq_cancelled,
        counter upstream_rq_maintenance_mode,
        counter upstream_rq_max_duration_reached,
        gauge upstream_rq_pending_active,
        counter upstream_rq_pending_failure_eject,
        counter upstream_rq_pending_overflow,
        counter upstream_rq_pending_total,
        counter upstream_rq_per_try_idle_timeout,
        counter upstream_rq_per_try_timeout,
        counter upstream_rq_retry,
        counter upstream_rq_retry_backoff_exponential,
        counter upstream_rq_retry_backoff_ratelimited,
        counter upstream_rq_retry_limit_exceeded,
        counter upstream_rq_retry_overflow,
        counter upstream_rq_retry_success,
        counter upstream_rq_reuse_race,
        counter upstream_rq_rx_reset,
        histogram upstream_rq_time,
        counter upstream_rq_timeout,
        counter upstream_rq_total,
        counter upstream_rq_tx_reset,
    }
}

stat_group! {
    /// `cluster_manager.*`
    pub struct ClusterManagerStats {
        gauge active_clusters,
        counter cluster_added,
        counter cluster_modified,
        counter cluster_removed,
        counter cluster_updated,
        gauge warming_clusters,
    }
}

stat_group! {
    /// `cluster.<name>.internal.*` or `cluster.<name>.external.*`: answers by where the request came from; and
    /// `cluster.<name>.retry.*`: answers after which it was sent again.
    pub struct OriginStats {
        codes upstream_rq,
    }
}

/// What a cluster needs once it is used: statistics, and circuit breakers of the default and the high priority.
#[derive(Debug)]
pub struct Traffic {
    /// The statistics.
    pub stats: Arc<TrafficStats>,
    internal: Arc<OriginStats>,
    external: Arc<OriginStats>,
    retried: Arc<OriginStats>,
    breakers: [Arc<CircuitBreaker>; 2],
    tls: OnceLock<Arc<TlsStats>>,
    /// Requests that the endpoints' `drop_overloads` policy dropped, for load reports.
    pub dropped: Counter,
}

impl Traffic {
    /// Everything at zero, known to `store`.
    pub(super) fn new(config: &Config, store: &Store) -> Self {
        let name = &config.stat_name;
        let breaker = |priority: &str, index: usize| {
            let prefix = format!("cluster.{name}.circuit_breakers.{priority}.");
            store.register(CircuitBreaker::new(prefix, &config.circuit_breakers[index]))
        };
        let origin =
            |origin: &str| store.register(OriginStats::new(format!("cluster.{name}.{origin}.")));
        Traffic {
            internal: origin("internal"),
            external: origin("external"),
            retried: origin("retry"),
            stats: store.register(TrafficStats::new(format!("cluster.{name}."))),
            breakers: [breaker("default", 0), breaker("high", 1)],
            tls: OnceLock::new(),
            dropped: Counter::default(),
        }
    }

    /// The statistics of TLS handshakes; made at the first call.
    pub(super) fn tls(&self, config: &Config, store: &Store) -> &Arc<TlsStats> {
        self.tls.get_or_init(|| {
            store.register(TlsStats::new(format!("cluster.{}.ssl.", config.stat_name)))
        })
    }

    /// Counts an answer to a request from inside (`x-envoy-internal`) or outside, be it a host's or the proxy's own.
    pub fn charge(&self, status: u16, internal: bool) {
        self.stats.upstream_rq.record(status);
        let origin = if internal { &self.internal } else { &self.external };
        origin.upstream_rq.record(status);
    }

    /// Counts an answer that is not passed on, since the request is sent again.
    pub fn charge_retried(&self, status: u16) {
        self.retried.upstream_rq.record(status);
    }

    /// The breakers of a routing priority: 0 is the default one, all else the high one.
    pub fn breaker(&self, priority: usize) -> &Arc<CircuitBreaker> {
        &self.breakers[priority.min(1)]
    }
}
