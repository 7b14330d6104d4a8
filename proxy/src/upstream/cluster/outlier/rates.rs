//! Which hosts are outliers by the rates of an interval.

use crate::config::cluster::{FailurePercentage, SuccessRate};

/// How a host did in an interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostRate {
    /// Exchanges.
    pub all: u64,
    /// The good ones.
    pub good: u64,
}

impl HostRate {
    fn success(self) -> f64 {
        100.0 * self.good as f64 / self.all as f64
    }
}

/// The places of hosts whose success rate is below the mean by more than the factor's part of the standard deviation.
pub(super) fn below_mean(rates: &[HostRate], config: SuccessRate) -> Vec<usize> {
    let valid = with_volume(rates, config.request_volume);
    if valid.len() < config.minimum_hosts as usize || valid.is_empty() {
        return Vec::new();
    }
    let count = valid.len() as f64;
    let mean = valid.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = valid.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let least = mean - variance.sqrt() * (f64::from(config.stdev_factor) / 1000.0);
    valid.into_iter().filter(|(_, rate)| *rate < least).map(|(place, _)| place).collect()
}

/// The places of hosts that failed too often.
pub(super) fn failing(rates: &[HostRate], config: FailurePercentage) -> Vec<usize> {
    let valid = with_volume(rates, config.request_volume);
    if valid.len() < config.minimum_hosts as usize {
        return Vec::new();
    }
    let threshold = f64::from(config.threshold);
    valid
        .into_iter()
        .filter(|(_, rate)| 100.0 - rate >= threshold)
        .map(|(place, _)| place)
        .collect()
}

/// The success rates in percent of hosts that had enough to do, with their places.
fn with_volume(rates: &[HostRate], volume: u32) -> Vec<(usize, f64)> {
    let enough = |rate: &HostRate| rate.all > 0 && rate.all >= u64::from(volume);
    let valid = rates.iter().enumerate().filter(|(_, rate)| enough(rate));
    valid.map(|(place, rate)| (place, rate.success())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::cluster::outlier::tests::config;

    fn rates(good: &[u64]) -> Vec<HostRate> {
        good.iter().map(|good| HostRate { all: 100, good: *good }).collect()
    }

    #[test]
    fn a_host_far_below_the_mean_is_an_outlier() {
        let defaults = config("{}").success_rate;
        // Mean 83, standard deviation 34: the limit is 18.4.
        assert_eq!(below_mean(&rates(&[100, 100, 100, 100, 15]), defaults), [4]);
        assert_eq!(below_mean(&rates(&[100, 100, 100, 100, 100]), defaults), [0usize; 0]);
        // Two of five pull the mean down, and are no outliers any more.
        assert_eq!(below_mean(&rates(&[100, 100, 100, 15, 15]), defaults), [0usize; 0]);
    }

    #[test]
    fn too_few_hosts_or_requests_say_nothing() {
        let defaults = config("{}").success_rate;
        assert_eq!(below_mean(&rates(&[100, 100, 100, 0]), defaults), [0usize; 0]);
        let mut few = rates(&[100, 100, 100, 100, 15]);
        few[4].all = 99;
        assert_eq!(below_mean(&few, defaults), [0usize; 0]);
    }

    #[test]
    fn the_share_of_failures_counts_from_its_threshold_on() {
        let defaults = config("{}").failure_percentage;
        assert_eq!(failing(&rates(&[100, 100, 100, 16, 15]), defaults), [4]);
        assert_eq!(failing(&rates(&[100, 100, 0, 0]), defaults), [0usize; 0]);
    }
}
