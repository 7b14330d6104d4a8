//! Latencies, counted to two digits as by Envoy's histograms.

use std::time::Duration;

/// From 10 µs to 10^9 µs, in ninety bins for each power of ten; what is below stands in bins of a microsecond.
const DECADES: usize = 8;
const BINS: usize = 10 + 90 * DECADES;

/// Latencies by bins.
#[derive(Debug)]
pub struct Latencies {
    bins: Box<[u32; BINS]>,
    count: u64,
}

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        Latencies { bins: Box::new([0; BINS]), count: 0 }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// One more.
    pub fn add(&mut self, latency: Duration) {
        let bin = bin_of(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        self.bins[bin] += 1;
        self.count += 1;
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.bins.fill(0);
        self.count = 0;
    }

    /// What the share `quantile` of all latencies is at most, in whole microseconds, evenly spread within a bin.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let wanted = self.count as f64 * quantile;
        let mut before = 0.0;
        for (bin, count) in self.bins.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = f64::from(*count);
            if before + count >= wanted {
                let (lower, width) = bounds(bin);
                let value = lower + (wanted - before) / count * width;
                return Duration::from_micros(value as u64);
            }
            before += count;
        }
        Duration::ZERO
    }
}

fn bin_of(micros: u64) -> usize {
    if micros < 10 {
        return micros as usize;
    }
    let (mut digits, mut decade) = (micros, 0);
    while digits >= 100 {
        digits /= 10;
        decade += 1;
    }
    (10 + 90 * decade + (digits as usize - 10)).min(BINS - 1)
}

/// The least value of a bin, and how wide it is.
fn bounds(bin: usize) -> (f64, f64) {
    let Some(above) = bin.checked_sub(10) else { return (bin as f64, 1.0) };
    let width = 10_f64.powi((above / 90) as i32);
    ((10 + above % 90) as f64 * width, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_two_digits() {
        for (micros, lower, width) in [
            (0, 0.0, 1.0),
            (9, 9.0, 1.0),
            (10, 10.0, 1.0),
            (99, 99.0, 1.0),
            (123_999, 120_000.0, 1e4),
        ] {
            assert_eq!(bounds(bin_of(micros)), (lower, width), "{micros}");
        }
        assert_eq!(bin_of(u64::MAX), BINS - 1);
    }

    #[test]
    fn quantiles_lie_within_their_bin() {
        let mut latencies = Latencies::new();
        for millis in 1..=100 {
            latencies.add(Duration::from_millis(millis));
        }
        assert_eq!(latencies.quantile(0.5), Duration::from_millis(51));
        assert_eq!(latencies.quantile(0.05), Duration::from_micros(5_100));
        latencies.clear();
        assert_eq!((latencies.count(), latencies.quantile(0.5)), (0, Duration::ZERO));
    }
}
