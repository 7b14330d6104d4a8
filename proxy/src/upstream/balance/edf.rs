//! Earliest deadline first: shares by weights that change with every pick.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::weight::Weight;
use super::{HostList, PickContext, Picker};
use crate::upstream::cluster::host::Host;

/// Hosts by their deadlines, as in Envoy: the host whose deadline is first is picked, and its next deadline is later by
/// the inverse of its weight at that moment.
///
/// Each thread has a schedule of its own, as each worker has in Envoy, so that threads never wait for each other.
#[derive(Debug)]
pub(super) struct Edf {
    hosts: HostList,
    weight: Weight,
    schedules: [OnceLock<Mutex<Schedule>>; SCHEDULES],
}

/// Sidecars have few workers; with more of them, some share a schedule.
const SCHEDULES: usize = 8;

#[derive(Debug)]
struct Schedule {
    deadlines: BinaryHeap<Deadline>,
    /// How many deadlines were set so far.
    set: u64,
}

#[derive(Debug, PartialEq)]
struct Deadline {
    at: f64,
    /// Of equal deadlines, the one that was set first is first.
    set: u64,
    host: usize,
}

impl Eq for Deadline {}

impl Ord for Deadline {
    /// The heap's top is its greatest element: the first deadline.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.total_cmp(&self.at).then(other.set.cmp(&self.set))
    }
}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Edf {
    pub(super) fn new(hosts: HostList, weight: Weight) -> Self {
        Edf { hosts, weight, schedules: Default::default() }
    }

    /// A schedule as if it had run for a random time.
    fn start(&self) -> Schedule {
        let deadlines = self.hosts.iter().enumerate().map(|(host, at)| {
            let period = 1.0 / self.weight.of(at);
            Deadline { at: fastrand::f64() * period, set: 0, host }
        });
        Schedule { deadlines: deadlines.collect(), set: 0 }
    }
}

impl Picker for Edf {
    fn pick(&self, _context: &PickContext<'_>) -> Option<&Arc<Host>> {
        let schedule =
            self.schedules[thread_number() % SCHEDULES].get_or_init(|| Mutex::new(self.start()));
        let mut schedule = schedule.lock();
        schedule.set += 1;
        let set = schedule.set;
        let mut first = schedule.deadlines.peek_mut()?;
        let host = &self.hosts[first.host];
        *first = Deadline { at: first.at + 1.0 / self.weight.of(host), set, host: first.host };
        Some(host)
    }
}

/// A number that counts up with the threads that ask.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Relaxed);
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{counts, hosts};
    use super::*;

    #[test]
    fn shares_follow_weights_exactly() {
        let picker = Edf::new(hosts(&[1, 2, 5]), Weight::of_hosts(None));
        let counts = counts(&picker, 3, 8000);
        for (count, expected) in counts.iter().zip([1000, 2000, 5000]) {
            assert!(count.abs_diff(expected) <= 2, "{counts:?}");
        }
    }

    #[test]
    fn shares_follow_weight_over_active_requests() {
        let list = hosts(&[1, 4]);
        for _ in 0..3 {
            list[1].stats.rq_active.inc();
        }
        let biased = Edf::new(list.clone(), Weight::of_busy_hosts(1.0, None));
        let counted = counts(&biased, 2, 1000);
        assert!(counted[0].abs_diff(500) <= 2, "{counted:?}");
        let unbiased = Edf::new(list, Weight::of_busy_hosts(0.0, None));
        let counted = counts(&unbiased, 2, 1000);
        assert!(counted[0].abs_diff(200) <= 2, "{counted:?}");
    }

    #[test]
    fn equal_weights_take_turns() {
        let picker = Edf::new(hosts(&[3, 3, 3]), Weight::of_hosts(None));
        assert_eq!(counts(&picker, 3, 9), [3, 3, 3]);
    }
}
