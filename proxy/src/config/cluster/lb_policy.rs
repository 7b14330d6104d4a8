//! Protobuf to model: load balancing policies.

use proto::envoy::config::cluster::v3 as pb;
use proto::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy as PbLbPolicy};
use proto::envoy::config::cluster::v3::load_balancing_policy::Policy;
use proto::envoy::config::core::v3::RuntimeDouble;
use proto::envoy::extensions::load_balancing_policies::common::v3::LocalityLbConfig;
use proto::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config::LocalityConfigSpecifier;
use proto::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use proto::envoy::extensions::load_balancing_policies::least_request::v3::least_request::SelectionMethod;
use proto::envoy::extensions::load_balancing_policies::random::v3::Random;
use proto::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use proto::google::protobuf::UInt32Value;

use super::{Discovery, LbPolicy};
use crate::config::any;
use crate::config::error::{At, ConfigError, Context};
use crate::config::value;
use crate::refuse_set;

const DEFAULT_CHOICE_COUNT: u32 = 2;
const DEFAULT_ACTIVE_REQUEST_BIAS: f64 = 1.0;

impl LbPolicy {
    /// `load_balancing_policy`, or `lb_policy` with its configuration; it must fit `discovery`.
    pub(super) fn from_proto(
        message: &pb::Cluster,
        discovery: &Discovery,
        at: &At<'_>,
        context: &Context,
    ) -> Result<LbPolicy, ConfigError> {
        let (policy, at) = match &message.load_balancing_policy {
            Some(list) => {
                let at = at.field("load_balancing_policy");
                (first_supported(list, &at, context)?, at)
            }
            None => (by_enum(message, at, context)?, at.field("lb_policy")),
        };
        let provided = policy == LbPolicy::ClusterProvided;
        match (discovery, provided) {
            (Discovery::OriginalDst { .. }, false) => {
                Err(at.error("only CLUSTER_PROVIDED is allowed with cluster type ORIGINAL_DST"))
            }
            (Discovery::OriginalDst { .. }, true) | (_, false) => Ok(policy),
            (_, true) => Err(at.error("CLUSTER_PROVIDED is allowed with type ORIGINAL_DST only")),
        }
    }
}

fn by_enum(message: &pb::Cluster, at: &At<'_>, context: &Context) -> Result<LbPolicy, ConfigError> {
    let config = message.lb_config.as_ref();
    let at_policy = at.field("lb_policy");
    let policy = value::enumeration(message.lb_policy, &at_policy)?;
    match (policy, config) {
        (PbLbPolicy::RoundRobin, Some(LbConfig::RoundRobinLbConfig(config))) => {
            refuse_set!(at.field("round_robin_lb_config"), config, [slow_start_config]);
            Ok(LbPolicy::RoundRobin)
        }
        (PbLbPolicy::LeastRequest, Some(LbConfig::LeastRequestLbConfig(config))) => {
            let at = at.field("least_request_lb_config");
            refuse_set!(at, config, [slow_start_config]);
            least_request(config.choice_count, config.active_request_bias.as_ref(), &at)
        }
        (PbLbPolicy::LeastRequest, config) => {
            warn_of_foreign_config(config, at, context);
            least_request(None, None, at)
        }
        (PbLbPolicy::RoundRobin, config) => {
            warn_of_foreign_config(config, at, context);
            Ok(LbPolicy::RoundRobin)
        }
        (PbLbPolicy::Random, config) => {
            warn_of_foreign_config(config, at, context);
            Ok(LbPolicy::Random)
        }
        (PbLbPolicy::ClusterProvided, _) => Ok(LbPolicy::ClusterProvided),
        (PbLbPolicy::RingHash | PbLbPolicy::Maglev, _) => Err(at_policy.error(format_args!(
            "{} is not supported by this version of Pillion",
            policy.as_str_name()
        ))),
        (PbLbPolicy::LoadBalancingPolicyConfig, _) => {
            Err(at_policy.error("field load_balancing_policy needs to be set"))
        }
    }
}

