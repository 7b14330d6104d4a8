//! How requests spread over a cluster's hosts.

use std::sync::Arc;
use std::time::Duration;

use crate::config::hash_policy::HashPolicies;
use crate::config::metadata_match::MetadataMatch;

mod common;
mod extension;
mod hashing;
mod subsets;
mod translate;
mod weighted;

/// `lb_policy`, `load_balancing_policy`, `common_lb_config` and `lb_subset_config`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadBalancing {
    /// How a host is picked among those that may be.
    pub policy: LbPolicy,
    /// What part localities have in it.
    pub locality: LocalityPolicy,
    /// `lb_subset_config` or the subset policy; none without selectors.
    pub subsets: Option<Arc<Subsets>>,
    /// `common_lb_config.healthy_panic_threshold` in percent, rounded as in Envoy; default 50.
    pub panic_threshold: f64,
    /// `consistent_hashing_lb_config.hash_policy`: in place of the route's.
    pub hash_policies: Option<Arc<HashPolicies>>,
    /// `common_lb_config.override_host_status`: which hosts a session may stick to.
    pub override_statuses: OverrideStatuses,
    /// `common_lb_config.close_connections_on_host_set_change`: when hosts come or go, all connections drain.
    pub drain_on_host_set_change: bool,
}

impl Default for LoadBalancing {
    fn default() -> Self {
        LoadBalancing {
            policy: LbPolicy::RoundRobin { slow_start: None },
            locality: LocalityPolicy::default(),
            subsets: None,
            panic_threshold: 50.0,
            hash_policies: None,
            override_statuses: OverrideStatuses::default(),
            drain_on_host_set_change: false,
        }
    }
}

/// A load balancing policy.
#[derive(Clone, Debug, PartialEq)]
pub enum LbPolicy {
    /// `ROUND_ROBIN`
    RoundRobin {
        /// `slow_start_config`
        slow_start: Option<SlowStart>,
    },
    /// `LEAST_REQUEST`
    LeastRequest(LeastRequest),
    /// `RANDOM`
    Random,
    /// `RING_HASH`
    RingHash(RingHash),
    /// `MAGLEV`
    Maglev(Maglev),
    /// `envoy.load_balancing_policies.client_side_weighted_round_robin`
    ClientSideWeighted(ClientSideWeighted),
    /// `envoy.load_balancing_policies.peak_ewma`
    PeakEwma(PeakEwma),
    /// `CLUSTER_PROVIDED`: by the cluster's discovery (`ORIGINAL_DST`, aggregate clusters).
    ClusterProvided,
}

impl LbPolicy {
    /// Whether the request's hash decides.
    pub fn hashes(&self) -> bool {
        matches!(self, LbPolicy::RingHash(_) | LbPolicy::Maglev(_))
    }

    /// The bound on each host's share of active requests, for policies that hash.
    pub fn balance_factor(&self) -> Option<u32> {
        match self {
            LbPolicy::RingHash(RingHash { hashing, .. })
            | LbPolicy::Maglev(Maglev { hashing, .. }) => hashing.balance_factor,
            _ => None,
        }
    }

    /// How hosts that have just become healthy start.
    pub fn slow_start(&self) -> Option<&SlowStart> {
        match self {
            LbPolicy::RoundRobin { slow_start } => slow_start.as_ref(),
            LbPolicy::LeastRequest(policy) => policy.slow_start.as_ref(),
            LbPolicy::ClientSideWeighted(policy) => policy.slow_start.as_ref(),
            _ => None,
        }
    }
}

/// Least request: power of `choice_count` choices on equal weights, weighted by active requests otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct LeastRequest {
    /// `choice_count`, at least 2; default 2.
    pub choice_count: u32,
    /// `selection_method` is `FULL_SCAN`, or `enable_full_scan`: on equal weights, all hosts are compared.
    pub full_scan: bool,
    /// `active_request_bias`, at least 0; default 1.
    pub active_request_bias: f64,
    /// `slow_start_config`
    pub slow_start: Option<SlowStart>,
}

impl Default for LeastRequest {
    fn default() -> Self {
        LeastRequest {
            choice_count: 2,
            full_scan: false,
            active_request_bias: 1.0,
            slow_start: None,
        }
    }
}

/// `SlowStartConfig`: how the weight of a host grows that has just become healthy.
#[derive(Clone, Debug, PartialEq)]
pub struct SlowStart {
    /// `slow_start_window`, above 0.
    pub window: Duration,
    /// `aggression`, above 0; default 1, which is linear.
    pub aggression: f64,
    /// `min_weight_percent` as a share of 1; default 0.1.
    pub min_weight: f64,
}

/// Ring hash (ketama).
#[derive(Clone, Debug, PartialEq)]
pub struct RingHash {
    /// `minimum_ring_size`; default 1024.
    pub min_size: u64,
    /// `maximum_ring_size`; default 8 Mi.
    pub max_size: u64,
    /// `hash_function`
    pub function: HashFunction,
    /// What ring hash and Maglev have in common.
    pub hashing: Hashing,
}

/// The function that places hosts on a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashFunction {
    /// `XX_HASH`: xxHash64 with seed 0.
    XxHash,
    /// `MURMUR_HASH_2`: as `std::hash` of libstdc++.
    MurmurHash2,
}

/// Maglev.
#[derive(Clone, Debug, PartialEq)]
pub struct Maglev {
    /// `table_size`, a prime; default 65537.
    pub table_size: u64,
    /// What ring hash and Maglev have in common.
    pub hashing: Hashing,
}

