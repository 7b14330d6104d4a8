//! Protobuf to model: `ClusterLoadAssignment`.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};

use proto::envoy::config::core::v3 as core;
use proto::envoy::config::endpoint::v3 as pb;
use proto::envoy::config::endpoint::v3::cluster_load_assignment::policy::DropOverload;
use proto::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use proto::envoy::config::endpoint::v3::locality_lb_endpoints::LbConfig;

use super::{
    Assignment, EdsHealth, Endpoint, EndpointCheck, Locality, LocalityEndpoints, Metadata, Target,
};
use crate::config::error::{At, ConfigError, Context};
use crate::config::value;
use crate::{refuse_set, warn_set};

const MAX_PRIORITY: u32 = 128;
const DEFAULT_OVERPROVISIONING: u32 = 140;

/// The locality of everything that names none.
static NOWHERE: LazyLock<Arc<Locality>> = LazyLock::new(Default::default);

/// Which addresses endpoints of a cluster may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// IP addresses and pipes: everything but DNS.
    Known,
    /// IP addresses and names: DNS.
    Names,
}

impl Assignment {
    /// Translates a `ClusterLoadAssignment` as EDS delivers it: every address is known.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported.
    pub fn from_proto(
        message: &pb::ClusterLoadAssignment,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Assignment, ConfigError> {
        Assignment::with_addresses(Addresses::Known, message, at, context)
    }

    /// Translates a cluster's own `load_assignment`.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported.
    pub fn with_addresses(
        addresses: Addresses,
        message: &pb::ClusterLoadAssignment,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Assignment, ConfigError> {
        value::non_empty(&message.cluster_name, &at.field("cluster_name"))?;
        refuse_set!(at, message, [named_endpoints]);
        let policy = policy(message.policy.as_ref(), &at.field("policy"), context)?;
        let mut endpoints =
            Endpoints { addresses, context, seen: HashSet::new(), last_metadata: None };
        let localities = message.endpoints.iter().enumerate();
        let localities: Vec<_> = localities
            .map(|(i, locality)| endpoints.locality(locality, &at.index("endpoints", i)))
            .collect::<Result<_, _>>()?;
        check_locality_weights(&localities, at)?;
        Ok(Assignment { localities, ..policy })
    }

    /// How many endpoints there are.
    pub fn endpoint_count(&self) -> usize {
        self.localities.iter().map(|locality| locality.endpoints.len()).sum()
    }
}

/// A drop overload: category and parts per million.
type DropShare = (Arc<str>, u32);

/// An assignment without endpoints, with what its policy says.
fn policy(
    policy: Option<&pb::cluster_load_assignment::Policy>,
    at: &At<'_>,
    context: &Context,
) -> Result<Assignment, ConfigError> {
    let Some(policy) = policy else {
        return Ok(Assignment::default());
    };
    let reason = "endpoints stay until they are replaced";
    warn_set!(context, at, policy, [endpoint_stale_after], reason);
    let drop_overload = match policy.drop_overloads.as_slice() {
        [] => None,
        [drop] => Some(drop_overload(drop, &at.index("drop_overloads", 0))?),
        more => {
            let at = at.field("drop_overloads");
            return Err(at.error(format_args!("{} are given, Envoy takes one", more.len())));
        }
    };
    Ok(Assignment {
        localities: Vec::new(),
        overprovisioning_factor: value::within(
            policy.overprovisioning_factor,
            DEFAULT_OVERPROVISIONING,
            (1, u32::MAX),
            &at.field("overprovisioning_factor"),
        )?,
        weighted_priority_health: policy.weighted_priority_health,
        drop_overload,
    })
}

fn drop_overload(message: &DropOverload, at: &At<'_>) -> Result<DropShare, ConfigError> {
    let category = value::non_empty(&message.category, &at.field("category"))?;
    let at = at.field("drop_percentage");
    let (numerator, denominator) =
        value::fraction(value::required(&message.drop_percentage, &at)?, &at)?;
    let millionths = numerator.saturating_mul(1_000_000 / denominator).min(1_000_000);
    Ok((category.into(), millionths))
}

/// Refuses localities of one priority whose weights do not fit into 32 bits together.
fn check_locality_weights(
    localities: &[LocalityEndpoints],
    at: &At<'_>,
) -> Result<(), ConfigError> {
    let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
    for locality in localities {
        let sum = sums.entry(locality.priority).or_default();
        *sum += u64::from(locality.weight.unwrap_or(0));
        if *sum > u64::from(u32::MAX) {
            return Err(at.field("endpoints").error(format_args!(
                "the sum of weights of all localities at priority {} exceeds {}",
                locality.priority,
                u32::MAX
            )));
        }
    }
    Ok(())
}

/// What the translation of an assignment's endpoints remembers from one to the next.
struct Endpoints<'m, 'c> {
    addresses: Addresses,
    context: &'c Context,
    /// Addresses so far: the first of each stays.
    seen: HashSet<Target>,
    /// Endpoints of one workload have equal metadata: neighbours share it.
    last_metadata: Option<(&'m core::Metadata, Option<Arc<Metadata>>)>,
}

impl<'m> Endpoints<'m, '_> {
    fn locality(
        &mut self,
        message: &'m pb::LocalityLbEndpoints,
        at: &At<'_>,
    ) -> Result<LocalityEndpoints, ConfigError> {
        match &message.lb_config {
            None => {}
            Some(LbConfig::LoadBalancerEndpoints(_)) => {
                return Err(at.field("load_balancer_endpoints").unsupported());
            }
            Some(LbConfig::LedsClusterLocalityConfig(_)) => {
                return Err(at.field("leds_cluster_locality_config").unsupported());
            }
        }
        let reason = "nothing in Pillion reads it";
        warn_set!(self.context, at, message, [metadata, proximity], reason);
        if message.priority > MAX_PRIORITY {
            let rule = format_args!("{} is above {MAX_PRIORITY}", message.priority);
            return Err(at.field("priority").error(rule));
        }
        let mut endpoints = Vec::with_capacity(message.lb_endpoints.len());
        let mut weights = 0;
        for (i, endpoint) in message.lb_endpoints.iter().enumerate() {
            let endpoint = self.endpoint(endpoint, &at.index("lb_endpoints", i))?;
            if self.seen.insert(endpoint.target.clone()) {
                weights += u64::from(endpoint.weight);
                endpoints.push(endpoint);
            }
        }
        if weights > u64::from(u32::MAX) {
            return Err(at.field("lb_endpoints").error(format_args!(
                "the sum of weights of all endpoints in a locality exceeds {}",
                u32::MAX
            )));
        }
        let weight = weight(message.load_balancing_weight, &at.field("load_balancing_weight"))?;
        Ok(LocalityEndpoints {
            locality: locality(message.locality.as_ref()),
            priority: message.priority,
            weight,
            endpoints,
        })
    }

    fn endpoint(
        &mut self,
        message: &'m pb::LbEndpoint,
        at: &At<'_>,
    ) -> Result<Endpoint, ConfigError> {
        let endpoint = match value::required(&message.host_identifier, at)? {
            HostIdentifier::Endpoint(endpoint) => endpoint,
            HostIdentifier::EndpointName(_) => return Err(at.field("endpoint_name").unsupported()),
        };
        let at_endpoint = at.field("endpoint");
        let (target, hostname) = self.host(endpoint, &at_endpoint)?;
        let check = endpoint.health_check_config.as_ref();
        let at_check = at_endpoint.field("health_check_config");
        let check = check.map(|check| EndpointCheck::from_proto(check, &at_check)).transpose()?;
        let weight = weight(message.load_balancing_weight, &at.field("load_balancing_weight"))?;
        Ok(Endpoint {
            target,
            hostname,
            weight: weight.unwrap_or(1),
            health: EdsHealth::from_proto(message.health_status, &at.field("health_status"))?,
            metadata: self.metadata(message.metadata.as_ref(), &at.field("metadata")),
            check: check.map(Arc::new),
        })
    }

    fn host(
        &self,
        message: &pb::Endpoint,
        at: &At<'_>,
    ) -> Result<(Target, Option<Arc<str>>), ConfigError> {
        let reason = "the first address is used";
        warn_set!(self.context, at, message, [additional_addresses], reason);
        warn_set!(self.context, at, message, [observability_name], "logs show the address");
        let at = at.field("address");
        let address = value::required(&message.address, &at)?;
        let target = match self.addresses {
            Addresses::Known => Target::Address(value::address(address, &at)?),
            Addresses::Names => value::target(address, &at)?,
        };
        let pipe = matches!(&target, Target::Address(address) if address.ip().is_none());
        if pipe && self.addresses == Addresses::Names {
            return Err(at.error("a DNS cluster's endpoints must have a socket_address"));
        }
        let hostname = (!message.hostname.is_empty()).then(|| message.hostname.as_str().into());
        Ok((target, hostname))
    }

    fn metadata(
        &mut self,
        message: Option<&'m core::Metadata>,
        at: &At<'_>,
    ) -> Option<Arc<Metadata>> {
        let message = message?;
        match &self.last_metadata {
            Some((last, shared)) if *last == message => shared.clone(),
            _ => {
                let metadata = value::metadata(Some(message), at, self.context);
                self.last_metadata = Some((message, metadata.clone()));
                metadata
            }
        }
    }
}

fn locality(message: Option<&core::Locality>) -> Arc<Locality> {
    match message {
        None => NOWHERE.clone(),
        Some(message) => Arc::new(Locality {
            region: message.region.as_str().into(),
            zone: message.zone.as_str().into(),
            sub_zone: message.sub_zone.as_str().into(),
        }),
    }
}

/// A weight of at least 1, if there is one.
fn weight(
    weight: Option<proto::google::protobuf::UInt32Value>,
    at: &At<'_>,
) -> Result<Option<u32>, ConfigError> {
    match weight {
        Some(weight) if weight.value == 0 => Err(at.error("0 is not within 1 and 4294967295")),
        weight => Ok(weight.map(|weight| weight.value)),
    }
}

impl EdsHealth {
    fn from_proto(number: i32, at: &At<'_>) -> Result<EdsHealth, ConfigError> {
        Ok(match value::enumeration::<core::HealthStatus>(number, at)? {
            core::HealthStatus::Unknown | core::HealthStatus::Healthy => EdsHealth::Healthy,
            core::HealthStatus::Unhealthy | core::HealthStatus::Timeout => EdsHealth::Unhealthy,
            core::HealthStatus::Draining => EdsHealth::Draining,
            core::HealthStatus::Degraded => EdsHealth::Degraded,
        })
    }
}

impl EndpointCheck {
    fn from_proto(
        message: &pb::endpoint::HealthCheckConfig,
        at: &At<'_>,
    ) -> Result<EndpointCheck, ConfigError> {
        let address = message.address.as_ref();
        let at_address = at.field("address");
        Ok(EndpointCheck {
            port: match message.port_value {
                0 => None,
                port => Some(value::port(port, &at.field("port_value"))?),
            },
            address: address.map(|address| value::address(address, &at_address)).transpose()?,
            hostname: (!message.hostname.is_empty()).then(|| message.hostname.as_str().into()),
            disabled: message.disable_active_health_check,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::Registry;

    fn translate(yaml: &str) -> Result<Assignment, String> {
        let message: pb::ClusterLoadAssignment =
            Registry::load().from_yaml(yaml).expect("the test's YAML is a message");
        let at = At::resource("endpoints", "backend");
        Assignment::from_proto(&message, &at, &Context::default()).map_err(|e| e.to_string())
    }

    /// An assignment with one locality; `rest` is put into the locality.
    fn locality(rest: &str) -> Result<Assignment, String> {
        translate(&format!("{{cluster_name: backend, endpoints: [{{{rest}}}]}}"))
    }

    fn host(port: u32, rest: &str) -> String {
        format!(
            "{{endpoint: {{address: {{socket_address: {{address: 10.0.0.1, port_value: {port}}}}}}}{rest}}}"
        )
    }

    #[test]
    fn defaults_are_envoys() {
        let assignment = locality(&format!("lb_endpoints: [{}]", host(80, ""))).expect("valid");
        assert_eq!(assignment.overprovisioning_factor, 140);
        let locality = &assignment.localities[0];
        assert_eq!((locality.priority, locality.weight), (0, None));
        let endpoint = &locality.endpoints[0];
        assert_eq!((endpoint.weight, endpoint.health), (1, EdsHealth::Healthy));
        assert!(endpoint.hostname.is_none() && endpoint.metadata.is_none());
    }

    #[test]
    fn the_first_of_two_equal_addresses_stays() {
        let hosts = [host(80, ""), host(81, ""), host(80, ", load_balancing_weight: 9")].join(",");
        let assignment = locality(&format!("lb_endpoints: [{hosts}]")).expect("valid");
        assert_eq!(assignment.endpoint_count(), 2);
        assert_eq!(assignment.localities[0].endpoints[0].weight, 1);
    }

    #[test]
    fn neighbours_share_equal_metadata() {
        let metadata = ", metadata: {filter_metadata: {envoy.lb: {v: 1}}}";
        let hosts = [host(80, metadata), host(81, metadata), host(82, "")].join(",");
        let assignment = locality(&format!("lb_endpoints: [{hosts}]")).expect("valid");
        let endpoints = &assignment.localities[0].endpoints;
        let [first, second] = [0, 1].map(|i| endpoints[i].metadata.clone().expect("it has some"));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first["envoy.lb"]["v"], 1);
        assert!(endpoints[2].metadata.is_none());
    }

    #[test]
    fn drops_are_counted_in_millionths() {
        let assignment = translate(
            "{cluster_name: a, policy: {drop_overloads: [{category: x, drop_percentage: {numerator: 5}}]}}",
        );
        let drop = assignment.expect("valid").drop_overload.expect("there is one");
        assert_eq!((&*drop.0, drop.1), ("x", 50_000));
    }

    #[test]
    fn rules_are_enforced_with_the_path_of_the_value() {
        let refused = |rest: &str| locality(rest).expect_err("it breaks a rule");
        let hosts = |rest: &str| refused(&format!("lb_endpoints: [{}]", host(80, rest)));
        assert_eq!(
            translate("{}").expect_err("no name"),
            "endpoints \"backend\": cluster_name: must not be empty"
        );
        assert_eq!(
            refused("priority: 129"),
            "endpoints \"backend\": endpoints[0].priority: 129 is above 128"
        );
        assert_eq!(
            hosts(", load_balancing_weight: 0"),
            "endpoints \"backend\": endpoints[0].lb_endpoints[0].load_balancing_weight: \
             0 is not within 1 and 4294967295"
        );
        assert_eq!(
            refused("lb_endpoints: [{endpoint: {}}]"),
            "endpoints \"backend\": endpoints[0].lb_endpoints[0].endpoint.address: is required"
        );
        assert_eq!(
            refused("lb_endpoints: [{endpoint_name: a}]"),
            "endpoints \"backend\": endpoints[0].lb_endpoints[0].endpoint_name: \
             is not supported by this version of Pillion; remove the field"
        );
        let heavy = ", load_balancing_weight: 4294967295";
        let two = [host(80, heavy), host(81, "")].join(",");
        assert_eq!(
            refused(&format!("lb_endpoints: [{two}]")),
            "endpoints \"backend\": endpoints[0].lb_endpoints: \
             the sum of weights of all endpoints in a locality exceeds 4294967295"
        );
        let policy = |policy: &str| {
            translate(&format!("{{cluster_name: a, policy: {policy}}}")).expect_err("it breaks one")
        };
        assert_eq!(
            policy("{overprovisioning_factor: 0}"),
            "endpoints \"backend\": policy.overprovisioning_factor: 0 is not within 1 and 4294967295"
        );
        assert_eq!(
            policy("{drop_overloads: [{category: a}]}"),
            "endpoints \"backend\": policy.drop_overloads[0].drop_percentage: is required"
        );
    }

    #[test]
    fn names_are_for_dns_only() {
        let name = "lb_endpoints: [{endpoint: {address: {socket_address: {address: web, port_value: 1}}}}]";
        assert_eq!(
            locality(name).expect_err("EDS knows addresses"),
            "endpoints \"backend\": endpoints[0].lb_endpoints[0].endpoint.address: malformed IP \
             address: web; only clusters of type STRICT_DNS and LOGICAL_DNS have names"
        );
    }
}
