//! `envoy.load_balancing_policies.peak_ewma` (contrib in Envoy, Linkerd's default): the less costly of two random hosts.

use std::sync::Arc;

use super::{HostList, PickContext, Picker, random_index};
use crate::config::cluster::load_balancing::PeakEwma as Config;
use crate::upstream::cluster::host::Host;

/// Cost is smoothed latency times requests under way, the one to come included.
#[derive(Debug)]
pub(super) struct PeakEwma {
    hosts: HostList,
    config: Config,
}

impl PeakEwma {
    pub(super) fn new(hosts: HostList, config: &Config) -> Self {
        PeakEwma { hosts, config: config.clone() }
    }

    fn cost(&self, host: &Host) -> f64 {
        let measured = host.measured_if_any().and_then(|measured| measured.latency(&self.config));
        let latency = measured.unwrap_or(self.config.default_rtt.as_nanos() as f64);
        latency * (host.active_requests() as f64 + 1.0)
    }
}

impl Picker for PeakEwma {
    fn pick(&self, _context: &PickContext<'_>) -> Option<&Arc<Host>> {
        let len = self.hosts.len();
        if len < 2 {
            return self.hosts.first();
        }
        let first = random_index(len);
        // Another one than the first.
        let second = (first + 1 + random_index(len - 1)) % len;
        let (first, second) = (&self.hosts[first], &self.hosts[second]);
        Some(if self.cost(second) < self.cost(first) { second } else { first })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{counts, hosts};
    use super::*;

    #[test]
    fn slow_and_busy_hosts_are_avoided() {
        fastrand::seed(1);
        let config =
            Config { decay: Duration::from_secs(10), default_rtt: Duration::from_millis(10) };
        let list = hosts(&[1, 1, 1]);
        for (host, millis) in list.iter().zip([1, 1, 50]) {
            host.measured().observe(Duration::from_millis(millis), &config);
        }
        list[1].stats.rq_active.inc();
        let counts = counts(&PeakEwma::new(list, &config), 3, 9000);
        // The first wins both of its pairs, the second one of its two.
        assert!(counts[0].abs_diff(6000) < 200 && counts[1].abs_diff(3000) < 200, "{counts:?}");
        assert_eq!(counts[2], 0);
    }
}
