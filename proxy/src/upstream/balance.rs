//! Load balancing: one host out of many.
//!
//! A [`Picker`] is built from the hosts of one priority that are in the same health, off the data path, and is then
//! only read. [`priority`] decides which priority and health a pick comes from.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::cluster::LbPolicy;
use crate::config::metadata_match::MetadataMatch;
use crate::upstream::cluster::host::Host;

mod least_request;
pub mod priority;
mod random;
mod round_robin;

/// Hosts among which a picker picks.
pub type HostList = Arc<[Arc<Host>]>;

/// What a pick may depend on besides the hosts.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickContext<'a> {
    /// The request's hash by the route's hash policies.
    pub hash: Option<u64>,
    /// Where the connection wanted to go, or what the request header of an `ORIGINAL_DST` cluster says.
    pub original_dst: Option<SocketAddr>,
    /// What the route wants of hosts' metadata: chooses a subset, where the cluster has subsets.
    pub metadata: Option<&'a MetadataMatch>,
    /// Hosts that a retry passes over.
    pub avoid: Option<Avoid<'a>>,
    /// Priorities that get nothing as long as others have hosts (a retry's `previous_priorities`).
    pub avoid_priorities: &'a [u32],
}

/// Hosts that a retry passes over (`retry_host_predicate`).
#[derive(Clone, Copy)]
pub struct Avoid<'a> {
    /// How often another host is picked at most; after that the last one is taken all the same
    /// (`host_selection_retry_max_attempts`).
    pub attempts: u32,
    /// Whether a host is passed over.
    pub is_avoided: &'a dyn Fn(&Host) -> bool,
}

impl std::fmt::Debug for Avoid<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Avoid").field("attempts", &self.attempts).finish_non_exhaustive()
    }
}

/// A load balancing policy over a fixed list of hosts.
pub trait Picker: Send + Sync + std::fmt::Debug {
    /// The host for a request; none only if there are no hosts.
    fn pick(&self, context: &PickContext<'_>) -> Option<&Arc<Host>>;
}

/// Builds the picker of a policy. Weights are read now; a later change of weights needs a new picker.
pub fn build(policy: &LbPolicy, hosts: HostList) -> Box<dyn Picker> {
    let weights = unequal_weights(&hosts);
    match (policy, weights) {
        (LbPolicy::RoundRobin, None) => Box::new(round_robin::RoundRobin::new(hosts)),
        (LbPolicy::RoundRobin, Some(weights)) => {
            Box::new(round_robin::WeightedRoundRobin::new(hosts, &weights))
        }
        (LbPolicy::LeastRequest { choice_count, .. }, None) => {
            Box::new(least_request::LeastRequest::new(hosts, *choice_count))
        }
        (LbPolicy::LeastRequest { active_request_bias, .. }, Some(weights)) => {
            Box::new(least_request::WeightedLeastRequest::new(hosts, weights, *active_request_bias))
        }
        (LbPolicy::Random | LbPolicy::ClusterProvided, _) => Box::new(random::Random::new(hosts)),
    }
}

/// The hosts' weights, unless they are all the same.
fn unequal_weights(hosts: &[Arc<Host>]) -> Option<Box<[u32]>> {
    let first = hosts.first()?.weight();
    let unequal = hosts.iter().any(|host| host.weight() != first);
    unequal.then(|| hosts.iter().map(|host| host.weight()).collect())
}

/// A random index below `len`, which is above 0.
fn random_index(len: usize) -> usize {
    fastrand::usize(..len)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::endpoint::{Endpoint, Target};
    use crate::io::Address;

    /// A host on `127.0.0.1:port` with a weight.
    pub fn host(port: u16, weight: u32) -> Arc<Host> {
        let address = Address::Ip(([127, 0, 0, 1], port).into());
        let target = Target::Address(address.clone());
        let endpoint = Endpoint {
            target,
            hostname: None,
            weight,
            health: Default::default(),
            metadata: None,
            check: None,
        };
        Host::new(address, &endpoint, Arc::default(), 0)
    }

    /// How often each of the hosts, on ports 1, 2 and so on, is picked in `n` picks.
    pub fn counts(picker: &dyn Picker, hosts: usize, n: usize) -> Vec<usize> {
        let mut counts = vec![0; hosts];
        for _ in 0..n {
            let host = picker.pick(&PickContext::default()).unwrap();
            counts[usize::from(host.address().port().unwrap()) - 1] += 1;
        }
        counts
    }

    /// Hosts on ports 1, 2 and so on with these weights.
    pub fn hosts(weights: &[u32]) -> HostList {
        weights.iter().zip(1..).map(|(weight, port)| host(port, *weight)).collect()
    }

    #[test]
    fn every_policy_gives_nothing_without_hosts() {
        let policies = [
            LbPolicy::RoundRobin,
            LbPolicy::LeastRequest { choice_count: 2, active_request_bias: 1.0 },
            LbPolicy::Random,
        ];
        for policy in policies {
            assert!(build(&policy, hosts(&[])).pick(&PickContext::default()).is_none());
        }
    }
}
