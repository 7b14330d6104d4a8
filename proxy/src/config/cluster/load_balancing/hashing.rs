//! Protobuf to model: ring hash and Maglev.

use std::sync::Arc;

use proto::envoy::config::cluster::v3::cluster::RingHashLbConfig;
use proto::envoy::config::cluster::v3::cluster::ring_hash_lb_config::HashFunction as ClusterFunction;
use proto::envoy::extensions::load_balancing_policies::common::v3::ConsistentHashingLbConfig;
use proto::envoy::extensions::load_balancing_policies::maglev::v3::Maglev as PbMaglev;
use proto::envoy::extensions::load_balancing_policies::ring_hash::v3::RingHash as PbRingHash;
use proto::envoy::extensions::load_balancing_policies::ring_hash::v3::ring_hash::HashFunction as ExtensionFunction;
use proto::google::protobuf::{UInt32Value, UInt64Value};

use super::{HashFunction, Hashing, LbPolicy, LocalityPolicy, Maglev, RingHash};
use crate::config::error::{At, ConfigError, Context};
use crate::config::hash_policy::HashPolicies;
use crate::config::value;

const DEFAULT_RING: (u64, u64) = (1024, LARGEST_RING);
const LARGEST_RING: u64 = 8 << 20;
const DEFAULT_TABLE: u64 = 65_537;
const LARGEST_TABLE: u64 = 5_000_011;

/// What a policy extension says: the policy, what part localities have, and its own hash policies.
pub(super) type Hashed = (LbPolicy, LocalityPolicy, Option<Arc<HashPolicies>>);

/// `ring_hash_lb_config`.
pub(super) fn ring_of_cluster(
    message: Option<&RingHashLbConfig>,
    hashing: Hashing,
    at: &At<'_>,
) -> Result<RingHash, ConfigError> {
    let none = RingHashLbConfig::default();
    let message = message.unwrap_or(&none);
    let at_function = at.field("hash_function");
    let function = match value::enumeration(message.hash_function, &at_function)? {
        ClusterFunction::XxHash => HashFunction::XxHash,
        ClusterFunction::MurmurHash2 => HashFunction::MurmurHash2,
    };
    ring((message.minimum_ring_size, message.maximum_ring_size), function, hashing, at)
}

/// `envoy.load_balancing_policies.ring_hash`.
pub(super) fn ring_of_extension(
    message: &PbRingHash,
    at: &At<'_>,
    context: &Context,
) -> Result<Hashed, ConfigError> {
    let at_function = at.field("hash_function");
    let function = match value::enumeration(message.hash_function, &at_function)? {
        ExtensionFunction::DefaultHash | ExtensionFunction::XxHash => HashFunction::XxHash,
        ExtensionFunction::MurmurHash2 => HashFunction::MurmurHash2,
    };
    let (hashing, policies) = match &message.consistent_hashing_lb_config {
        Some(config) => consistent_hashing(config, at, context)?,
        None => {
            let factor = balance_factor(message.hash_balance_factor, at)?;
            (
                Hashing { by_hostname: message.use_hostname_for_hashing, balance_factor: factor },
                None,
            )
        }
    };
    let sizes = (message.minimum_ring_size, message.maximum_ring_size);
    let ring = ring(sizes, function, hashing, at)?;
    let locality = locality(message.locality_weighted_lb_config.is_some());
    Ok((LbPolicy::RingHash(ring), locality, policies))
}

/// `envoy.load_balancing_policies.maglev`.
pub(super) fn maglev_of_extension(
    message: &PbMaglev,
    at: &At<'_>,
    context: &Context,
) -> Result<Hashed, ConfigError> {
    let config = message.consistent_hashing_lb_config.as_ref();
    let (hashing, policies) = config
        .map_or(Ok((Hashing::default(), None)), |config| consistent_hashing(config, at, context))?;
    let maglev = maglev(message.table_size, hashing, at)?;
    let locality = locality(message.locality_weighted_lb_config.is_some());
    Ok((LbPolicy::Maglev(maglev), locality, policies))
}

/// Policies that hash know no zones.
fn locality(is_weighted: bool) -> LocalityPolicy {
    if is_weighted { LocalityPolicy::Weighted } else { LocalityPolicy::default() }
}

fn consistent_hashing(
    message: &ConsistentHashingLbConfig,
    at: &At<'_>,
    context: &Context,
) -> Result<(Hashing, Option<Arc<HashPolicies>>), ConfigError> {
    let at = at.field("consistent_hashing_lb_config");
    let hashing = Hashing {
        by_hostname: message.use_hostname_for_hashing,
        balance_factor: balance_factor(message.hash_balance_factor, &at)?,
    };
    Ok((hashing, HashPolicies::from_proto(&message.hash_policy, &at, context)?))
}

fn ring(
    (min, max): (Option<UInt64Value>, Option<UInt64Value>),
    function: HashFunction,
    hashing: Hashing,
    at: &At<'_>,
) -> Result<RingHash, ConfigError> {
    let (min_size, max_size) = (
        min.map_or(DEFAULT_RING.0, |size| size.value),
        max.map_or(DEFAULT_RING.1, |size| size.value),
    );
    for (field, size) in [("minimum_ring_size", min_size), ("maximum_ring_size", max_size)] {
        if size > LARGEST_RING {
            return Err(at.field(field).error(format_args!("{size} is above {LARGEST_RING}")));
        }
    }
    if min_size > max_size {
        return Err(at.error(format_args!(
            "ring hash: minimum_ring_size ({min_size}) > maximum_ring_size ({max_size})"
        )));
    }
    Ok(RingHash { min_size, max_size, function, hashing })
}

/// A Maglev table of this size, which must be a prime.
pub(super) fn maglev(
    table_size: Option<UInt64Value>,
    hashing: Hashing,
    at: &At<'_>,
) -> Result<Maglev, ConfigError> {
    let at = at.field("table_size");
    let table_size = table_size.map_or(DEFAULT_TABLE, |size| size.value);
    if table_size > LARGEST_TABLE {
        return Err(at.error(format_args!("{table_size} is above {LARGEST_TABLE}")));
    }
    if !is_prime(table_size) {
        let rule = "the table size of maglev must be a prime number";
        return Err(at.error(format_args!("{table_size}: {rule}")));
    }
    Ok(Maglev { table_size, hashing })
}

/// `hash_balance_factor`, at least 100; 0 and none mean no bound.
pub(super) fn balance_factor(
    factor: Option<UInt32Value>,
    at: &At<'_>,
) -> Result<Option<u32>, ConfigError> {
    match factor {
        None => Ok(None),
        factor => {
            value::within(factor, 0, (100, u32::MAX), &at.field("hash_balance_factor")).map(Some)
        }
    }
}

fn is_prime(number: u64) -> bool {
    let divides = |divisor: &u64| number.is_multiple_of(*divisor);
    number >= 2 && !(2..).take_while(|divisor| divisor * divisor <= number).any(|d| divides(&d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_told() {
        for (number, expected) in
            [(0, false), (1, false), (2, true), (9, false), (65_537, true), (5_000_011, true)]
        {
            assert_eq!(is_prime(number), expected, "{number}");
        }
    }
}
