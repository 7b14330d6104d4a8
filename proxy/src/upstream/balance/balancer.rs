//! Which host of a set: by priority and health, then by locality, then by the policy.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh64::Xxh64;

use super::hashing::{self, Share, hash_key};
use super::locality::{Group, LocalityWeights, WeightedLocalities, group};
use super::priority::{Availability, PriorityLoad, Tier};
use super::zone::{Choice as ZoneChoice, LocalZone, ZoneRouting};
use super::{HostList, PickContext, Picker, TableSize, build, build_table, weight};
use crate::config::cluster::load_balancing::{
    LbPolicy, LoadBalancing, LocalityPolicy, Maglev, RingHash,
};
use crate::upstream::cluster::TrafficStats;
use crate::upstream::cluster::host::{Health, Host};

/// Pickers that were built before, by what they were built from: equal hosts keep their picker, and so tables are built
/// only when hosts or weights change.
pub type Known = HashMap<u64, Arc<dyn Picker>>;

/// What balancers are built by.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The cluster's load balancing.
    pub lb: &'a LoadBalancing,
    /// In percent.
    pub overprovisioning: u32,
    /// `weighted_priority_health`
    pub weighted_health: bool,
    /// The localities' weights.
    pub weights: &'a LocalityWeights,
    /// Where this proxy is.
    pub zone: Option<&'a Arc<LocalZone>>,
    /// Pickers of the balancers before.
    pub known: &'a Known,
}

/// The choice among the hosts of a cluster or a subset.
#[derive(Debug, Default)]
pub struct Balancer {
    load: PriorityLoad,
    priorities: Vec<PrioritySet>,
    /// Whether hashes choose priority and host.
    hashes: bool,
}

/// The hosts of one priority, with a choice for each tier that may be picked from.
#[derive(Debug, Default)]
struct PrioritySet {
    healthy: Choice,
    degraded: Choice,
    panic: Choice,
}

/// The choice among the hosts of one tier.
#[derive(Debug, Default)]
enum Choice {
    #[default]
    Nobody,
    Among(Built),
    ByWeight(Box<WeightedLocalities>, Vec<Built>),
    ByZone(Box<ByZone>),
}

#[derive(Debug)]
struct ByZone {
    routing: Arc<ZoneRouting>,
    anywhere: Built,
    /// One for each locality.
    each: Vec<Built>,
}

/// A picker with the print of what it was built from.
#[derive(Clone, Debug)]
struct Built {
    print: u64,
    picker: Arc<dyn Picker>,
}

impl Balancer {
    /// Reads the hosts' health and weights as they are now. Gives the priorities' availability too.
    pub fn build(hosts: &HostList, setting: &Setting<'_>) -> (Balancer, Box<[Availability]>) {
        let last = hosts.iter().map(|host| host.priority()).max();
        let by_priority: Vec<HostList> = match last {
            None => Vec::new(),
            Some(0) => vec![Arc::clone(hosts)],
            Some(last) => (0..=last)
                .map(|priority| select(hosts, |host| host.priority() == priority))
                .collect(),
        };
        let available: Box<[Availability]> =
            by_priority.iter().map(|hosts| count(hosts, setting)).collect();
        let load = PriorityLoad::new(&available, setting.lb.panic_threshold);
        let priorities = by_priority.iter().enumerate().map(|(index, hosts)| {
            let set = Set { hosts, priority: index as u32, counts: &available[index], setting };
            set.build(load.is_in_panic(index))
        });
        let priorities = priorities.collect();
        (Balancer { load, priorities, hashes: setting.lb.policy.hashes() }, available)
    }

    /// Notes the pickers, to build the next balancer from.
    pub fn note_pickers(&self, known: &mut Known) {
        let mut note = |built: &Built| {
            known.insert(built.print, Arc::clone(&built.picker));
        };
        for set in &self.priorities {
            for choice in [&set.healthy, &set.degraded, &set.panic] {
                match choice {
                    Choice::Nobody => {}
                    Choice::Among(built) => note(built),
                    Choice::ByWeight(_, each) => each.iter().for_each(&mut note),
                    Choice::ByZone(zones) => {
                        note(&zones.anywhere);
                        zones.each.iter().for_each(&mut note);
                    }
                }
            }
        }
    }

    /// The size of the table that was built last, for policies that have one.
    pub fn table(&self) -> Option<TableSize> {
        self.priorities.iter().rev().find_map(|set| match &set.healthy {
            Choice::Among(built) => built.picker.table(),
            _ => None,
        })
    }

