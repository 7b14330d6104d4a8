//! `ROUND_ROBIN`: one after the other, heavier hosts more often.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::strides::Strides;
use super::{HostList, PickContext, Picker, random_index};
use crate::upstream::cluster::host::Host;

/// Hosts of equal weight in turn, from a random start.
#[derive(Debug)]
pub(super) struct RoundRobin {
    hosts: HostList,
    next: AtomicUsize,
}

impl RoundRobin {
    pub(super) fn new(hosts: HostList) -> Self {
        let start = random_index(hosts.len().max(1));
        RoundRobin { hosts, next: AtomicUsize::new(start) }
    }
}

impl Picker for RoundRobin {
    fn pick(&self, _context: &PickContext<'_>) -> Option<&Arc<Host>> {
        match self.hosts.len() {
            0 => None,
            len => Some(&self.hosts[self.next.fetch_add(1, Relaxed) % len]),
        }
    }
}

/// Hosts in turn, each in proportion to its weight.
#[derive(Debug)]
pub(super) struct WeightedRoundRobin {
    hosts: HostList,
    strides: Strides,
}

impl WeightedRoundRobin {
    /// `weights` has one entry a host, all above 0.
    pub(super) fn new(hosts: HostList, weights: &[u32]) -> Self {
        let weights: Vec<f64> = weights.iter().map(|weight| f64::from(*weight)).collect();
        WeightedRoundRobin { hosts, strides: Strides::new(&weights) }
    }
}

impl Picker for WeightedRoundRobin {
    fn pick(&self, _context: &PickContext<'_>) -> Option<&Arc<Host>> {
        self.strides.next().map(|index| &self.hosts[index])
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{counts, hosts};
    use super::*;

    #[test]
    fn equal_hosts_take_turns() {
        let picker = RoundRobin::new(hosts(&[1, 1, 1]));
        assert_eq!(counts(&picker, 3, 9), [3, 3, 3]);
    }

    #[test]
    fn the_start_is_random() {
        fastrand::seed(1);
        let list = hosts(&[1, 1, 1]);
        let first = |_| counts(&RoundRobin::new(list.clone()), 3, 1);
        let firsts: std::collections::HashSet<_> = (0..50).map(first).collect();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn heavier_hosts_come_more_often() {
        let weights = [1, 3];
        let picker = WeightedRoundRobin::new(hosts(&weights), &weights);
        let counts = counts(&picker, 2, 4000);
        assert!(counts[0].abs_diff(1000) < 5, "{counts:?}");
    }
}
