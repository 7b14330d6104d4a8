//! A cluster's hosts at one moment: by priority and health, ready to pick from.

use std::sync::Arc;

use super::host::{Health, Host};
use crate::config::cluster::Cluster as Config;
use crate::upstream::balance::priority::{Availability, PriorityLoad, Tier};
use crate::upstream::balance::{self, HostList, PickContext, Picker};

/// What an assignment says of a cluster's hosts; health comes from the hosts themselves.
#[derive(Clone, Debug)]
pub struct Membership {
    /// All hosts, in the assignment's order.
    pub hosts: HostList,
    /// `policy.overprovisioning_factor` in percent.
    pub overprovisioning_factor: u32,
    /// `policy.drop_overloads`: category and parts per million.
    pub drop_overload: Option<(Arc<str>, u32)>,
}

impl Default for Membership {
    fn default() -> Self {
        Membership { hosts: Arc::default(), overprovisioning_factor: 140, drop_overload: None }
    }
}

/// Immutable: built off the data path, replaced as a whole, read by picks.
#[derive(Debug, Default)]
pub struct HostSnapshot {
    membership: Membership,
    load: PriorityLoad,
    priorities: Vec<PrioritySet>,
    counts: Availability,
}

/// The hosts of one priority, with a picker for each tier that may be picked from.
#[derive(Debug, Default)]
struct PrioritySet {
    healthy: Option<Box<dyn Picker>>,
    degraded: Option<Box<dyn Picker>>,
    panic: Option<Box<dyn Picker>>,
}

/// What a pick found.
#[derive(Debug)]
pub struct Pick<'a> {
    /// The host.
    pub host: Option<&'a Arc<Host>>,
    /// Whether the priority is in panic (counted as `lb_healthy_panic`).
    pub panic: bool,
}

impl HostSnapshot {
    /// Reads the hosts' health as it is now.
    pub fn new(membership: Membership, config: &Config) -> Self {
        let hosts = &membership.hosts;
        let last = hosts.iter().map(|host| host.priority()).max();
        let by_priority: Vec<HostList> = match last {
            None => Vec::new(),
            Some(0) => vec![Arc::clone(hosts)],
            Some(last) => (0..=last)
                .map(|priority| select(hosts, |host| host.priority() == priority))
                .collect(),
        };
        let available: Vec<Availability> = by_priority.iter().map(|hosts| count(hosts)).collect();
        let load = PriorityLoad::new(
            &available,
            membership.overprovisioning_factor,
            config.panic_threshold,
        );
        let build = |(index, hosts): (usize, &HostList)| {
            PrioritySet::new(hosts, &available[index], load.is_in_panic(index), config)
        };
        let priorities = by_priority.iter().enumerate().map(build).collect();
        let counts = available.iter().fold(Availability::default(), |sum, one| Availability {
            hosts: sum.hosts + one.hosts,
            excluded: sum.excluded + one.excluded,
            healthy: sum.healthy + one.healthy,
            degraded: sum.degraded + one.degraded,
        });
        HostSnapshot { membership, load, priorities, counts }
    }

    /// All hosts, whatever their health.
    pub fn hosts(&self) -> &HostList {
        &self.membership.hosts
    }

    /// What the snapshot was built from.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// How many hosts there are, in all priorities together.
    pub fn counts(&self) -> Availability {
        self.counts
    }

    /// Picks a priority by the hash or at random, then a host of it; again for hosts that the caller avoids.
    pub fn pick(&self, context: &PickContext<'_>) -> Pick<'_> {
        let mut pick = self.pick_once(context);
        let Some(avoid) = context.avoid else { return pick };
        for _ in 0..avoid.attempts {
            if pick.host.is_none_or(|host| !(avoid.is_avoided)(host)) {
                break;
            }
            pick = self.pick_once(context);
        }
        pick
    }

    fn pick_once(&self, context: &PickContext<'_>) -> Pick<'_> {
        let (priority, tier) = self.choose_priority(context);
        let set = self.priorities.get(priority);
        let picker = set.and_then(|set| match tier {
            Tier::Healthy => set.healthy.as_ref(),
            Tier::Degraded => set.degraded.as_ref(),
            Tier::Panic => set.panic.as_ref(),
        });
        Pick { host: picker.and_then(|picker| picker.pick(context)), panic: tier == Tier::Panic }
    }

    fn choose_priority(&self, context: &PickContext<'_>) -> (usize, Tier) {
        let value = || context.hash.unwrap_or_else(|| fastrand::u64(..));
        if !context.avoid_priorities.is_empty()
            && let Some(load) = self.load.without(context.avoid_priorities)
        {
            return load.choose(value());
        }
        match self.load.is_all_healthy_first() {
            true => (0, Tier::Healthy),
            false => self.load.choose(value()),
        }
    }
}

impl PrioritySet {
    fn new(hosts: &HostList, counts: &Availability, panic: bool, config: &Config) -> Self {
        let of = |health| {
            let all = match health {
                Health::Healthy => counts.healthy == counts.hosts,
                Health::Degraded => counts.degraded == counts.hosts,
                Health::Unhealthy => false,
            };
            let list =
                if all { Arc::clone(hosts) } else { select(hosts, |host| host.health() == health) };
            (!list.is_empty()).then(|| balance::build(&config.lb_policy, list))
        };
        if panic {
            let all = balance::build(&config.lb_policy, Arc::clone(hosts));
            return PrioritySet { panic: Some(all), ..PrioritySet::default() };
        }
        PrioritySet { healthy: of(Health::Healthy), degraded: of(Health::Degraded), panic: None }
    }
}

fn select(hosts: &[Arc<Host>], keep: impl Fn(&Host) -> bool) -> HostList {
    hosts.iter().filter(|host| keep(host)).cloned().collect()
}

fn count(hosts: &[Arc<Host>]) -> Availability {
    let of = |health| hosts.iter().filter(|host| host.health() == health).count();
    Availability {
        hosts: hosts.len(),
        excluded: hosts.iter().filter(|host| host.is_excluded()).count(),
        healthy: of(Health::Healthy),
        degraded: of(Health::Degraded),
    }
}