    /// Picks a priority, then a host of it; again for hosts that the caller avoids.
    pub fn pick(&self, context: &PickContext<'_>, stats: &TrafficStats) -> Option<&Arc<Host>> {
        let mut context = *context;
        if self.hashes && context.hash.is_none() {
            context.hash = Some(fastrand::u64(..));
        }
        let mut host = self.pick_once(&context, stats)?;
        if let Some(avoid) = context.avoid {
            for attempt in 1..=avoid.attempts {
                if !(avoid.is_avoided)(host) {
                    break;
                }
                context.attempt = attempt;
                host = self.pick_once(&context, stats)?;
            }
        }
        Some(host)
    }

    fn pick_once(&self, context: &PickContext<'_>, stats: &TrafficStats) -> Option<&Arc<Host>> {
        let (priority, tier) = self.choose_priority(context);
        let set = self.priorities.get(priority)?;
        let choice = match tier {
            Tier::Healthy => &set.healthy,
            Tier::Degraded => &set.degraded,
            Tier::Panic => {
                stats.lb_healthy_panic.inc();
                &set.panic
            }
        };
        match choice {
            Choice::Nobody => None,
            Choice::Among(built) => built.picker.pick(context),
            Choice::ByWeight(localities, _) => localities.pick(context),
            Choice::ByZone(zones) => match zones.routing.choose(stats) {
                ZoneChoice::Anywhere => zones.anywhere.picker.pick(context),
                ZoneChoice::Locality(index) => zones.each[index].picker.pick(context),
                ZoneChoice::Nowhere => None,
            },
        }
    }

    fn choose_priority(&self, context: &PickContext<'_>) -> (usize, Tier) {
        if self.hashes {
            // Neither retries nor aggregate clusters change where a hash leads, as in Envoy.
            return self.load.choose(context.hash.unwrap_or_default());
        }
        if let Some((priority, tier)) = context.at {
            return (priority, if self.load.is_in_panic(priority) { Tier::Panic } else { tier });
        }
        if !context.avoid_priorities.is_empty()
            && let Some(load) = self.load.without(context.avoid_priorities)
        {
            return load.choose(fastrand::u64(..));
        }
        match self.load.is_all_healthy_first() {
            true => (0, Tier::Healthy),
            false => self.load.choose(fastrand::u64(..)),
        }
    }
}

/// The hosts of one priority, to build choices among.
struct Set<'a> {
    hosts: &'a HostList,
    priority: u32,
    counts: &'a Availability,
    setting: &'a Setting<'a>,
}

