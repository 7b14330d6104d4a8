//! `ApiConfigSource.rate_limit_settings`: a token bucket on discovery requests.

use std::time::Duration;

use tokio::time::Instant;

/// Size and refill of the bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Requests that may leave at once; Envoy's default is 100.
    pub max_tokens: u32,
    /// Requests a second in the long run; Envoy's default is 10.
    pub fill_rate: f64,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { max_tokens: 100, fill_rate: 10.0 }
    }
}

/// The bucket of one client.
pub(crate) struct Bucket {
    limit: RateLimit,
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    pub fn new(limit: RateLimit) -> Self {
        Self { limit, tokens: f64::from(limit.max_tokens), filled_at: Instant::now() }
    }

    /// Takes a token, or says when there will be one.
    pub fn take(&mut self) -> Result<(), Instant> {
        let now = Instant::now();
        let gained = (now - self.filled_at).as_secs_f64() * self.limit.fill_rate;
        self.tokens = (self.tokens + gained).min(f64::from(self.limit.max_tokens));
        self.filled_at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        // A rate of nearly nothing must not overflow the clock.
        let wait = ((1.0 - self.tokens) / self.limit.fill_rate).clamp(0.001, 3600.0);
        Err(now + Duration::from_secs_f64(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_empty_bucket_says_when_it_has_a_token_again() {
        let mut bucket = Bucket::new(RateLimit { max_tokens: 2, fill_rate: 10.0 });
        assert!(bucket.take().is_ok() && bucket.take().is_ok());
        let wait = bucket.take().expect_err("empty") - Instant::now();
        assert_eq!(wait.as_millis(), 100);
        tokio::time::advance(wait).await;
        assert!(bucket.take().is_ok());
        assert!(bucket.take().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_of_zero_neither_panics_nor_fills() {
        let mut bucket = Bucket::new(RateLimit { max_tokens: 0, fill_rate: 0.0 });
        assert!(bucket.take().is_err());
    }
}
