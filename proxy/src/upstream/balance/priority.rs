//! How load spreads over priorities and health, and when a priority is in panic.

/// The hosts of one priority, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Availability {
    /// `overprovisioning_factor` in percent.
    pub overprovisioning: u32,
    /// All hosts.
    pub hosts: usize,
    /// Hosts that do not count in the denominators.
    pub excluded: usize,
    /// Healthy hosts.
    pub healthy: usize,
    /// Degraded hosts.
    pub degraded: usize,
    /// What the priority's health is computed from: numbers of hosts, or their weights with `weighted_priority_health`.
    /// This is the denominator.
    pub total_share: u64,
    /// The healthy ones' part of it.
    pub healthy_share: u64,
    /// The degraded ones' part of it.
    pub degraded_share: u64,
}

impl Default for Availability {
    /// No hosts.
    fn default() -> Self {
        Availability {
            overprovisioning: 140,
            hosts: 0,
            excluded: 0,
            healthy: 0,
            degraded: 0,
            total_share: 0,
            healthy_share: 0,
            degraded_share: 0,
        }
    }
}

/// Which hosts of a priority a pick comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The healthy ones.
    Healthy,
    /// The degraded ones.
    Degraded,
    /// All, since the priority is in panic.
    Panic,
}

/// The share of requests that each priority gets, in percent, as Envoy computes it.
#[derive(Debug, Default)]
pub struct PriorityLoad {
    healthy: Vec<usize>,
    degraded: Vec<usize>,
    panic: Vec<bool>,
    /// How much each priority could take, healthy and degraded, in percent.
    capacity: Vec<(usize, usize)>,
}

impl PriorityLoad {
    /// Loads for priorities 0, 1 and so on. `panic_threshold` is in percent.
    pub fn new(priorities: &[Availability], panic_threshold: f64) -> Self {
        let share = |part: u64, priority: &Availability| {
            let share = u64::from(priority.overprovisioning) * part;
            share.checked_div(priority.total_share).map_or(0, |share| share.min(100) as usize)
        };
        let healthy: Vec<usize> = priorities.iter().map(|p| share(p.healthy_share, p)).collect();
        let degraded: Vec<usize> = priorities.iter().map(|p| share(p.degraded_share, p)).collect();
        let available = healthy.iter().chain(&degraded).sum::<usize>().min(100);

        let mut load = distribute(&healthy, &degraded, available);
        load.capacity = healthy.into_iter().zip(degraded).collect();
        if panic_threshold == 0.0 && available == 0 {
            // Nothing can be picked; the shares must still add up.
            load.healthy = percent_to_first(priorities.len());
            return load;
        }
        let in_panic = |p: &Availability| available < 100 && is_in_panic(p, panic_threshold);
        load.panic = priorities.iter().map(in_panic).collect();
        if load.panic.iter().all(|panic| *panic) {
            load.healthy = spread_by_hosts(priorities);
            load.degraded.fill(0);
        }
        load
    }

    /// The priority and tier for a random or hash value.
    pub fn choose(&self, value: u64) -> (usize, Tier) {
        let value = (value % 100) as usize + 1;
        let tiers = [(&self.healthy, Tier::Healthy), (&self.degraded, Tier::Degraded)];
        let mut sum = 0;
        for (loads, tier) in tiers {
            for (priority, load) in loads.iter().enumerate() {
                sum += load;
                if value <= sum {
                    return (priority, if self.panic[priority] { Tier::Panic } else { tier });
                }
            }
        }
        (0, Tier::Healthy)
    }

    /// The shares if these priorities get nothing, as a retry wants that has tried them. None if nothing would be left.
    pub fn without(&self, avoided: &[u32]) -> Option<PriorityLoad> {
        let capacities = self.capacity.iter().zip(0..);
        let kept = capacities.map(|(capacity, priority)| match avoided.contains(&priority) {
            true => (0, 0),
            false => *capacity,
        });
        let (healthy, degraded): (Vec<usize>, Vec<usize>) = kept.unzip();
        let available = healthy.iter().chain(&degraded).sum::<usize>().min(100);
        let panic = self.panic.clone();
        (available > 0)
            .then(|| PriorityLoad { panic, ..distribute(&healthy, &degraded, available) })
    }

    /// Whether every pick is from the healthy hosts of priority 0.
    pub fn is_all_healthy_first(&self) -> bool {
        self.healthy.first() == Some(&100) && !self.panic[0]
    }

    /// Whether the priority is in panic.
    pub fn is_in_panic(&self, priority: usize) -> bool {
        self.panic.get(priority).copied().unwrap_or(false)
    }
}