impl Set<'_> {
    fn build(&self, panic: bool) -> PrioritySet {
        let lb = self.setting.lb;
        if lb.policy.hashes() {
            let table = self.table(panic);
            // A tier of degraded hosts is as good as none to a policy that hashes, as in Envoy.
            let [healthy, degraded, panic] = [(); 3].map(|()| Choice::Among(table.clone()));
            return PrioritySet { healthy, degraded, panic };
        }
        if panic {
            let fails =
                matches!(&lb.locality, LocalityPolicy::ZoneAware(zone) if zone.fail_on_panic);
            let panic = if fails { Choice::Nobody } else { self.among(Arc::clone(self.hosts)) };
            return PrioritySet { panic, ..PrioritySet::default() };
        }
        let groups = self.groups();
        let routing = self.zone_routing(&groups);
        PrioritySet {
            healthy: self.choice(Health::Healthy, &groups, routing.as_ref()),
            degraded: self.choice(Health::Degraded, &groups, routing.as_ref()),
            panic: Choice::Nobody,
        }
    }

    /// The hosts by locality, if localities matter.
    fn groups(&self) -> Vec<Group> {
        let Setting { lb, weights, zone, .. } = self.setting;
        let matters = match &lb.locality {
            LocalityPolicy::Weighted => true,
            LocalityPolicy::ZoneAware(_) => zone.is_some() && self.priority == 0,
        };
        if !matters {
            return Vec::new();
        }
        group(self.hosts, self.priority, weights, zone.map(|zone| &zone.locality))
    }

    fn zone_routing(&self, groups: &[Group]) -> Option<Arc<ZoneRouting>> {
        let Setting { lb, zone, .. } = self.setting;
        match (&lb.locality, zone) {
            (LocalityPolicy::ZoneAware(config), Some(zone)) if groups.len() > 1 => {
                Some(Arc::new(ZoneRouting::new(zone, config, lb.panic_threshold, groups)))
            }
            _ => None,
        }
    }

    fn choice(
        &self,
        health: Health,
        groups: &[Group],
        routing: Option<&Arc<ZoneRouting>>,
    ) -> Choice {
        let all = match health {
            Health::Healthy => self.counts.healthy == self.counts.hosts,
            Health::Degraded => self.counts.degraded == self.counts.hosts,
            Health::Unhealthy => false,
        };
        let hosts = match all {
            true => Arc::clone(self.hosts),
            false => select(self.hosts, |host| host.health() == health),
        };
        if hosts.is_empty() {
            return Choice::Nobody;
        }
        if let Some(routing) = routing {
            let each = groups.iter().map(|group| self.built(group.of(health)));
            return Choice::ByZone(Box::new(ByZone {
                routing: Arc::clone(routing),
                each: each.collect(),
                anywhere: self.built(hosts),
            }));
        }
        let overprovisioning = self.setting.overprovisioning;
        let weighted: Vec<(f64, Built)> = groups
            .iter()
            .map(|group| (group.effective_weight(health, overprovisioning), group))
            .filter(|(weight, _)| *weight > 0.0)
            .map(|(weight, group)| (weight, self.built(group.of(health))))
            .collect();
        if weighted.is_empty() {
            return self.among(hosts);
        }
        let pickers = weighted.iter().map(|(weight, built)| (*weight, Arc::clone(&built.picker)));
        let localities = WeightedLocalities::new(pickers.collect());
        let built = weighted.into_iter().map(|(_, built)| built).collect();
        Choice::ByWeight(Box::new(localities), built)
    }

    fn among(&self, hosts: HostList) -> Choice {
        Choice::Among(self.built(hosts))
    }

    /// A picker of these hosts: the one that there is already, or a new one.
    fn built(&self, hosts: HostList) -> Built {
        let policy = &self.setting.lb.policy;
        let print = print(policy, hosts.iter().map(|host| (&**host, 0.0)));
        let known = self.setting.known.get(&print);
        Built { print, picker: known.map_or_else(|| build(policy, hosts), Arc::clone) }
    }

    /// The table of a policy that hashes.
    fn table(&self, panic: bool) -> Built {
        let Setting { lb, weights, known, .. } = self.setting;
        let usable = |hosts: &[Arc<Host>]| -> HostList {
            select(hosts, |host| panic || host.health() == Health::Healthy)
        };
        let shares: Vec<Share> = match &lb.locality {
            LocalityPolicy::Weighted => {
                let groups = group(self.hosts, self.priority, weights, None);
                let usable: Vec<_> =
                    groups.iter().map(|group| (usable(&group.hosts), group.weight)).collect();
                hashing::shares_by_locality(usable.iter().map(|(hosts, weight)| (hosts, *weight)))
            }
            LocalityPolicy::ZoneAware(_) => hashing::shares(&usable(self.hosts)),
        };
        let print = print(&lb.policy, shares.iter().map(|share| (&*share.host, share.share)));
        let picker = known.get(&print).map(Arc::clone);
        let picker = picker.or_else(|| build_table(&lb.policy, shares));
        // Every policy that hashes has a table.
        let picker = picker.unwrap_or_else(|| build(&LbPolicy::Random, Arc::default()));
        Built { print, picker }
    }
}

/// A number for what a picker is built from: hosts with their weights, and what else the policy looks at.
fn print<'a>(policy: &LbPolicy, hosts: impl Iterator<Item = (&'a Host, f64)>) -> u64 {
    let hashing = match policy {
        LbPolicy::RingHash(RingHash { hashing, .. }) | LbPolicy::Maglev(Maglev { hashing, .. }) => {
            Some(hashing)
        }
        _ => None,
    };
    let mut print = Xxh64::new(0);
    let mut starts = false;
    for (host, share) in hosts {
        print.update(&host.id().to_ne_bytes());
        print.update(&host.weight().to_ne_bytes());
        print.update(&share.to_ne_bytes());
        if let Some(hashing) = hashing
            && host.metadata().is_some()
        {
            print.update(hash_key(host, hashing).as_bytes());
        }
        starts |= policy.slow_start().is_some_and(|start| weight::starts(host, start));
    }
    print.update(&[u8::from(starts)]);
    print.digest()
}

fn select(hosts: &[Arc<Host>], keep: impl Fn(&Host) -> bool) -> HostList {
    hosts.iter().filter(|host| keep(host)).cloned().collect()
}

fn count(hosts: &[Arc<Host>], setting: &Setting<'_>) -> Availability {
    let mut counts = Availability {
        overprovisioning: setting.overprovisioning,
        hosts: hosts.len(),
        ..Availability::default()
    };
    for host in hosts {
        let share = if setting.weighted_health { u64::from(host.weight()) } else { 1 };
        match host.is_excluded() {
            true => counts.excluded += 1,
            false => counts.total_share += share,
        }
        match host.health() {
            Health::Healthy => {
                counts.healthy += 1;
                counts.healthy_share += share;
            }
            Health::Degraded => {
                counts.degraded += 1;
                counts.degraded_share += share;
            }
            Health::Unhealthy => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests;
