//! Protobuf to model: a cluster's load balancing as a whole, and `lb_policy` with its configuration.

use std::sync::{Arc, LazyLock};

use proto::envoy::config::cluster::v3 as pb;
use proto::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy as PbLbPolicy};

use super::common::Common;
use super::extension::{Found, first_supported};
use super::hashing;
use super::weighted::{SlowStartFields, least_request};
use super::{LbPolicy, LoadBalancing, Subsets};
use crate::config::cluster::Discovery;
use crate::config::error::{At, ConfigError, Context};
use crate::config::value;

/// What most clusters have, and share.
static DEFAULT: LazyLock<Arc<LoadBalancing>> = LazyLock::new(Default::default);

impl LoadBalancing {
    /// Everything about load balancing of a cluster; it must fit `discovery`.
    pub(in crate::config::cluster) fn from_proto(
        message: &pb::Cluster,
        discovery: &Discovery,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Arc<LoadBalancing>, ConfigError> {
        let at_common = at.field("common_lb_config");
        let common = Common::from_proto(message.common_lb_config.as_ref(), &at_common, context)?;
        let (found, at_policy) = match &message.load_balancing_policy {
            Some(list) => {
                let at = at.field("load_balancing_policy");
                (first_supported(list, &at, context)?, at)
            }
            None => {
                let policy = by_enum(message, &common, at, context)?;
                let at_subset = at.field("lb_subset_config");
                let subsets = message.lb_subset_config.as_ref();
                let subsets = subsets.map(|subsets| Subsets::from_cluster(subsets, &at_subset));
                let subsets = subsets.transpose()?.flatten();
                let found =
                    Found { policy, locality: common.locality, subsets, hash_policies: None };
                (found, at.field("lb_policy"))
            }
        };
        check(&found, discovery, &at_policy)?;
        let lb = LoadBalancing {
            policy: found.policy,
            locality: found.locality,
            subsets: found.subsets,
            panic_threshold: common.panic_threshold,
            hash_policies: found.hash_policies,
            override_statuses: common.override_statuses,
            drain_on_host_set_change: common.drain_on_host_set_change,
        };
        Ok(if lb == **DEFAULT { Arc::clone(&DEFAULT) } else { Arc::new(lb) })
    }
}

/// Whether the policy goes with the discovery.
fn check(found: &Found, discovery: &Discovery, at: &At<'_>) -> Result<(), ConfigError> {
    let provided = found.policy == LbPolicy::ClusterProvided;
    if provided && found.subsets.is_some() {
        return Err(at.error("CLUSTER_PROVIDED cannot be combined with lb_subset_config"));
    }
    match (discovery.picks_by_itself(), provided) {
        (Some(kind), false) => {
            Err(at.error(format_args!("only CLUSTER_PROVIDED is allowed with cluster type {kind}")))
        }
        (None, true) => {
            Err(at.error("CLUSTER_PROVIDED is allowed with ORIGINAL_DST and aggregate only"))
        }
        (Some(_), true) | (None, false) => Ok(()),
    }
}

fn by_enum(
    message: &pb::Cluster,
    common: &Common,
    at: &At<'_>,
    context: &Context,
) -> Result<LbPolicy, ConfigError> {
    let config = message.lb_config.as_ref();
    let policy = value::enumeration(message.lb_policy, &at.field("lb_policy"))?;
    warn_of_foreign_config(policy, config, at, context);
    Ok(match policy {
        PbLbPolicy::RoundRobin => {
            let at = at.field("round_robin_lb_config");
            let slow_start = match config {
                Some(LbConfig::RoundRobinLbConfig(config)) => config.slow_start_config.as_ref(),
                _ => None,
            };
            let fields = slow_start.map(SlowStartFields::from);
            LbPolicy::RoundRobin { slow_start: SlowStartFields::translate(fields, &at, context)? }
        }
        PbLbPolicy::LeastRequest => match config {
            Some(LbConfig::LeastRequestLbConfig(config)) => {
                let at = at.field("least_request_lb_config");
                let bias = config.active_request_bias.as_ref();
                let slow_start = config.slow_start_config.as_ref().map(SlowStartFields::from);
                let slow_start = SlowStartFields::translate(slow_start, &at, context)?;
                least_request(config.choice_count, bias, slow_start, &at)?
            }
            _ => least_request(None, None, None, at)?,
        },
        PbLbPolicy::Random => LbPolicy::Random,
        PbLbPolicy::RingHash => {
            let at = at.field("ring_hash_lb_config");
            let config = match config {
                Some(LbConfig::RingHashLbConfig(config)) => Some(config),
                _ => None,
            };
            LbPolicy::RingHash(hashing::ring_of_cluster(config, common.hashing, &at)?)
        }
        PbLbPolicy::Maglev => {
            let table_size = match config {
                Some(LbConfig::MaglevLbConfig(config)) => config.table_size,
                _ => None,
            };
            let at = at.field("maglev_lb_config");
            LbPolicy::Maglev(hashing::maglev(table_size, common.hashing, &at)?)
        }
        PbLbPolicy::ClusterProvided => LbPolicy::ClusterProvided,
        PbLbPolicy::LoadBalancingPolicyConfig => {
            let rule = "field load_balancing_policy needs to be set";
            return Err(at.field("lb_policy").error(rule));
        }
    })
}

/// The configuration of another policy than the chosen one has no effect, in Envoy neither.
fn warn_of_foreign_config(
    policy: PbLbPolicy,
    config: Option<&LbConfig>,
    at: &At<'_>,
    context: &Context,
) {
    let (field, owner) = match config {
        None => return,
        Some(LbConfig::RingHashLbConfig(_)) => ("ring_hash_lb_config", PbLbPolicy::RingHash),
        Some(LbConfig::MaglevLbConfig(_)) => ("maglev_lb_config", PbLbPolicy::Maglev),
        // Belongs to the discovery, which reads it.
        Some(LbConfig::OriginalDstLbConfig(_)) => {
            ("original_dst_lb_config", PbLbPolicy::ClusterProvided)
        }
        Some(LbConfig::LeastRequestLbConfig(_)) => {
            ("least_request_lb_config", PbLbPolicy::LeastRequest)
        }
        Some(LbConfig::RoundRobinLbConfig(_)) => ("round_robin_lb_config", PbLbPolicy::RoundRobin),
    };
    if policy != owner {
        context.warn(&at.field(field), "lb_policy names another policy");
    }
}