/// Healthy hosts first, in order of priority, then degraded ones; what rounding leaves goes to the first that has any.
fn distribute(healthy: &[usize], degraded: &[usize], available: usize) -> PriorityLoad {
    let mut remaining = 100;
    let mut take = |shares: &[usize]| -> Vec<usize> {
        let take_one = |share: &usize| {
            let load = (share * 100).checked_div(available).unwrap_or(0).min(remaining);
            remaining -= load;
            load
        };
        shares.iter().map(take_one).collect()
    };
    let mut load = PriorityLoad {
        healthy: take(healthy),
        degraded: take(degraded),
        panic: vec![false; healthy.len()],
        capacity: Vec::new(),
    };
    if let Some(first) = healthy.iter().position(|share| *share > 0) {
        load.healthy[first] += remaining;
    } else if let Some(first) = degraded.iter().position(|share| *share > 0) {
        load.degraded[first] += remaining;
    }
    load
}

/// Whether so few hosts of a priority are usable that it would be in panic by itself.
pub fn is_in_panic(priority: &Availability, threshold: f64) -> bool {
    let total = (priority.hosts - priority.excluded) as f64;
    let usable = (priority.healthy + priority.degraded) as f64;
    let percent = if total == 0.0 { 0.0 } else { 100.0 * usable / total };
    percent < threshold
}

/// When all are in panic, each priority gets load by its number of hosts.
fn spread_by_hosts(priorities: &[Availability]) -> Vec<usize> {
    let total: usize = priorities.iter().map(|p| p.hosts).sum();
    let Some(first) = priorities.iter().position(|p| p.hosts > 0) else {
        return percent_to_first(priorities.len());
    };
    let mut loads: Vec<usize> = priorities.iter().map(|p| 100 * p.hosts / total).collect();
    loads[first] += 100 - loads.iter().sum::<usize>();
    loads
}

fn percent_to_first(priorities: usize) -> Vec<usize> {
    (0..priorities).map(|priority| if priority == 0 { 100 } else { 0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(healthy: usize, degraded: usize, hosts: usize) -> Availability {
        Availability {
            hosts,
            healthy,
            degraded,
            total_share: hosts as u64,
            healthy_share: healthy as u64,
            degraded_share: degraded as u64,
            ..Availability::default()
        }
    }

    fn load(priorities: &[Availability]) -> PriorityLoad {
        PriorityLoad::new(priorities, 50.0)
    }

    #[test]
    fn load_spills_over_when_too_few_are_healthy() {
        // The table of Envoy's documentation on priority levels.
        for (p0, p1, expected) in
            [(100, 100, [100, 0]), (72, 72, [100, 0]), (71, 71, [99, 1]), (50, 50, [70, 30])]
        {
            assert_eq!(load(&[of(p0, 0, 100), of(p1, 0, 100)]).healthy, expected);
        }
        let load = load(&[of(25, 0, 100), of(25, 0, 100)]);
        assert_eq!((load.healthy, load.panic), (vec![50, 50], vec![true, true]));
    }

    #[test]
    fn degraded_hosts_take_what_healthy_ones_leave() {
        let load = load(&[of(50, 50, 100)]);
        assert_eq!((&load.healthy[..], &load.degraded[..]), (&[70][..], &[30][..]));
        assert_eq!(load.choose(69), (0, Tier::Healthy));
        assert_eq!(load.choose(70), (0, Tier::Degraded));
        assert!(!load.is_all_healthy_first());
    }

    #[test]
    fn panic_only_counts_while_the_whole_is_short() {
        // Priority 0 is below the threshold, but priority 1 carries everything.
        let enough = load(&[of(1, 0, 10), of(10, 0, 10)]);
        assert_eq!((enough.healthy.clone(), enough.panic), (vec![14, 86], vec![false, false]));
        let short = load(&[of(1, 0, 10), of(0, 0, 10)]);
        assert_eq!(short.panic, [true, true]);
        assert_eq!(short.choose(0), (0, Tier::Panic));
        assert_eq!(short.choose(99), (1, Tier::Panic));
    }

    #[test]
    fn nothing_is_in_panic_when_the_threshold_is_zero() {
        let load = PriorityLoad::new(&[of(0, 0, 10)], 0.0);
        assert_eq!(load.choose(50), (0, Tier::Healthy));
        assert!(!load.is_in_panic(0));
    }

    #[test]
    fn priorities_that_a_retry_has_tried_get_nothing() {
        let load = load(&[of(10, 0, 10), of(1, 0, 2), of(2, 0, 2)]);
        assert_eq!(load.without(&[0]).unwrap().healthy, [0, 70, 30]);
        assert_eq!(load.without(&[0, 2]).unwrap().healthy, [0, 100, 0]);
        assert!(load.without(&[0, 1, 2]).is_none());
    }

    #[test]
    fn empty_priorities_get_nothing() {
        assert_eq!(load(&[of(0, 0, 0), of(2, 0, 2)]).healthy, [0, 100]);
        assert_eq!(load(&[of(0, 0, 0)]).healthy, [100]);
        let excluded = Availability { hosts: 4, excluded: 2, ..of(2, 0, 2) };
        assert!(load(&[excluded]).is_all_healthy_first());
    }
}
