//! A token bucket that all workers draw from without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use proto::envoy::r#type::v3::TokenBucket as Message;

use crate::config::{At, ConfigError, value};

/// The API's shortest `fill_interval`.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

/// Tokens come evenly, not in heaps; how many there are follows from when the bucket would have been empty.
#[derive(Debug)]
pub struct TokenBucket {
    start: Instant,
    /// Nanoseconds that a token takes to come.
    token: u64,
    /// Nanoseconds that the bucket takes to fill.
    full: u64,
    /// When the bucket would have been empty, in nanoseconds after `start`, which is when it has long been full.
    empty_at: AtomicU64,
}

impl TokenBucket {
    /// `envoy.type.v3.TokenBucket`: full from the start.
    ///
    /// # Errors
    /// An interval below 50 ms, or one in which no token comes.
    pub fn from_proto(message: &Message, at: &At<'_>) -> Result<TokenBucket, ConfigError> {
        let at_interval = at.field("fill_interval");
        let interval = value::duration(message.fill_interval, &at_interval)?;
        let interval = *value::required(&interval, &at_interval)?;
        if interval < SHORTEST_INTERVAL {
            let rule = format_args!("{interval:?} is below {SHORTEST_INTERVAL:?}");
            return Err(at_interval.error(rule));
        }
        let fill = message.tokens_per_fill.map_or(1, |tokens| tokens.value);
        if fill == 0 {
            return Err(at.field("tokens_per_fill").error("must be above 0"));
        }
        Ok(TokenBucket::new(message.max_tokens, interval / fill))
    }

    fn new(most: u32, token: Duration) -> TokenBucket {
        let token = u64::try_from(token.as_nanos()).unwrap_or(u64::MAX).max(1);
        let full = token.saturating_mul(most.into());
        let start = Instant::now();
        TokenBucket { start, token, full, empty_at: AtomicU64::new(0) }
    }

    /// Takes a token; false if there is none.
    pub fn take(&self) -> bool {
        self.take_at(self.start.elapsed())
    }

    fn take_at(&self, elapsed: Duration) -> bool {
        // The bucket has been full for as long as it takes to fill when it starts.
        let now = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).saturating_add(self.full);
        let taken = self.empty_at.fetch_update(Relaxed, Relaxed, |empty_at| {
            let empty_at = empty_at.max(now - self.full).saturating_add(self.token);
            (empty_at <= now).then_some(empty_at)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_evenly_and_no_more_than_the_bucket_holds() {
        let ms = Duration::from_millis;
        let bucket = TokenBucket::new(2, ms(10));
        assert_eq!([0, 0, 0].map(|at| bucket.take_at(ms(at))), [true, true, false]);
        assert_eq!([9, 10, 10].map(|at| bucket.take_at(ms(at))), [false, true, false]);
        assert_eq!([500; 3].map(|at| bucket.take_at(ms(at))), [true, true, false]);
    }
}
