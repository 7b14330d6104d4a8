//! What ring hash and Maglev have in common: the shares of hosts, their keys, and the pick by a table.

use std::sync::Arc;

use super::{HostList, PickContext, Picker};
use crate::config::cluster::load_balancing::Hashing;
use crate::config::metadata_match;
use crate::upstream::cluster::host::Host;

/// A host with the share of a table that it shall have; all of a table come to 1.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub host: Arc<Host>,
    pub share: f64,
}

/// How large a table is, for its statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSize {
    /// Entries.
    pub entries: u64,
    /// Entries of the host that has the fewest.
    pub min_per_host: u64,
    /// Entries of the host that has the most.
    pub max_per_host: u64,
}

/// A table from hashes to places in a list of hosts.
pub(super) trait Table: Send + Sync + std::fmt::Debug {
    /// The host's place for a hash; `attempt` counts hosts that were passed over. None if there are no hosts.
    fn find(&self, hash: u64, attempt: u32) -> Option<usize>;

    fn size(&self) -> TableSize;
}

/// Shares by the hosts' weights.
pub(super) fn shares(hosts: &[Arc<Host>]) -> Vec<Share> {
    let mut shares = Vec::with_capacity(hosts.len());
    add_shares(hosts, 1.0, &mut shares);
    shares
}

/// Shares by the weights of localities, then by the hosts' in each. Those of localities without a usable host are nobody's,
/// as in Envoy.
pub(super) fn shares_by_locality<'a>(
    localities: impl Iterator<Item = (&'a HostList, u32)> + Clone,
) -> Vec<Share> {
    let total: u64 = localities.clone().map(|(_, weight)| u64::from(weight)).sum();
    let mut shares = Vec::new();
    for (hosts, weight) in localities.filter(|(_, weight)| *weight > 0) {
        add_shares(hosts, f64::from(weight) / total as f64, &mut shares);
    }
    shares
}

fn add_shares(hosts: &[Arc<Host>], of_all: f64, shares: &mut Vec<Share>) {
    let total: u64 = hosts.iter().map(|host| u64::from(host.weight())).sum();
    shares.extend(hosts.iter().map(|host| Share {
        host: Arc::clone(host),
        share: f64::from(host.weight()) * of_all / total as f64,
    }));
}

/// What stands for a host in a table: `hash_key` of its metadata under `envoy.lb`, or its hostname or address.
pub(super) fn hash_key(host: &Host, hashing: &Hashing) -> String {
    let metadata = host.metadata();
    let key = metadata.as_deref().and_then(metadata_match::of_host);
    let key = key.and_then(|fields| fields.get("hash_key")?.as_str());
    match key {
        Some(key) if !key.is_empty() => key.to_owned(),
        _ if hashing.by_hostname => host.hostname().map_or(String::new(), |name| name.to_string()),
        _ => host.address().to_string(),
    }
}

/// The host of a table's entry.
#[derive(Debug)]
pub(super) struct ByHash {
    shares: Box<[Share]>,
    table: Arc<dyn Table>,
}

impl ByHash {
    pub(super) fn new(shares: Vec<Share>, table: Arc<dyn Table>) -> Self {
        ByHash { shares: shares.into(), table }
    }
}

impl Picker for ByHash {
    fn pick(&self, context: &PickContext<'_>) -> Option<&Arc<Host>> {
        let hash = context.hash.unwrap_or_else(|| fastrand::u64(..));
        self.table.find(hash, context.attempt).map(|place| &self.shares[place].host)
    }

    fn table(&self) -> Option<TableSize> {
        Some(self.table.size())
    }
}
