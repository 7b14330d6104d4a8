//! `envoy.load_balancing_policies.client_side_weighted_round_robin`: round robin by the weights that hosts' load reports
//! come to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;

use super::strides::Strides;
use super::{HostList, PickContext, Picker, weight};
use crate::config::cluster::load_balancing::ClientSideWeighted as Config;
use crate::upstream::cluster::host::{Host, since_start};

/// Hosts in turn. The weights are read anew from time to time, by the pick that finds them old.
#[derive(Debug)]
pub(super) struct ClientSideWeighted {
    hosts: HostList,
    config: Config,
    strides: ArcSwap<Strides>,
    /// When to read weights, in milliseconds since the start of the process.
    due: AtomicU64,
}

impl ClientSideWeighted {
    pub(super) fn new(hosts: HostList, config: &Config) -> Self {
        let strides = ArcSwap::from_pointee(strides(&hosts, config));
        ClientSideWeighted { hosts, config: config.clone(), strides, due: AtomicU64::new(0) }
    }

    fn refresh_if_due(&self) {
        let now = since_start().as_millis() as u64;
        let due = self.due.load(Relaxed);
        let next = now + self.config.update.as_millis() as u64;
        if now >= due && self.due.compare_exchange(due, next, Relaxed, Relaxed).is_ok() {
            self.strides.store(Arc::new(strides(&self.hosts, &self.config)));
        }
    }
}

/// Hosts without a weight of their own count as the median of those that have one.
fn strides(hosts: &[Arc<Host>], config: &Config) -> Strides {
    let reported: Vec<Option<f64>> =
        hosts.iter().map(|host| host.measured_if_any()?.weight(config)).collect();
    let mut known: Vec<f64> = reported.iter().flatten().copied().collect();
    known.sort_by(f64::total_cmp);
    let median = match known.len() {
        0 => 1.0,
        len => (known[(len - 1) / 2] + known[len / 2]) / 2.0,
    };
    let factor =
        |host: &Host| config.slow_start.as_ref().map_or(1.0, |start| weight::factor(host, start));
    let weights: Vec<f64> = hosts
        .iter()
        .zip(&reported)
        .map(|(host, weight)| weight.unwrap_or(median) * factor(host))
        .collect();
    Strides::new(&weights)
}

impl Picker for ClientSideWeighted {
    fn pick(&self, _context: &PickContext<'_>) -> Option<&Arc<Host>> {
        self.refresh_if_due();
        self.strides.load().next().map(|index| &self.hosts[index])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::report::LoadReport;
    use super::super::tests::{counts, hosts};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shares_follow_reports_and_the_median_stands_in() {
        let second = Duration::from_secs(1);
        let config = Config {
            blackout: Duration::ZERO,
            expiration: 100 * second,
            update: second,
            error_penalty: 1.0,
            metrics: Vec::new(),
            slow_start: None,
        };
        let list = hosts(&[1, 1, 1]);
        let picker = ClientSideWeighted::new(list.clone(), &config);
        assert_eq!(counts(&picker, 3, 9), [3, 3, 3]);
        tokio::time::advance(second).await;
        for (host, qps) in list.iter().zip([1.0, 3.0]) {
            let report = LoadReport { cpu_utilization: 0.1, qps, ..LoadReport::default() };
            host.measured().report(&report, &config);
        }
        let counts = counts(&picker, 3, 6000);
        for (count, expected) in counts.iter().zip([1000, 3000, 2000]) {
            assert!(count.abs_diff(expected) < 10, "{counts:?}");
        }
    }
}
