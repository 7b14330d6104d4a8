//! What a host weighs at this moment: its configured weight, less while it is busy or has just become healthy.

use crate::config::cluster::load_balancing::SlowStart;
use crate::upstream::cluster::host::{Health, Host};

/// How weights are read.
#[derive(Debug)]
pub(super) struct Weight {
    /// `active_request_bias`: by which power of its active requests a host weighs less; 0 for not at all.
    bias: f64,
    slow_start: Option<SlowStart>,
}

impl Weight {
    /// The hosts' weights.
    pub(super) fn of_hosts(slow_start: Option<&SlowStart>) -> Self {
        Weight { bias: 0.0, slow_start: slow_start.cloned() }
    }

    /// Weights over active requests, `weight / (active + 1)^bias`.
    pub(super) fn of_busy_hosts(bias: f64, slow_start: Option<&SlowStart>) -> Self {
        Weight { bias, slow_start: slow_start.cloned() }
    }

    /// The host's weight now; above 0.
    pub(super) fn of(&self, host: &Host) -> f64 {
        let mut weight = f64::from(host.weight());
        if self.bias != 0.0 {
            let busy = host.active_requests() as f64 + 1.0;
            weight /= if self.bias == 1.0 { busy } else { busy.powf(self.bias) };
        }
        let start = self.slow_start.as_ref();
        weight * start.map_or(1.0, |start| factor(host, start)).max(f64::MIN_POSITIVE)
    }
}

/// Whether the host is in its slow start.
pub(super) fn starts(host: &Host, start: &SlowStart) -> bool {
    host.health() == Health::Healthy && host.healthy_for() < start.window
}

/// The share of its weight that a host has in slow start, as Envoy computes it.
pub(super) fn factor(host: &Host, start: &SlowStart) -> f64 {
    let elapsed = host.healthy_for();
    if elapsed >= start.window || host.health() != Health::Healthy {
        return 1.0;
    }
    let time = elapsed.as_millis().max(1) as f64 / start.window.as_millis().max(1) as f64;
    time.powf(1.0 / start.aggression).max(start.min_weight)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::host;
    use super::*;

    fn start(aggression: f64) -> SlowStart {
        SlowStart { window: Duration::from_secs(60), aggression, min_weight: 0.1 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_host_grows_to_its_weight() {
        let host = host(1, 10);
        let linear = Weight::of_hosts(Some(&start(1.0)));
        let eager = Weight::of_hosts(Some(&start(2.0)));
        assert_eq!(linear.of(&host), 1.0);
        tokio::time::advance(Duration::from_secs(15)).await;
        assert!((linear.of(&host) - 2.5).abs() < 0.01, "{}", linear.of(&host));
        assert!((eager.of(&host) - 5.0).abs() < 0.01, "{}", eager.of(&host));
        assert!(starts(&host, &start(1.0)));
        tokio::time::advance(Duration::from_secs(45)).await;
        assert_eq!(linear.of(&host), 10.0);
        assert!(!starts(&host, &start(1.0)));
    }

    #[test]
    fn busy_hosts_weigh_less() {
        let host = host(1, 8);
        (0..3).for_each(|_| host.stats.rq_active.inc());
        assert_eq!(Weight::of_busy_hosts(1.0, None).of(&host), 2.0);
        assert_eq!(Weight::of_busy_hosts(0.5, None).of(&host), 4.0);
        assert_eq!(Weight::of_busy_hosts(0.0, None).of(&host), 8.0);
    }
}
