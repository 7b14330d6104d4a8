//! Load balancing: one host out of many.
//!
//! A [`Picker`] is built from hosts that are in the same health, off the data path, and is then only read. A
//! [`Balancer`] has a picker for each priority, health and locality, and decides among them; a [`SubsetBalancer`] has a
//! balancer for each subset.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::cluster::LbPolicy;
use crate::config::metadata_match::MetadataMatch;
use crate::io::Address;
use crate::upstream::cluster::host::Host;

mod balancer;
mod bounded_load;
mod client_side_weighted;
mod edf;
mod hashing;
mod least_request;
mod locality;
mod maglev;
mod mersenne;
mod murmur;
mod peak_ewma;
pub mod priority;
mod random;
pub mod report;
mod ring_hash;
mod round_robin;
mod strides;
mod subset;
mod weight;
pub mod zone;

pub use balancer::{Balancer, Known, Setting};
pub use hashing::TableSize;
pub use locality::LocalityWeights;
pub use subset::SubsetBalancer;

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
    /// The host that a session sticks to.
    pub wanted: Option<Wanted<'a>>,
    /// Hosts that a retry passes over.
    pub avoid: Option<Avoid<'a>>,
    /// Priorities that get nothing as long as others have hosts (a retry's `previous_priorities`).
    pub avoid_priorities: &'a [u32],
    /// The priority and health that are decided already, by an aggregate cluster.
    pub at: Option<(usize, priority::Tier)>,
    /// How often a host was passed over in this pick; set by the balancer.
    pub attempt: u32,
    /// Requests on the cluster now, where its policy bounds hosts' load; set by the cluster.
    pub active_requests: u64,
}

/// The host that a session sticks to, whatever the policy would pick.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its address.
    pub address: &'a Address,
    /// Whether no other host will do.
    pub strict: bool,
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

    /// How large the table is, for policies that have one.
    fn table(&self) -> Option<TableSize> {
        None
    }
}

/// Builds the picker of a policy that does not hash. Weights are read now; a later change of weights needs a new picker.
fn build(policy: &LbPolicy, hosts: HostList) -> Arc<dyn Picker> {
    let weights = unequal_weights(&hosts);
    let starting =
        policy.slow_start().filter(|start| hosts.iter().any(|host| weight::starts(host, start)));
    match policy {
        LbPolicy::RoundRobin { .. } => match (starting, weights) {
            (Some(start), _) => {
                Arc::new(edf::Edf::new(hosts, weight::Weight::of_hosts(Some(start))))
            }
            (None, Some(weights)) => {
                Arc::new(round_robin::WeightedRoundRobin::new(hosts, &weights))
            }
            (None, None) => Arc::new(round_robin::RoundRobin::new(hosts)),
        },
        LbPolicy::LeastRequest(policy) if starting.is_some() || weights.is_some() => {
            let weight = weight::Weight::of_busy_hosts(policy.active_request_bias, starting);
            Arc::new(edf::Edf::new(hosts, weight))
        }
        LbPolicy::LeastRequest(policy) if policy.full_scan => {
            Arc::new(least_request::FullScan::new(hosts))
        }
        LbPolicy::LeastRequest(policy) => {
            Arc::new(least_request::LeastRequest::new(hosts, policy.choice_count))
        }
        LbPolicy::ClientSideWeighted(policy) => {
            Arc::new(client_side_weighted::ClientSideWeighted::new(hosts, policy))
        }
        LbPolicy::PeakEwma(policy) => Arc::new(peak_ewma::PeakEwma::new(hosts, policy)),
        LbPolicy::Random
        | LbPolicy::ClusterProvided
        | LbPolicy::RingHash(_)
        | LbPolicy::Maglev(_) => Arc::new(random::Random::new(hosts)),
    }
}

/// Builds the table of a policy that hashes; other policies have none.
fn build_table(policy: &LbPolicy, shares: Vec<hashing::Share>) -> Option<Arc<dyn Picker>> {
    let (hashing, table): (_, Arc<dyn hashing::Table>) = match policy {
        LbPolicy::RingHash(ring) => (&ring.hashing, Arc::new(ring_hash::Ring::new(ring, &shares))),
        LbPolicy::Maglev(maglev) => {
            (&maglev.hashing, Arc::new(maglev::Maglev::new(maglev, &shares)))
        }
        _ => return None,
    };
    Some(match hashing.balance_factor {
        Some(factor) => Arc::new(bounded_load::BoundedLoad::new(shares, table, factor)),
        None => Arc::new(hashing::ByHash::new(shares, table)),
    })
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
pub(super) mod tests;
