//! A bound on retries in proportion to requests, for clusters whose configuration sets none.
//!
//! Envoy's limit of three retries at a time, and a budget that is counted at one moment, let every hop of a chain multiply
//! a light load by its number of retries. This counts over time: each request earns a part of a retry.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// What a retry costs. A request earns [`EARNED`].
const COST: i64 = 100;
/// A retry for every five requests.
const EARNED: i64 = 20;
/// How many retries may be saved up: as many may follow each other before requests have earned them.
const SAVED: i64 = 50 * COST;
/// What a second earns, so that a cluster with few requests is not left without retries: five retries.
const EARNED_PER_SECOND: i64 = 5 * COST;

/// Retries that may be made. Shared by all workers, without a lock.
#[derive(Debug)]
pub struct RetryTokens {
    saved: AtomicI64,
    /// Up to when time has been paid for, in milliseconds of [`clock`].
    paid_until: AtomicU64,
}

/// Milliseconds from the first call on.
fn clock(now: Instant) -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    now.saturating_duration_since(*START.get_or_init(|| now)).as_millis() as u64
}

impl RetryTokens {
    /// Everything saved up.
    pub fn new() -> Self {
        RetryTokens { saved: AtomicI64::new(SAVED), paid_until: AtomicU64::new(0) }
    }

    /// A request that may be retried has come.
    pub fn earn(&self) {
        self.add(EARNED);
    }

    /// Takes one retry; false if there is none.
    pub fn spend(&self, now: Instant) -> bool {
        let now = clock(now);
        let before = self.paid_until.fetch_max(now, Relaxed);
        if now > before {
            let millis = i64::try_from(now - before).unwrap_or(i64::MAX);
            self.add(millis.saturating_mul(EARNED_PER_SECOND) / 1000);
        }
        let spend = |saved: i64| (saved >= COST).then_some(saved - COST);
        self.saved.fetch_update(Relaxed, Relaxed, spend).is_ok()
    }

    fn add(&self, earned: i64) {
        let add = |saved: i64| (saved < SAVED).then(|| saved.saturating_add(earned).min(SAVED));
        // An error means that nothing more can be saved.
        let _ = self.saved.fetch_update(Relaxed, Relaxed, add);
    }
}

impl Default for RetryTokens {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Spends until nothing is left; tells how often.
    fn spend_all(tokens: &RetryTokens, now: Instant) -> usize {
        (0..).take_while(|_| tokens.spend(now)).count()
    }

    #[test]
    fn five_requests_earn_a_retry() {
        let (tokens, now) = (RetryTokens::new(), Instant::now());
        spend_all(&tokens, now);
        (0..100).for_each(|_| tokens.earn());
        assert_eq!(spend_all(&tokens, now), 20);
    }

    #[test]
    fn time_earns_a_few_and_savings_are_limited() {
        let (tokens, now) = (RetryTokens::new(), Instant::now());
        spend_all(&tokens, now);
        assert_eq!(spend_all(&tokens, now + Duration::from_secs(2)), 10);
        assert_eq!(spend_all(&tokens, now + Duration::from_secs(3600)), 50);
        (0..100_000).for_each(|_| tokens.earn());
        assert_eq!(spend_all(&tokens, now), 50);
    }
}
