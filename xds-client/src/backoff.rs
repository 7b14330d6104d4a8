//! When to try the management server again: exponential backoff with full jitter.

use std::time::Duration;

/// Limits of the delay between two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// Upper limit of the first delay; default 500 ms, as in Envoy
    /// (`GrpcService.retry_policy.retry_back_off.base_interval`).
    pub base: Duration,
    /// Upper limit of every delay; default 30 s (`max_interval`).
    pub max: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { base: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

/// The delays of one client: random between zero and a limit that doubles with every failure.
pub(crate) struct Backoff {
    config: BackoffConfig,
    limit: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    pub fn new(config: BackoffConfig, random: fastrand::Rng) -> Self {
        Self { config, limit: config.base.min(config.max), random }
    }

    /// The next delay.
    pub fn next(&mut self) -> Duration {
        let delay = self.limit.mul_f64(self.random.f64());
        self.limit = (self.limit * 2).min(self.config.max);
        delay
    }

    /// Starts over, as the first message of a stream makes it.
    pub fn reset(&mut self) {
        self.limit = self.config.base.min(self.config.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn highest_of_each_step(steps: usize) -> Vec<Duration> {
        let mut highest = vec![Duration::ZERO; steps];
        for seed in 0..2000 {
            let mut backoff =
                Backoff::new(BackoffConfig::default(), fastrand::Rng::with_seed(seed));
            for high in &mut highest {
                *high = (*high).max(backoff.next());
            }
        }
        highest
    }

    #[test]
    fn the_limit_doubles_up_to_the_maximum() {
        let limits = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0];
        for (high, limit) in highest_of_each_step(limits.len()).into_iter().zip(limits) {
            let high = high.as_secs_f64();
            assert!(high < limit && high > limit * 0.95, "{high} should come close to {limit}");
        }
    }

    #[test]
    fn reset_starts_over() {
        let mut backoff = Backoff::new(BackoffConfig::default(), fastrand::Rng::with_seed(7));
        for _ in 0..10 {
            backoff.next();
        }
        backoff.reset();
        assert!(backoff.next() < Duration::from_millis(500));
    }
}
