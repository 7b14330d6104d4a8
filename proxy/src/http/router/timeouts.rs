//! The timers of a request: the route's, the idle ones and the longest duration.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::recovery::Recovery;
use crate::config::route::RouteAction;
use crate::http::local_reply::LocalReply;
use crate::http::number;
use crate::http::overdue::Limits;
use crate::http::present::Present;
use crate::http::sanitize::names;
use crate::http::stream::Stream;
use crate::overload;
use crate::telemetry::response_flags::ResponseFlags;
use crate::upstream::cluster::Cluster;

/// The timers of one request; each may be absent.
pub struct Timeouts {
    /// From the end of the request to the end of the response.
    route: Option<Duration>,
    /// Without a byte in either direction.
    idle: Option<Duration>,
    /// From the start of the stream to its end.
    duration: Option<Duration>,
    /// From the start of the stream to the end of the request.
    request: Option<Duration>,
    /// The client wants 204 when the route's timeout expires.
    alt_response: bool,
    /// How long one attempt may take, where that is known to be less than the whole and no other one goes on beside it.
    attempt: Option<Duration>,
    /// `max_grpc_timeout` holds: the host is told in `grpc-timeout` too.
    tells_grpc: bool,
    /// How many attempts are under way.
    in_flight: Cell<usize>,
}

/// Which timer expired.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timer {
    Route,
    Idle,
    Duration,
    Request,
}

impl Timeouts {
    /// The timers that configuration and request ask for. Takes `x-envoy-upstream-rq-timeout-ms` out of the request.
    pub fn new(
        action: &RouteAction,
        headers: &mut HeaderMap,
        present: Present,
        stream: &Stream,
    ) -> Self {
        let config = &stream.connection.manager.config;
        let timers = &stream.connection.worker.overload.timers;
        let mut asked = None;
        let mut alt_response = false;
        if present.has(Present::X_ENVOY) {
            let expected = match config.router.respect_expected_rq_timeout {
                true => headers.get(&names::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS).cloned(),
                false => None,
            };
            asked = expected.or_else(|| headers.remove(&names::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS));
            let alternative = &names::X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE;
            alt_response = headers.remove(alternative).is_some();
        }
        let asked = asked.and_then(|value| value.to_str().ok()?.parse().ok());
        let grpc = stream.grpc.then(|| grpc_timeout(headers)).flatten();
        let by_route = match (action.max_stream_duration, action.max_grpc_timeout) {
            (Some(_), _) => None,
            (None, Some(cap)) if stream.grpc => grpc_limit(grpc, action.grpc_timeout_offset, cap),
            (None, _) => action.timeout,
        };
        let duration = match action.max_stream_duration {
            None => config.max_stream_duration,
            Some(rule) => match (rule.grpc_timeout_max, grpc) {
                (Some(cap), Some(asked)) => {
                    let capped = if cap.is_zero() { asked } else { asked.min(cap) };
                    Some(capped.saturating_sub(rule.grpc_timeout_offset.unwrap_or_default()))
                }
                _ => rule.max.or(config.max_stream_duration).filter(|max| !max.is_zero()),
            },
        };
        Timeouts {
            route: asked.map_or(by_route, |ms| (ms > 0).then(|| Duration::from_millis(ms))),
            idle: action
                .idle_timeout
                .unwrap_or(config.stream_idle_timeout)
                .map(|idle| timers.scale(overload::Timer::StreamIdle, idle)),
            duration,
            request: config.request_timeout,
            alt_response,
            attempt: None,
            tells_grpc: stream.grpc
                && action.max_stream_duration.is_none()
                && action.max_grpc_timeout.is_some(),
            in_flight: Cell::new(1),
        }
    }

