//! Histograms of durations and sizes: fixed buckets with a relative error of at most one eighth.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Sub-buckets per power of two.
const SUB: usize = 8;
/// Values from 0 up to 2^40.
const BUCKETS: usize = 40 * SUB;

/// A histogram of whole numbers (milliseconds or bytes). Its buckets are made at the first value.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: OnceLock<Box<[AtomicU64; BUCKETS]>>,
    sum: AtomicU64,
}

/// The bucket of a value: exact below [`SUB`], then eight to a power of two.
fn bucket_of(value: u64) -> usize {
    if value < SUB as u64 {
        return value as usize;
    }
    let exponent = 63 - value.leading_zeros() as usize;
    let mantissa = (value >> (exponent - 3)) as usize & (SUB - 1);
    ((exponent - 2) * SUB + mantissa).min(BUCKETS - 1)
}

/// The smallest value of a bucket.
fn lower_bound(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let exponent = bucket / SUB + 2;
    ((SUB + bucket % SUB) as u64) << (exponent - 3)
}

impl Histogram {
    /// Adds one value.
    pub fn record(&self, value: u64) {
        let buckets = self.buckets.get_or_init(|| Box::new([const { AtomicU64::new(0) }; BUCKETS]));
        buckets[bucket_of(value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// How many values were added.
    pub fn count(&self) -> u64 {
        self.buckets.get().map_or(0, |buckets| buckets.iter().map(|b| b.load(Relaxed)).sum())
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    /// For each bound (ascending), how many values are at most that, to the bucket's precision.
    pub fn counts_at_most(&self, bounds: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len()];
        let Some(buckets) = self.buckets.get() else { return counts };
        let mut next = 0;
        let mut seen = 0;
        for (index, bucket) in buckets.iter().enumerate() {
            while next < bounds.len() && bounds[next] < lower_bound(index) as f64 {
                counts[next] = seen;
                next += 1;
            }
            seen += bucket.load(Relaxed);
        }
        counts[next..].fill(seen);
        counts
    }

    /// The value below which the share `quantile` (0 to 1) of all values lies; none without values.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let buckets = self.buckets.get()?;
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = ((quantile * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (index, bucket) in buckets.iter().enumerate() {
            seen += bucket.load(Relaxed);
            if seen >= rank {
                return Some(lower_bound(index) as f64);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_monotonic_and_tight() {
        let mut last = 0;
        for value in (0..100_000u64).chain([1 << 20, 1 << 30, (1 << 39) + 5]) {
            let bucket = bucket_of(value);
            assert!(bucket >= last && lower_bound(bucket) <= value, "{value}");
            assert!((value - lower_bound(bucket)) * 8 <= value, "{value}");
            last = bucket;
        }
    }

    #[test]
    fn tells_quantiles_and_sums() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for value in 1..=100 {
            histogram.record(value);
        }
        assert_eq!((histogram.count(), histogram.sum()), (100, 5050));
        assert_eq!(histogram.quantile(0.5), Some(48.0));
        assert_eq!(histogram.counts_at_most(&[0.5, 10.0, 1e9]), [0, 10, 100]);
    }
}
