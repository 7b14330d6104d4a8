//! A schedule that gives each of several a share by its weight, in turn.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Turns in which each index is passed over so often that it comes in proportion to its weight.
///
/// Envoy keeps a heap of deadlines (EDF) per worker. This is the static stride schedule of gRFC A58 instead: all
/// workers share one counter and nothing else, and each share is the same as with EDF to one part in 65,535. Only the
/// order within a round differs.
#[derive(Debug)]
pub(super) struct Strides {
    /// Weights scaled so that the largest is [`SCALE`].
    strides: Box<[u16]>,
    next: AtomicUsize,
}

const SCALE: usize = u16::MAX as usize;

impl Strides {
    /// A schedule by weights above 0, from a random start.
    pub(super) fn new(weights: &[f64]) -> Self {
        let max = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let stride = |weight: &f64| (weight / max * SCALE as f64).round().max(1.0);
        let strides = weights.iter().map(|weight| stride(weight) as u16).collect();
        let start = super::random_index(weights.len().max(1) * 256);
        Strides { strides, next: AtomicUsize::new(start) }
    }

    /// The next index; none if there are no weights.
    pub(super) fn next(&self) -> Option<usize> {
        let len = self.strides.len();
        if len == 0 {
            return None;
        }
        loop {
            let turn = self.next.fetch_add(1, Relaxed);
            let (round, index) = (turn / len, turn % len);
            let stride = usize::from(self.strides[index]);
            // Each starts its strides elsewhere, or all light ones would come in the same round.
            let offset = index.wrapping_mul(SCALE / 2);
            let position = stride.wrapping_mul(round).wrapping_add(offset) % SCALE;
            // The heaviest is never passed over, so that a pick looks at each once at most.
            if position >= SCALE - stride {
                return Some(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(weights: &[f64], n: usize) -> Vec<usize> {
        let strides = Strides::new(weights);
        let mut counts = vec![0; weights.len()];
        (0..n).for_each(|_| counts[strides.next().unwrap()] += 1);
        counts
    }

    #[test]
    fn shares_follow_weights() {
        fastrand::seed(1);
        let weights = [1.0, 2.0, 7.0, 90.0];
        for (count, weight) in counts(&weights, 100_000).iter().zip(weights) {
            let expected = weight * 1000.0;
            assert!((*count as f64 - expected).abs() < expected * 0.01 + 2.0, "{count} {weight}");
        }
    }

    #[test]
    fn extreme_weights_end_and_never_starve_the_heaviest() {
        let counts = counts(&[f64::from(u32::MAX), 1.0], 70_000);
        assert!(counts[0] > 69_900 && counts[1] > 0, "{counts:?}");
        assert_eq!(Strides::new(&[]).next(), None);
    }
}
