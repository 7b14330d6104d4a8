//! Protobuf to model: `load_balancing_policy`, a list of policy extensions.

use std::sync::Arc;
use std::time::Duration;

use proto::TypedStruct;
use proto::envoy::config::cluster::v3 as pb;
use proto::envoy::config::cluster::v3::load_balancing_policy::Policy;
use proto::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest as PbLeastRequest;
use proto::envoy::extensions::load_balancing_policies::least_request::v3::least_request::SelectionMethod;
use proto::envoy::extensions::load_balancing_policies::random::v3::Random;
use proto::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use proto::envoy::extensions::load_balancing_policies::wrr_locality::v3::WrrLocality;
use proto::google::protobuf::Any;

use super::hashing::{self, Hashed};
use super::weighted::{self, SlowStartFields};
use super::{LbPolicy, LeastRequest, LocalityPolicy, PeakEwma, Subsets};
use crate::config::any;
use crate::config::error::{At, ConfigError, Context};
use crate::config::hash_policy::HashPolicies;
use crate::config::value;

/// The names of the policies that exist here, for whom misses one.
const KNOWN: &str = "round_robin, least_request, random, ring_hash, maglev, subset, wrr_locality, \
     client_side_weighted_round_robin, peak_ewma and cluster_provided";
const PREFIX: &str = "envoy.extensions.load_balancing_policies.";

/// What a policy extension comes to.
pub(super) struct Found {
    pub policy: LbPolicy,
    pub locality: LocalityPolicy,
    pub subsets: Option<Arc<Subsets>>,
    pub hash_policies: Option<Arc<HashPolicies>>,
}

impl Found {
    fn plain(policy: LbPolicy) -> Found {
        Found { policy, locality: LocalityPolicy::default(), subsets: None, hash_policies: None }
    }

    fn hashed((policy, locality, hash_policies): Hashed) -> Found {
        Found { locality, hash_policies, ..Found::plain(policy) }
    }
}

/// The first policy of the list that exists here: later ones are for older or other proxies.
pub(super) fn first_supported(
    list: &pb::LoadBalancingPolicy,
    at: &At<'_>,
    context: &Context,
) -> Result<Found, ConfigError> {
    for (i, policy) in list.policies.iter().enumerate() {
        if let Some(policy) = supported(policy, &at.index("policies", i), context)? {
            return Ok(policy);
        }
    }
    let names = list.policies.iter().filter_map(|policy| policy.typed_extension_config.as_ref());
    let names: Vec<_> = names.map(|config| config.name.as_str()).collect();
    Err(at.error(format_args!(
        "didn't find a registered load balancer factory with names from [{}]; Pillion has {KNOWN}",
        names.join(", ")
    )))
}

/// The policy of a list's entry; none if there is no such policy here.
fn supported(
    policy: &Policy,
    at: &At<'_>,
    context: &Context,
) -> Result<Option<Found>, ConfigError> {
    let at = at.field("typed_extension_config");
    let config = value::required(&policy.typed_extension_config, &at)?.typed_config.as_ref();
    let at = at.field("typed_config");
    let Some(name) = any::type_name(config).strip_prefix(PREFIX) else { return Ok(None) };
    Ok(Some(match name {
        "round_robin.v3.RoundRobin" => {
            let config: RoundRobin = any::open(config, &at)?;
            let slow_start = config.slow_start_config.as_ref().map(SlowStartFields::from);
            let slow_start = SlowStartFields::translate(slow_start, &at, context)?;
            let locality = config.locality_lb_config.as_ref();
            let locality = LocalityPolicy::from_extension(locality, &at)?;
            Found { locality, ..Found::plain(LbPolicy::RoundRobin { slow_start }) }
        }
        "least_request.v3.LeastRequest" => least_request(config, &at, context)?,
        "random.v3.Random" => {
            let config: Random = any::open(config, &at)?;
            let locality = config.locality_lb_config.as_ref();
            let locality = LocalityPolicy::from_extension(locality, &at)?;
            Found { locality, ..Found::plain(LbPolicy::Random) }
        }
        "ring_hash.v3.RingHash" => {
            Found::hashed(hashing::ring_of_extension(&any::open(config, &at)?, &at, context)?)
        }
        "maglev.v3.Maglev" => {
            Found::hashed(hashing::maglev_of_extension(&any::open(config, &at)?, &at, context)?)
        }
        "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin" => {
            Found::plain(weighted::client_side(&any::open(config, &at)?, &at, context)?)
        }
        "wrr_locality.v3.WrrLocality" => {
            let config: WrrLocality = any::open(config, &at)?;
            let at = at.field("endpoint_picking_policy");
            let child = value::required(&config.endpoint_picking_policy, &at)?;
            Found { locality: LocalityPolicy::Weighted, ..first_supported(child, &at, context)? }
        }
        "subset.v3.Subset" => subset(config, &at, context)?,
        "peak_ewma.v3alpha.PeakEwma" => Found::plain(peak_ewma(config, &at)?),
        "cluster_provided.v3.ClusterProvided" => Found::plain(LbPolicy::ClusterProvided),
        _ => return Ok(None),
    }))
}