/// The configuration of another policy than the chosen one has no effect, in Envoy neither.
fn warn_of_foreign_config(config: Option<&LbConfig>, at: &At<'_>, context: &Context) {
    let field = match config {
        None => return,
        Some(LbConfig::RingHashLbConfig(_)) => "ring_hash_lb_config",
        Some(LbConfig::MaglevLbConfig(_)) => "maglev_lb_config",
        Some(LbConfig::OriginalDstLbConfig(_)) => "original_dst_lb_config",
        Some(LbConfig::LeastRequestLbConfig(_)) => "least_request_lb_config",
        Some(LbConfig::RoundRobinLbConfig(_)) => "round_robin_lb_config",
    };
    context.warn(&at.field(field), "lb_policy names another policy");
}

/// The first policy of the list that exists here: later ones are for older or other proxies.
fn first_supported(
    list: &pb::LoadBalancingPolicy,
    at: &At<'_>,
    context: &Context,
) -> Result<LbPolicy, ConfigError> {
    for (i, policy) in list.policies.iter().enumerate() {
        if let Some(policy) = supported(policy, &at.index("policies", i), context)? {
            return Ok(policy);
        }
    }
    let names = list.policies.iter().filter_map(|policy| policy.typed_extension_config.as_ref());
    let names: Vec<_> = names.map(|config| config.name.as_str()).collect();
    Err(at.error(format_args!(
        "didn't find a registered load balancer factory with names from [{}]; Pillion has \
         round_robin, least_request, random and cluster_provided",
        names.join(", ")
    )))
}

/// The policy of a list's entry; none if there is no such policy here.
fn supported(
    policy: &Policy,
    at: &At<'_>,
    context: &Context,
) -> Result<Option<LbPolicy>, ConfigError> {
    let at = at.field("typed_extension_config");
    let config = value::required(&policy.typed_extension_config, &at)?.typed_config.as_ref();
    let at = at.field("typed_config");
    let name = any::type_name(config);
    let policy = match name.strip_prefix("envoy.extensions.load_balancing_policies.") {
        Some("round_robin.v3.RoundRobin") => {
            let config: RoundRobin = any::open(config, &at)?;
            refuse_set!(at, config, [slow_start_config]);
            check_locality(config.locality_lb_config.as_ref(), &at, context)?;
            LbPolicy::RoundRobin
        }
        Some("least_request.v3.LeastRequest") => {
            let config: LeastRequest = any::open(config, &at)?;
            refuse_set!(at, config, [slow_start_config, enable_full_scan]);
            let method = at.field("selection_method");
            if value::enumeration::<SelectionMethod>(config.selection_method, &method)?
                == SelectionMethod::FullScan
            {
                return Err(method.error("FULL_SCAN is not supported by this version of Pillion"));
            }
            check_locality(config.locality_lb_config.as_ref(), &at, context)?;
            least_request(config.choice_count, config.active_request_bias.as_ref(), &at)?
        }
        Some("random.v3.Random") => {
            let config: Random = any::open(config, &at)?;
            check_locality(config.locality_lb_config.as_ref(), &at, context)?;
            LbPolicy::Random
        }
        Some("cluster_provided.v3.ClusterProvided") => LbPolicy::ClusterProvided,
        _ => return Ok(None),
    };
    Ok(Some(policy))
}

fn least_request(
    choice_count: Option<UInt32Value>,
    bias: Option<&RuntimeDouble>,
    at: &At<'_>,
) -> Result<LbPolicy, ConfigError> {
    let range = (2, u32::MAX);
    let choice_count =
        value::within(choice_count, DEFAULT_CHOICE_COUNT, range, &at.field("choice_count"))?;
    let active_request_bias = bias.map_or(DEFAULT_ACTIVE_REQUEST_BIAS, |bias| bias.default_value);
    if active_request_bias < 0.0 || active_request_bias.is_nan() {
        return Err(at
            .field("active_request_bias")
            .error(format_args!("{active_request_bias} is not at least 0")));
    }
    Ok(LbPolicy::LeastRequest { choice_count, active_request_bias })
}

/// Localities do not change the choice of a host yet.
fn check_locality(
    config: Option<&LocalityLbConfig>,
    at: &At<'_>,
    context: &Context,
) -> Result<(), ConfigError> {
    let at = at.field("locality_lb_config");
    match config.and_then(|config| config.locality_config_specifier.as_ref()) {
        None => Ok(()),
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
            let reason = "requests go to the hosts of all zones alike";
            context.warn(&at.field("zone_aware_lb_config"), reason);
            Ok(())
        }
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => {
            Err(at.field("locality_weighted_lb_config").unsupported())
        }
    }
}
