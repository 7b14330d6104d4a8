//! `LEAST_REQUEST`: prefer hosts with few active requests.

use std::sync::Arc;

use super::{HostList, PickContext, Picker, random_index};
use crate::upstream::cluster::host::Host;

/// Equal weights: the least busy of a few hosts chosen at random (power of two choices).
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

/// Unequal weights: a host is as likely as its weight over its active requests, `weight / (active + 1)^bias`.
///
/// Envoy orders hosts by deadlines (EDF) that move by the inverse of that value. Drawing by it gives each host the
/// same share without a lock; only the order is random instead of even.
#[derive(Debug)]
pub(super) struct WeightedLeastRequest {
    hosts: HostList,
    weights: Box<[u32]>,
    bias: f64,
}

impl WeightedLeastRequest {
    /// `weights` has one entry a host.
    pub(super) fn new(hosts: HostList, weights: Box<[u32]>, bias: f64) -> Self {
        WeightedLeastRequest { hosts, weights, bias }
    }

    fn score(&self, host: &Host, weight: u32) -> f64 {
        let busy = host.active_requests() as f64 + 1.0;
        let divisor = if self.bias == 1.0 { busy } else { busy.powf(self.bias) };
        f64::from(weight) / divisor
    }
}

impl Picker for WeightedLeastRequest {
    fn pick(&self, _context: &PickContext<'_>) -> Option<&Arc<Host>> {
        let mut picked = None;
        let mut total = 0.0;
        // One pass, since active requests may change between two: each host replaces the earlier ones by its share.
        for (host, weight) in self.hosts.iter().zip(&self.weights) {
            let score = self.score(host, *weight);
            total += score;
            if picked.is_none() || fastrand::f64() * total < score {
                picked = Some(host);
            }
        }
        picked
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
    fn shares_follow_weight_over_active_requests() {
        fastrand::seed(1);
        let list = hosts(&[1, 4]);
        for _ in 0..3 {
            list[1].stats.rq_active.inc();
        }
        let biased = WeightedLeastRequest::new(list.clone(), Box::new([1, 4]), 1.0);
        let counted = counts(&biased, 2, 10_000);
        assert!((4800..5200).contains(&counted[0]), "{counted:?}");
        let unbiased = WeightedLeastRequest::new(list, Box::new([1, 4]), 0.0);
        let counted = counts(&unbiased, 2, 10_000);
        assert!((1800..2200).contains(&counted[0]), "{counted:?}");
    }
}
