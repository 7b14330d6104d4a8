//! How long to wait before an attempt is repeated.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};

use crate::config::route::{BackOff, RateLimitedBackOff, ResetFormat};

/// Waits that grow: at random below a bound that doubles with each, up to the longest interval ("full jitter").
#[derive(Clone, Copy, Debug)]
pub struct Growing {
    bound: u64,
    max: u64,
}

impl Growing {
    /// The first wait is below `base`.
    pub fn new(back_off: BackOff) -> Self {
        let millis = |duration: Duration| duration.as_millis().try_into().unwrap_or(u64::MAX);
        Growing { bound: millis(back_off.base).max(1), max: millis(back_off.max) }
    }

    /// The next wait, for a random number.
    pub fn next(&mut self, random: u64) -> Duration {
        let wait = (random % self.bound).min(self.max);
        self.bound = self.bound.saturating_mul(2).min(self.max).max(1);
        Duration::from_millis(wait)
    }
}

/// The wait that a response asks for, and up to half as much at random; none if it asks for none that is believed.
pub fn asked(
    policy: &RateLimitedBackOff,
    headers: &HeaderMap,
    now: SystemTime,
    random: u64,
) -> Option<Duration> {
    let wait = policy.headers.iter().find_map(|(name, format)| {
        let number: u64 = headers.get(name).map(HeaderValue::to_str)?.ok()?.trim().parse().ok()?;
        let seconds = match format {
            ResetFormat::Seconds => number,
            ResetFormat::UnixTimestamp => {
                let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                number.checked_sub(now)?
            }
        };
        let wait = Duration::from_secs(seconds);
        (!wait.is_zero() && wait <= policy.max).then_some(wait)
    })?;
    let half = (wait.as_millis() as u64 / 2).max(1);
    Some(wait + Duration::from_millis(random % half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    #[test]
    fn the_bound_doubles_up_to_ten_times_the_base() {
        let mut waits = Growing::new(BackOff::new(Duration::from_millis(25)));
        let bounds: Vec<u64> = (0..6)
            .map(|_| {
                let bound = waits.bound;
                assert_eq!(waits.next(bound - 1), Duration::from_millis(bound - 1));
                bound
            })
            .collect();
        assert_eq!(bounds, [25, 50, 100, 200, 250, 250]);
        assert_eq!(waits.next(500), Duration::ZERO);
    }

    #[test]
    fn a_response_may_ask_for_a_wait_within_limits() {
        let name = HeaderName::from_static("retry-after");
        let policy = |format| RateLimitedBackOff {
            headers: vec![(name.clone(), format)],
            max: Duration::from_secs(300),
        };
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        for (format, value, expected) in [
            (ResetFormat::Seconds, "4", Some(4000..6000)),
            (ResetFormat::Seconds, "301", None),
            (ResetFormat::Seconds, "0", None),
            (ResetFormat::Seconds, "soon", None),
            (ResetFormat::UnixTimestamp, "1010", Some(10_000..15_000)),
            (ResetFormat::UnixTimestamp, "999", None),
        ] {
            let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(value))]);
            for random in [0, 1999, u64::MAX] {
                let wait = asked(&policy(format), &headers, now, random);
                match &expected {
                    None => assert_eq!(wait, None, "{value}"),
                    Some(range) => {
                        let wait = wait.expect(value).as_millis();
                        assert!(range.contains(&wait), "{value}: {wait}");
                    }
                }
            }
        }
    }
}