    /// Settles the timers of attempts with those of the whole. Gives `recovery` back unless nothing is left of it.
    pub fn settle<'a>(&mut self, recovery: Option<Box<Recovery<'a>>>) -> Option<Box<Recovery<'a>>> {
        let mut recovery = recovery?;
        recovery.per_try.limit(self.route);
        if !recovery.hedge {
            self.attempt = recovery.per_try.timeout;
        }
        (!recovery.is_void()).then_some(recovery)
    }

    /// Tells the host how long the proxy waits, in `x-envoy-expected-rq-timeout-ms` unless that is suppressed and, where
    /// `max_grpc_timeout` holds, in `grpc-timeout`. `elapsed` is the time since the request was complete.
    pub fn tell(&self, headers: &mut HeaderMap, elapsed: Duration, suppress: bool) {
        let Some(expected) = self.attempt.or(self.route) else { return };
        let left = self.route.map_or(expected, |route| route.saturating_sub(elapsed));
        let millis = expected.min(left).as_millis().max(1) as u64;
        if !suppress {
            headers.insert(&names::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, number::value(millis));
        }
        if self.tells_grpc
            && let Ok(value) = HeaderValue::from_str(&grpc_timeout_value(millis))
        {
            headers.insert(GRPC_TIMEOUT, value);
        }
    }

    /// So many attempts are under way; one if nobody says so.
    pub fn set_in_flight(&self, attempts: usize) {
        self.in_flight.set(attempts);
    }

    /// The timeout of the request as a whole.
    pub fn whole(&self) -> Option<Duration> {
        self.route
    }

    /// The answer when the proxy does not wait any longer: 504, or 204 if the client wants that.
    pub fn gave_up(&self, details: &'static str) -> LocalReply {
        let (status, text) = match self.alt_response {
            true => (StatusCode::NO_CONTENT, ""),
            false => (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"),
        };
        LocalReply::new(status, details, text).flag(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT)
    }

    /// The limits on the response's body.
    pub fn for_response(&self, stream: &Stream) -> Limits {
        let until = [Timer::Route, Timer::Duration].map(|timer| self.at(timer, stream));
        Limits { idle: self.idle, until: until.into_iter().flatten().min() }
    }

    /// When a timer expires, as far as it runs already.
    fn at(&self, timer: Timer, stream: &Stream) -> Option<Instant> {
        let shared = &stream.shared;
        let complete = shared.request_completed_at();
        let start = || shared.info.borrow().start;
        match timer {
            Timer::Route => complete.zip(self.route).map(|(since, limit)| since + limit),
            Timer::Idle => self.idle.map(|limit| shared.last_activity() + limit),
            Timer::Duration => self.duration.map(|limit| start() + limit),
            Timer::Request if complete.is_some() => None,
            Timer::Request => self.request.map(|limit| start() + limit),
        }
    }

    fn next(&self, stream: &Stream) -> Option<(Instant, Timer)> {
        let timers = [Timer::Route, Timer::Idle, Timer::Duration, Timer::Request];
        let running = timers.into_iter().filter_map(|timer| Some((self.at(timer, stream)?, timer)));
        running.min_by_key(|(at, _)| *at)
    }

    /// Waits for `attempt`, at most as long as the timers allow.
    ///
    /// # Errors
    /// The answer that says which timer expired.
    pub async fn wait<T>(
        &self,
        stream: &Stream,
        cluster: &Cluster,
        mut attempt: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, LocalReply> {
        let mut deadline = stream.connection.take_deadline();
        let expired = poll_fn(|cx| {
            if let Poll::Ready(done) = attempt.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if stream.shared.request_completed_at().is_none() {
                stream.shared.wake_on_complete(cx.waker());
            }
            let next = self.next(stream);
            match deadline.poll(cx, next.map(|(at, _)| at)) {
                Poll::Ready(()) => Poll::Ready(Err(next.map_or(Timer::Idle, |(_, timer)| timer))),
                Poll::Pending => Poll::Pending,
            }
        });
        let outcome = expired.await;
        stream.connection.keep_deadline(deadline);
        outcome.map_err(|timer| self.expired(timer, stream, cluster))
    }

    /// 504 if the request had come in whole, else 408.
    fn expired(&self, timer: Timer, stream: &Stream, cluster: &Cluster) -> LocalReply {
        let stats = &stream.connection.manager.stats;
        let complete = stream.shared.request_completed_at().is_some();
        let status =
            if complete { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::REQUEST_TIMEOUT };
        match timer {
            Timer::Route => {
                let reply = self.gave_up("response_timeout");
                for _ in 0..self.in_flight.get() {
                    cluster.stats().upstream_rq_timeout.inc();
                    cluster.traffic().charge(reply.status.as_u16(), stream.internal);
                }
                reply
            }
            Timer::Idle => {
                stats.downstream_rq_idle_timeout.inc();
                LocalReply::new(status, "stream_idle_timeout", "stream timeout")
                    .flag(ResponseFlags::STREAM_IDLE_TIMEOUT)
            }
            Timer::Duration => {
                stats.downstream_rq_max_duration_reached.inc();
                let mut reply =
                    LocalReply::new(status, "max_duration_timeout", "downstream duration timeout");
                reply.grpc_status = Some(4);
                reply
            }
            Timer::Request => {
                stats.downstream_rq_timeout.inc();
                LocalReply::new(status, "request_overall_timeout", "request timeout")
            }
        }
    }
}

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What `max_grpc_timeout` makes of the timeout that the client asks for, less the offset unless nothing would be left.
/// Zero means no timeout, on either side.
fn grpc_limit(asked: Option<Duration>, offset: Duration, cap: Duration) -> Option<Duration> {
    let asked = asked.filter(|asked| !asked.is_zero());
    let asked = asked.map(|asked| if offset < asked { asked - offset } else { asked });
    match cap.is_zero() {
        true => asked,
        false => Some(asked.map_or(cap, |asked| asked.min(cap))),
    }
}

/// `grpc-timeout` in the finest unit that needs at most eight digits.
fn grpc_timeout_value(millis: u64) -> String {
    const MOST: u64 = 99_999_999;
    let units = [(1, 'm'), (1000, 'S'), (60_000, 'M'), (3_600_000, 'H')];
    let fits = units.into_iter().find(|(unit, _)| millis / unit <= MOST);
    let (unit, letter) = fits.unwrap_or((3_600_000, 'H'));
    format!("{}{letter}", (millis / unit).min(MOST))
}

/// `grpc-timeout`: at most eight digits and a unit.
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(GRPC_TIMEOUT).map(HeaderValue::as_bytes)?;
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_timeout_is_capped_and_zero_means_none() {
        let millis = Duration::from_millis;
        for (asked, offset, cap, expected) in [
            (Some(100), 0, 0, Some(100)),
            (None, 0, 0, None),
            (Some(0), 0, 0, None),
            (Some(0), 0, 50, Some(50)),
            (Some(100), 0, 50, Some(50)),
            (None, 0, 50, Some(50)),
            (Some(100), 30, 0, Some(70)),
            (Some(100), 100, 0, Some(100)),
        ] {
            let limit = grpc_limit(asked.map(millis), millis(offset), millis(cap));
            assert_eq!(limit, expected.map(millis), "{asked:?} {offset} {cap}");
        }
    }

    #[test]
    fn a_grpc_timeout_is_told_in_the_finest_unit_that_fits() {
        for (millis, expected) in [(1, "1m"), (99_999_999, "99999999m"), (100_000_000, "100000S")] {
            assert_eq!(grpc_timeout_value(millis), expected);
        }
        assert_eq!(grpc_timeout_value(u64::MAX), "99999999H");
    }

    #[test]
    fn grpc_timeouts_have_at_most_eight_digits_and_a_unit() {
        for (text, parsed) in [
            ("100m", Some(Duration::from_millis(100))),
            ("2H", Some(Duration::from_secs(7200))),
            ("123456789m", None),
            ("m", None),
            ("1x", None),
            ("-1S", None),
        ] {
            let value = HeaderValue::from_static(text);
            let headers = HeaderMap::from_iter([("grpc-timeout".parse().expect("name"), value)]);
            assert_eq!(grpc_timeout(&headers), parsed, "{text}");
        }
    }
}
