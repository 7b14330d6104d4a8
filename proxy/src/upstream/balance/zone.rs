//! Zone-aware routing: requests stay in the own zone as far as its hosts can bear the share of load that comes from there.
//!
//! How much load each zone sends is told by the hosts of the local cluster, which this proxy is one of.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::locality::Group;
use super::priority::is_in_panic;
use crate::config::cluster::load_balancing::ZoneAware;
use crate::config::endpoint::Locality;
use crate::upstream::cluster::host::{Health, Host};
use crate::upstream::cluster::{ClusterSlot, HostSnapshot, TrafficStats};

/// Where this proxy is: its locality, and the cluster that it is a member of (`cluster_manager.local_cluster_name`).
#[derive(Debug)]
pub struct LocalZone {
    /// `node.locality`
    pub locality: Locality,
    /// The local cluster.
    pub cluster: Arc<ClusterSlot>,
}

/// Shares are counted in 10,000ths.
const WHOLE: u64 = 10_000;

/// The localities of priority 0 and what they can bear.
#[derive(Debug)]
pub(super) struct ZoneRouting {
    zone: Arc<LocalZone>,
    config: ZoneAware,
    /// In percent, of the local cluster too.
    panic_threshold: f64,
    localities: Vec<(Arc<Locality>, u64)>,
    /// Whether the first locality is the own one, and how many of its hosts are healthy.
    own_healthy: Option<usize>,
    healthy: u64,
    plan: ArcSwap<Plan>,
}

/// What follows for one set of hosts of the local cluster.
#[derive(Debug)]
struct Plan {
    /// The local cluster's hosts that it was made for; 0 for none.
    local: u64,
    local_is_in_panic: bool,
    routing: Routing,
}

#[derive(Debug, PartialEq)]
enum Routing {
    /// Zones do not matter.
    Off,
    /// Everything stays in the own zone.
    Direct,
    /// A part stays, of 10,000; the rest goes where capacity is left, in running sums by locality.
    Residual { stays: u64, left: Vec<u64> },
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// To a host of any locality.
    Anywhere,
    /// To a host of this locality.
    Locality(usize),
    /// Nowhere: the local cluster is in panic, and the configuration says so.
    Nowhere,
}

impl ZoneRouting {
    pub(super) fn new(
        zone: &Arc<LocalZone>,
        config: &ZoneAware,
        panic_threshold: f64,
        groups: &[Group],
    ) -> Self {
        let healthy = |group: &Group| group.of(Health::Healthy);
        let own = groups.first().filter(|group| *group.locality == zone.locality);
        let size = |group: &Group| {
            let size = |host: &Arc<Host>| if config.by_weight { host.weight().into() } else { 1 };
            (Arc::clone(&group.locality), healthy(group).iter().map(size).sum())
        };
        ZoneRouting {
            zone: Arc::clone(zone),
            config: config.clone(),
            panic_threshold,
            localities: groups.iter().map(size).collect(),
            own_healthy: own.map(|group| healthy(group).len()),
            healthy: groups.iter().map(|group| healthy(group).len() as u64).sum(),
            plan: ArcSwap::from_pointee(Plan {
                local: 0,
                local_is_in_panic: false,
                routing: Routing::Off,
            }),
        }
    }

    /// Where the next request goes.
    pub(super) fn choose(&self, stats: &TrafficStats) -> Choice {
        let Some(local) = self.zone.cluster.get() else { return Choice::Anywhere };
        let local = local.hosts();
        if self.plan.load().local != local.id() {
            self.plan.store(Arc::new(self.plan(&local, stats)));
        }
        let plan = self.plan.load();
        if plan.routing == Routing::Off {
            return Choice::Anywhere;
        }
        let enabled = self.config.routing_enabled;
        if enabled < 100 && fastrand::u32(..100) >= enabled {
            return Choice::Anywhere;
        }
        if plan.local_is_in_panic {
            stats.lb_local_cluster_not_ok.inc();
            return if self.config.fail_on_panic { Choice::Nowhere } else { Choice::Anywhere };
        }
        let Routing::Residual { stays, left } = &plan.routing else {
            stats.lb_zone_routing_all_directly.inc();
            return Choice::Locality(0);
        };
        if fastrand::u64(..WHOLE) < *stays {
            stats.lb_zone_routing_sampled.inc();
            return Choice::Locality(0);
        }
        stats.lb_zone_routing_cross_zone.inc();
        match left.last() {
            None | Some(0) => {
                stats.lb_zone_no_capacity_left.inc();
                Choice::Locality(fastrand::usize(..self.localities.len()))
            }
            Some(total) => {
                let point = fastrand::u64(..*total);
                Choice::Locality(left.partition_point(|sum| *sum <= point))
            }
        }
    }

    fn plan(&self, local: &HostSnapshot, stats: &TrafficStats) -> Plan {
        stats.lb_recalculate_zone_structures.inc();
        let first = local.priorities().first().copied().unwrap_or_default();
        Plan {
            local: local.id(),
            local_is_in_panic: is_in_panic(&first, self.panic_threshold),
            routing: self.routing(local, stats),
        }
    }

    fn routing(&self, local: &HostSnapshot, stats: &TrafficStats) -> Routing {
        let of_first = || local.hosts().iter().filter(|host| host.priority() == 0);
        let localities: std::collections::BTreeSet<_> = of_first().map(|h| h.locality()).collect();
        if self.localities.len() < 2 || (localities.len() < 2 && self.config.force_local.is_none())
        {
            return Routing::Off;
        }
        if !of_first().any(|host| **host.locality() == self.zone.locality) {
            stats.lb_local_cluster_not_ok.inc();
            return Routing::Off;
        }
        if self.healthy < self.config.min_cluster_size {
            stats.lb_zone_cluster_too_small.inc();
            return Routing::Off;
        }
        let size = |host: &&Arc<Host>| -> u64 {
            if self.config.by_weight { host.weight().into() } else { 1 }
        };
        let healthy = || of_first().filter(|host| host.health() == Health::Healthy);
        let local_total: u64 = healthy().map(|host| size(&host)).sum();
        let total: u64 = self.localities.iter().map(|(_, size)| size).sum();
        let share = |part: u64, of: u64| (WHOLE * part).checked_div(of).unwrap_or(0);
        // The load that comes from a locality, and what its hosts can bear of it.
        let shares: Vec<(u64, u64)> = self
            .localities
            .iter()
            .map(|(locality, capacity)| match capacity {
                0 => (0, 0),
                capacity => {
                    let here = healthy().filter(|host| *host.locality() == *locality);
                    let sent = here.map(|host| size(&host)).sum();
                    (share(sent, local_total), share(*capacity, total))
                }
            })
            .collect();
        self.residual(&shares)
    }

    fn residual(&self, shares: &[(u64, u64)]) -> Routing {
        let own = self.own_healthy.map(|healthy| (healthy, shares[0]));
        if let Some((healthy, (sent, capacity))) = own {
            let forced = |least: u32| healthy > 0 && healthy >= least as usize;
            let is_forced = self.config.force_local.is_some_and(forced);
            if (capacity > 0 && capacity >= sent) || is_forced {
                return Routing::Direct;
            }
        }
        let stays = match own {
            Some((_, (sent, capacity))) if sent > 0 => capacity * WHOLE / sent,
            _ => 0,
        };
        let mut sum = 0;
        let left = shares.iter().enumerate().map(|(index, (sent, capacity))| {
            if index > 0 || own.is_none() {
                sum += capacity.saturating_sub(*sent);
            }
            sum
        });
        Routing::Residual { stays, left: left.collect() }
    }
}

#[cfg(test)]
mod tests;