fn least_request(
    config: Option<&Any>,
    at: &At<'_>,
    context: &Context,
) -> Result<Found, ConfigError> {
    let config: PbLeastRequest = any::open(config, at)?;
    let slow_start = config.slow_start_config.as_ref().map(SlowStartFields::from);
    let slow_start = SlowStartFields::translate(slow_start, at, context)?;
    let bias = config.active_request_bias.as_ref();
    let mut policy = weighted::least_request(config.choice_count, bias, slow_start, at)?;
    let method = at.field("selection_method");
    let method: SelectionMethod = value::enumeration(config.selection_method, &method)?;
    let enabled = config.enable_full_scan.is_some_and(|enabled| enabled.value);
    if let LbPolicy::LeastRequest(LeastRequest { full_scan, .. }) = &mut policy {
        *full_scan = enabled || method == SelectionMethod::FullScan;
    }
    let locality = LocalityPolicy::from_extension(config.locality_lb_config.as_ref(), at)?;
    Ok(Found { locality, ..Found::plain(policy) })
}

/// `envoy.load_balancing_policies.subset`: subsets around another policy.
fn subset(config: Option<&Any>, at: &At<'_>, context: &Context) -> Result<Found, ConfigError> {
    let config = any::open(config, at)?;
    let subsets = Subsets::from_extension(&config, at)?;
    let at = at.field("subset_lb_policy");
    let child = value::required(&config.subset_lb_policy, &at)?;
    let found = first_supported(child, &at, context)?;
    if found.subsets.is_some() {
        return Err(at.error("a subset policy inside of another one has no meaning"));
    }
    Ok(Found { subsets, ..found })
}

/// A contrib extension of Envoy: its messages are in no package, so that it is read from a typed struct, or by the field
/// that everybody sets.
fn peak_ewma(config: Option<&Any>, at: &At<'_>) -> Result<LbPolicy, ConfigError> {
    let mut policy =
        PeakEwma { decay: Duration::from_secs(10), default_rtt: Duration::from_millis(10) };
    let Some(typed) = config.and_then(TypedStruct::unpack) else {
        let fields = config.is_some_and(|config| !config.value.is_empty());
        return match fields {
            true => Err(at.error("fields of PeakEwma are read from a TypedStruct only")),
            false => Ok(LbPolicy::PeakEwma(policy)),
        };
    };
    let typed = typed.map_err(|error| at.error(error))?;
    let fields = typed.value.as_ref().map(proto::convert::struct_to_json).unwrap_or_default();
    for (name, value) in &fields {
        let at = at.field("value");
        let at = at.field(name);
        let duration = match name.as_str() {
            "decay_time" => &mut policy.decay,
            "default_rtt" => &mut policy.default_rtt,
            _ => return Err(at.unsupported()),
        };
        *duration = seconds(value).ok_or_else(|| {
            at.error(format_args!("{value} is no duration above 0, such as \"0.5s\""))
        })?;
    }
    Ok(LbPolicy::PeakEwma(policy))
}

/// A duration as JSON writes it.
fn seconds(value: &serde_json::Value) -> Option<Duration> {
    let seconds: f64 = value.as_str()?.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}
