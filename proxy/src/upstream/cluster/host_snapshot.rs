//! A cluster's hosts at one moment: by subset, priority and health, ready to pick from.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::TrafficStats;
use super::host::Host;
use crate::config::cluster::LoadBalancing;
use crate::io::Address;
use crate::upstream::balance::priority::Availability;
use crate::upstream::balance::zone::LocalZone;
use crate::upstream::balance::{
    Balancer, HostList, Known, LocalityWeights, PickContext, Setting, SubsetBalancer, TableSize,
};

/// What an assignment says of a cluster's hosts; health comes from the hosts themselves.
#[derive(Clone, Debug)]
pub struct Membership {
    /// All hosts, in the assignment's order.
    pub hosts: HostList,
    /// `policy.overprovisioning_factor` in percent.
    pub overprovisioning_factor: u32,
    /// `policy.weighted_priority_health`
    pub weighted_priority_health: bool,
    /// `load_balancing_weight` of localities; none if none has one.
    pub locality_weights: Option<Arc<LocalityWeights>>,
    /// `policy.drop_overloads`: category and parts per million.
    pub drop_overload: Option<(Arc<str>, u32)>,
}

impl Default for Membership {
    fn default() -> Self {
        Membership {
            hosts: Arc::default(),
            overprovisioning_factor: 140,
            weighted_priority_health: false,
            locality_weights: None,
            drop_overload: None,
        }
    }
}

/// Immutable: built off the data path, replaced as a whole, read by picks.
#[derive(Debug)]
pub struct HostSnapshot {
    id: u64,
    membership: Membership,
    balancing: Balancing,
    priorities: Box<[Availability]>,
    by_address: OnceLock<HashMap<Address, Arc<Host>>>,
}

#[derive(Debug)]
enum Balancing {
    All(Balancer),
    Subsets(Box<SubsetBalancer>),
}

impl HostSnapshot {
    /// Reads the hosts' health as it is now. Pickers of `before`, which is of the same configuration, are kept where
    /// nothing has changed for them.
    pub fn new(
        membership: Membership,
        lb: &LoadBalancing,
        zone: Option<&Arc<LocalZone>>,
        before: Option<&HostSnapshot>,
    ) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let mut known = Known::new();
        match before.map(|before| &before.balancing) {
            Some(Balancing::All(balancer)) => balancer.note_pickers(&mut known),
            Some(Balancing::Subsets(subsets)) => subsets.note_pickers(&mut known),
            None => {}
        }
        let none = LocalityWeights::new();
        let setting = Setting {
            lb,
            overprovisioning: membership.overprovisioning_factor,
            weighted_health: membership.weighted_priority_health,
            weights: membership.locality_weights.as_deref().unwrap_or(&none),
            zone,
            known: &known,
        };
        let (balancer, priorities) = Balancer::build(&membership.hosts, &setting);
        let balancing = match &lb.subsets {
            None => Balancing::All(balancer),
            Some(config) => Balancing::Subsets(Box::new(SubsetBalancer::build(
                config,
                &membership.hosts,
                &setting,
            ))),
        };
        let (id, by_address) = (NEXT_ID.fetch_add(1, Relaxed), OnceLock::new());
        HostSnapshot { id, membership, balancing, priorities, by_address }
    }

    /// A number that no other snapshot of the process has; above 0.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// All hosts, whatever their health.
    pub fn hosts(&self) -> &HostList {
        &self.membership.hosts
    }

    /// What the snapshot was built from.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The hosts of each priority, counted.
    pub fn priorities(&self) -> &[Availability] {
        &self.priorities
    }

    /// The hosts of all priorities together, counted.
    pub fn counts(&self) -> Availability {
        self.priorities.iter().fold(Availability::default(), |sum, one| Availability {
            overprovisioning: one.overprovisioning,
            hosts: sum.hosts + one.hosts,
            excluded: sum.excluded + one.excluded,
            healthy: sum.healthy + one.healthy,
            degraded: sum.degraded + one.degraded,
            total_share: sum.total_share + one.total_share,
            healthy_share: sum.healthy_share + one.healthy_share,
            degraded_share: sum.degraded_share + one.degraded_share,
        })
    }

    /// The host for a request, if there is one that may be used.
    pub fn pick(&self, context: &PickContext<'_>, stats: &TrafficStats) -> Option<&Arc<Host>> {
        match &self.balancing {
            Balancing::All(balancer) => balancer.pick(context, stats),
            Balancing::Subsets(subsets) => subsets.pick(context, stats),
        }
    }

    /// The host at an address.
    pub fn host_at(&self, address: &Address) -> Option<&Arc<Host>> {
        let by_address = self.by_address.get_or_init(|| {
            let hosts = self.hosts().iter();
            hosts.map(|host| (host.address().clone(), Arc::clone(host))).collect()
        });
        by_address.get(address)
    }

    /// The size of the table of a policy that hashes.
    pub fn table(&self) -> Option<TableSize> {
        match &self.balancing {
            Balancing::All(balancer) => balancer.table(),
            Balancing::Subsets(_) => None,
        }
    }

    /// Counts what has become of the subsets since `before`.
    pub fn count_subsets(&self, before: &HostSnapshot, stats: impl FnOnce() -> Arc<TrafficStats>) {
        if let Balancing::Subsets(subsets) = &self.balancing {
            let before = match &before.balancing {
                Balancing::Subsets(before) => Some(&**before),
                Balancing::All(_) => None,
            };
            subsets.count(before, &stats());
        }
    }
}
