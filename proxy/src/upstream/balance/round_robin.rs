//! `ROUND_ROBIN`: one after the other, heavier hosts more often.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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

/// Hosts in turn, with each passed over so often that it is picked in proportion to its weight.
///
/// Envoy keeps a heap of deadlines (EDF) per worker. This is the static stride schedule of gRFC A58 instead: all
/// workers share one counter and nothing else, and each host's share is the same as with EDF to one part in 65,535.
/// Only the order within a round differs.
#[derive(Debug)]
pub(super) struct WeightedRoundRobin {
    hosts: HostList,
    /// Weights scaled so that the largest is [`SCALE`].
    strides: Box<[u16]>,
    next: AtomicUsize,
}

const SCALE: usize = u16::MAX as usize;

impl WeightedRoundRobin {
    /// `weights` has one entry a host, all above 0.
    pub(super) fn new(hosts: HostList, weights: &[u32]) -> Self {
        let max = f64::from(weights.iter().copied().max().unwrap_or(1));
        let stride = |weight: &u32| (f64::from(*weight) / max * SCALE as f64).round().max(1.0);
        let strides = weights.iter().map(|weight| stride(weight) as u16).collect();
        let start = random_index(hosts.len().max(1) * 256);
        WeightedRoundRobin { hosts, strides, next: AtomicUsize::new(start) }
    }
}

impl Picker for WeightedRoundRobin {
    fn pick(&self, _context: &PickContext<'_>) -> Option<&Arc<Host>> {
        let len = self.hosts.len();
        if len == 0 {
            return None;
        }
        loop {
            let turn = self.next.fetch_add(1, Relaxed);
            let (round, index) = (turn / len, turn % len);
            let stride = usize::from(self.strides[index]);
            // Each host starts its strides elsewhere, or all light hosts would be picked in the same round.
            let offset = index.wrapping_mul(SCALE / 2);
            let position = stride.wrapping_mul(round).wrapping_add(offset) % SCALE;
            // The heaviest host is never passed over, so that a pick looks at each host once at most.
            if position >= SCALE - stride {
                return Some(&self.hosts[index]);
            }
        }
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
    fn shares_follow_weights() {
        fastrand::seed(1);
        let weights = [1, 2, 7, 90];
        let picker = WeightedRoundRobin::new(hosts(&weights), &weights);
        for (count, weight) in counts(&picker, 4, 100_000).iter().zip(weights) {
            let expected = f64::from(weight) * 1000.0;
            assert!((*count as f64 - expected).abs() < expected * 0.01 + 2.0, "{count} {weight}");
        }
    }

    #[test]
    fn extreme_weights_end_and_never_starve_the_heaviest() {
        let weights = [u32::MAX, 1];
        let picker = WeightedRoundRobin::new(hosts(&weights), &weights);
        let counts = counts(&picker, 2, 70_000);
        assert!(counts[0] > 69_900 && counts[1] > 0, "{counts:?}");
    }
}
