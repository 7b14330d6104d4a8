//! `LEAST_REQUEST` on equal weights: prefer hosts with few active requests.

use std::sync::Arc;

use super::{HostList, PickContext, Picker, random_index};
use crate::upstream::cluster::host::Host;

/// The least busy of a few hosts chosen at random (power of two choices).
#[derive(Debug)]
pub(super) struct LeastRequest {
    hosts: HostList,
    choice_count: u32,
}

impl LeastRequest {
    pub(super) fn new(hosts: HostList, choice_count: u32) -> Self {
        LeastRequest { hosts, choice_count }
    }
}

impl Picker for LeastRequest {
    fn pick(&self, _context: &PickContext<'_>) -> Option<&Arc<Host>> {
        let len = self.hosts.len();
        if len < 2 {
            return self.hosts.first();
        }
        // Choices may be the same host, and the first of equals wins, as in Envoy.
        let choices = (0..self.choice_count.max(1)).map(|_| &self.hosts[random_index(len)]);
        choices.min_by_key(|host| host.active_requests())
    }
}

/// `FULL_SCAN`: the least busy of all hosts, and of equals a random one.
#[derive(Debug)]
pub(super) struct FullScan {
    hosts: HostList,
}

impl FullScan {
    pub(super) fn new(hosts: HostList) -> Self {
        FullScan { hosts }
    }
}

impl Picker for FullScan {
    fn pick(&self, _context: &PickContext<'_>) -> Option<&Arc<Host>> {
        let mut least = self.hosts.first()?;
        let mut active = least.active_requests();
        let mut ties = 1;
        for host in &self.hosts[1..] {
            match host.active_requests().cmp(&active) {
                std::cmp::Ordering::Greater => {}
                std::cmp::Ordering::Less => {
                    (least, active, ties) = (host, host.active_requests(), 1);
                }
                std::cmp::Ordering::Equal => {
                    ties += 1;
                    if random_index(ties) == 0 {
                        least = host;
                    }
                }
            }
        }
        Some(least)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{counts, hosts};
    use super::*;

    #[test]
    fn the_less_busy_of_two_is_picked() {
        fastrand::seed(1);
        let list = hosts(&[1, 1]);
        for _ in 0..5 {
            list[0].stats.rq_active.inc();
        }
        // The busy one wins only when both choices fall on it.
        let counts = counts(&LeastRequest::new(list, 2), 2, 8000);
        assert!((1800..2200).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn a_full_scan_finds_the_least_busy_and_spreads_ties() {
        fastrand::seed(1);
        let list = hosts(&[1, 1, 1, 1]);
        list[1].stats.rq_active.inc();
        let counts = counts(&FullScan::new(list), 4, 9000);
        assert_eq!(counts[1], 0);
        for place in [0, 2, 3] {
            assert!((2800..3200).contains(&counts[place]), "{counts:?}");
        }
    }
}
