//! How a cluster's hosts change: by assignments, and by their health.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::{ACTIVE, Cluster, Host, HostSnapshot, Membership};
use crate::config::endpoint::{Assignment, Endpoint, LocalityEndpoints, Target};
use crate::io::Address;
use crate::upstream::balance::LocalityWeights;

/// What an assignment means for the hosts there are.
struct Change {
    hosts: Vec<Arc<Host>>,
    has_added: bool,
    removed: Vec<Arc<Host>>,
}

impl Cluster {
    /// Takes over the endpoints, which have addresses (names are resolved before). Hosts that stay keep their object;
    /// those that go are drained. Does nothing on a retired cluster.
    pub fn set_assignment(&self, assignment: &Assignment) {
        let _updating = self.updating.lock();
        if self.is_retired() {
            return;
        }
        let Change { hosts, has_added, removed } = self.change(&self.hosts.load(), assignment);
        let kept = self.config.lb.drain_on_host_set_change.then(|| hosts.clone());
        self.publish(Membership {
            hosts: hosts.into(),
            overprovisioning_factor: assignment.overprovisioning_factor,
            weighted_priority_health: assignment.weighted_priority_health,
            locality_weights: locality_weights(assignment),
            drop_overload: assignment.drop_overload.clone(),
        });
        let has_changed = has_added || !removed.is_empty();
        if has_changed {
            self.endpoint_stats.membership_change.inc();
            self.hosts_changed();
        }
        // Before the cluster is active, its predecessor may still use them; `retire` settles that.
        if self.phase.load(SeqCst) == ACTIVE {
            removed.iter().for_each(|host| host.remove());
            if has_changed {
                kept.iter().flatten().for_each(|host| host.drain_connections());
            }
        }
    }

    fn change(&self, before: &HostSnapshot, assignment: &Assignment) -> Change {
        let mut known: HashMap<&Address, &Arc<Host>> =
            before.hosts().iter().map(|host| (host.address(), host)).collect();
        let mut change = Change { hosts: Vec::new(), has_added: false, removed: Vec::new() };
        let mut seen = HashSet::new();
        for (locality, endpoint, address) in endpoints(assignment) {
            if !seen.insert(address) {
                continue;
            }
            let kept = known.get(address).filter(|h| h.is_same(endpoint, &locality.locality));
            if let Some(host) = kept {
                let before = self.config.socket_match(host.metadata().as_deref());
                host.update(endpoint, locality.priority);
                if before != self.config.socket_match(host.metadata().as_deref()) {
                    host.drain_connections();
                }
                change.hosts.push(Arc::clone(host));
                known.remove(address);
            } else {
                let at = Arc::clone(&locality.locality);
                let host = Host::new(address.clone(), endpoint, at, locality.priority);
                self.await_check(&host);
                change.hosts.push(host);
                change.has_added = true;
            }
        }
        let (kept, removed): (Vec<_>, Vec<_>) =
            known.into_values().cloned().partition(|host| self.outlives_removal(host));
        change.hosts.extend(kept);
        change.removed = removed;
        change
    }

    /// Makes changes of hosts' health flags or weights count for picks. Cheap enough for every change: hosts are sorted
    /// anew, but pickers and tables of hosts for which nothing has changed are kept.
    pub fn refresh_hosts(&self) {
        let _updating = self.updating.lock();
        if !self.is_retired() {
            self.publish(self.hosts.load().membership().clone());
        }
    }

    /// Puts hosts in the place of those before.
    pub(super) fn publish(&self, membership: Membership) {
        let before = self.hosts.load_full();
        let lb = &self.config.lb;
        let snapshot = HostSnapshot::new(membership, lb, self.zone.as_ref(), Some(&before));
        if let (Some(tables), Some(size)) = (&self.tables, snapshot.table()) {
            tables.set(&size);
        }
        snapshot.count_subsets(&before, || Arc::clone(&self.traffic().stats));
        let counts = snapshot.counts();
        self.hosts.store(Arc::new(snapshot));
        let stats = &self.endpoint_stats;
        stats.membership_total.set(counts.hosts as u64);
        stats.membership_healthy.set(counts.healthy as u64);
        stats.membership_degraded.set(counts.degraded as u64);
        stats.membership_excluded.set(counts.excluded as u64);
    }
}

/// Every endpoint with its locality and address. Names are left out: they are resolved before they come here.
fn endpoints(
    assignment: &Assignment,
) -> impl Iterator<Item = (&LocalityEndpoints, &Endpoint, &Address)> {
    assignment.localities.iter().flat_map(|locality| {
        locality.endpoints.iter().filter_map(move |endpoint| match &endpoint.target {
            Target::Address(address) => Some((locality, endpoint, address)),
            Target::Name { .. } => None,
        })
    })
}

/// The weights of localities that have one.
fn locality_weights(assignment: &Assignment) -> Option<Arc<LocalityWeights>> {
    let weights: LocalityWeights = assignment
        .localities
        .iter()
        .filter_map(|group| Some(((group.priority, Arc::clone(&group.locality)), group.weight?)))
        .collect();
    (!weights.is_empty()).then(|| Arc::new(weights))
}
