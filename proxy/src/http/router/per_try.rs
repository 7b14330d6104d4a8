//! The timers of one attempt.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::config::route::RetryPolicy;
use crate::http::stream::Stream;
use crate::io::deadline::Deadline;

/// How long an attempt may take, from when host and downstream have sent and got the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerTry {
    /// `per_try_timeout`, or `x-envoy-upstream-rq-per-try-timeout-ms`.
    pub timeout: Option<Duration>,
    /// `per_try_idle_timeout`
    pub idle: Option<Duration>,
}

/// Which timer of an attempt expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// `per_try_timeout`
    Timeout,
    /// `per_try_idle_timeout`
    Idle,
}

impl PerTry {
    /// What the policy says, and the request over it.
    pub fn new(policy: Option<&RetryPolicy>, asked: Option<u64>) -> PerTry {
        let timeout = match asked {
            Some(millis) => (millis > 0).then(|| Duration::from_millis(millis)),
            None => policy.and_then(|policy| policy.per_try_timeout),
        };
        PerTry { timeout, idle: policy.and_then(|policy| policy.per_try_idle_timeout) }
    }

    /// A timeout that is not shorter than that of the whole request has no effect.
    pub fn limit(&mut self, whole: Option<Duration>) {
        self.timeout = self.timeout.filter(|timeout| whole.is_none_or(|whole| *timeout < whole));
    }

    /// Whether there is no timer.
    pub fn is_off(&self) -> bool {
        *self == PerTry::default()
    }

    /// When the first timer expires of an attempt that was sent at `sent`; none while the request still comes in.
    fn next(&self, sent: Instant, stream: &Stream) -> Option<(Instant, Expired)> {
        let since = sent.max(stream.shared.request_completed_at()?);
        let timeout = self.timeout.map(|timeout| (since + timeout, Expired::Timeout));
        let idle = self.idle.map(|idle| (since + idle, Expired::Idle));
        timeout.into_iter().chain(idle).min_by_key(|(at, _)| *at)
    }

    /// Ready once a timer has expired. The task is woken when the request is complete, by whoever waits for that.
    pub fn poll(
        &self,
        sent: Instant,
        stream: &Stream,
        deadline: &mut Deadline,
        cx: &mut Context<'_>,
    ) -> Poll<Expired> {
        let next = self.next(sent, stream);
        match (deadline.poll(cx, next.map(|(at, _)| at)), next) {
            (Poll::Ready(()), Some((_, expired))) => Poll::Ready(expired),
            _ => Poll::Pending,
        }
    }

    /// Waits for a response at most as long as the timers allow.
    pub async fn wait<T>(
        &self,
        stream: &Stream,
        mut response: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Expired> {
        let sent = Instant::now();
        let mut deadline = Deadline::default();
        let waited = poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(Ok(response)),
            Poll::Pending => self.poll(sent, stream, &mut deadline, cx).map(Err),
        });
        waited.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_must_be_shorter_than_that_of_the_whole() {
        let policy = RetryPolicy {
            per_try_timeout: Some(Duration::from_millis(20)),
            ..RetryPolicy::default()
        };
        let timeout = |asked, whole: Option<u64>| {
            let mut per_try = PerTry::new(Some(&policy), asked);
            per_try.limit(whole.map(Duration::from_millis));
            per_try.timeout.map(|timeout| timeout.as_millis())
        };
        assert_eq!(timeout(None, None), Some(20));
        assert_eq!(timeout(None, Some(20)), None);
        assert_eq!(timeout(Some(5), Some(20)), Some(5));
        assert_eq!(timeout(Some(0), None), None);
    }
}