/// `ConsistentHashingLbConfig`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hashing {
    /// `use_hostname_for_hashing`: hosts are told apart by hostname, not by address.
    pub by_hostname: bool,
    /// `hash_balance_factor` in percent, at least 100: no host has more active requests than this share of the average.
    pub balance_factor: Option<u32>,
}

/// Round robin weighted by what hosts report of their load (ORCA).
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSideWeighted {
    /// `blackout_period`: reports count once they have come for so long; default 10 s.
    pub blackout: Duration,
    /// `weight_expiration_period`: without a report for so long a weight is forgotten; default 3 min.
    pub expiration: Duration,
    /// `weight_update_period`: how often weights are used anew; default 1 s, at least 100 ms.
    pub update: Duration,
    /// `error_utilization_penalty`; default 1.
    pub error_penalty: f64,
    /// `metric_names_for_computing_utilization`
    pub metrics: Vec<Box<str>>,
    /// `slow_start_config`
    pub slow_start: Option<SlowStart>,
}

/// The less costly of two random hosts, where cost is latency times requests under way. Latency follows peaks at once and
/// forgets them slowly.
#[derive(Clone, Debug, PartialEq)]
pub struct PeakEwma {
    /// `decay_time`; default 10 s.
    pub decay: Duration,
    /// `default_rtt`: what a host is taken for before its first response; default 10 ms.
    pub default_rtt: Duration,
}

/// What part localities have in the choice of a host.
#[derive(Clone, Debug, PartialEq)]
pub enum LocalityPolicy {
    /// `locality_weighted_lb_config`: first a locality by its weight and health.
    Weighted,
    /// `zone_aware_lb_config`, and the default: the own zone first, if `cluster_manager.local_cluster_name` is known.
    ZoneAware(ZoneAware),
}

impl Default for LocalityPolicy {
    fn default() -> Self {
        LocalityPolicy::ZoneAware(ZoneAware::default())
    }
}

/// `ZoneAwareLbConfig`.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneAware {
    /// `routing_enabled` in percent, rounded as in Envoy; default 100.
    pub routing_enabled: u32,
    /// `min_cluster_size`: with fewer healthy hosts zones do not matter; default 6.
    pub min_cluster_size: u64,
    /// `fail_traffic_on_panic`: in panic nothing is picked.
    pub fail_on_panic: bool,
    /// `force_locality_direct_routing`, or `force_local_zone` with its `min_size`: with so many healthy hosts in the own
    /// zone all requests stay in it.
    pub force_local: Option<u32>,
    /// `locality_basis` is `HEALTHY_HOSTS_WEIGHT`: hosts count by their weight.
    pub by_weight: bool,
}

impl Default for ZoneAware {
    fn default() -> Self {
        ZoneAware {
            routing_enabled: 100,
            min_cluster_size: 6,
            fail_on_panic: false,
            force_local: None,
            by_weight: false,
        }
    }
}

/// Which health an overriding host (of a session) may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverrideStatuses {
    /// `UNKNOWN` or `HEALTHY`
    pub healthy: bool,
    /// `DEGRADED`
    pub degraded: bool,
    /// `UNHEALTHY` or `TIMEOUT`
    pub unhealthy: bool,
    /// `DRAINING`
    pub draining: bool,
}

impl Default for OverrideStatuses {
    fn default() -> Self {
        OverrideStatuses { healthy: true, degraded: true, unhealthy: false, draining: false }
    }
}

/// Subsets of hosts by their metadata under `envoy.lb`.
#[derive(Clone, Debug, PartialEq)]
pub struct Subsets {
    /// `fallback_policy`
    pub fallback: Fallback,
    /// `default_subset`; none means every host.
    pub default_subset: Option<Arc<MetadataMatch>>,
    /// `subset_selectors`, at least one.
    pub selectors: Vec<SubsetSelector>,
    /// `allow_redundant_keys`: of a request's criteria, those of the first selector that is among them count.
    pub allow_redundant_keys: bool,
    /// `locality_weight_aware`
    pub locality_weight_aware: bool,
    /// `scale_locality_weight`
    pub scale_locality_weight: bool,
    /// `panic_mode_any`: when the fallback has no host, any one will do.
    pub panic_mode_any: bool,
    /// `list_as_any`: a list in a host's metadata stands for each of its values.
    pub list_as_any: bool,
    /// `metadata_fallback_policy` is `FALLBACK_LIST`: the criterion `fallback_list` holds replacements to try in turn.
    pub fallback_list: bool,
}

/// `LbSubsetFallbackPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// `NO_FALLBACK`: no host.
    Nothing,
    /// `ANY_ENDPOINT`
    Any,
    /// `DEFAULT_SUBSET`
    Default,
}

/// `LbSubsetSelector`.
#[derive(Clone, Debug, PartialEq)]
pub struct SubsetSelector {
    /// `keys`, in order.
    pub keys: Vec<Box<str>>,
    /// `fallback_policy`, with `fallback_keys_subset`; none if the cluster's policy decides.
    pub fallback: Option<SelectorFallback>,
    /// `single_host_per_subset`
    pub single_host: bool,
}

/// `LbSubsetSelectorFallbackPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub enum SelectorFallback {
    /// `NO_FALLBACK`, `ANY_ENDPOINT` or `DEFAULT_SUBSET`
    Plain(Fallback),
    /// `KEYS_SUBSET`: once more with these keys only.
    Keys(Vec<Box<str>>),
}

#[cfg(test)]
mod tests;
