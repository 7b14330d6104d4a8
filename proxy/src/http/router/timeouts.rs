//! The timers of a request: the route's, the idle ones and the longest duration.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::config::route::RouteAction;
use crate::http::local_reply::LocalReply;
use crate::http::overdue::Limits;
use crate::http::present::Present;
use crate::http::sanitize::names;
use crate::http::stream::Stream;
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
        let mut asked = None;
        let mut alt_response = false;
        if present.has(Present::X_ENVOY) {
            asked = headers.remove(&names::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS);
            let alternative = &names::X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE;
            alt_response = headers.remove(alternative).is_some();
        }
        let asked = asked.and_then(|value| value.to_str().ok()?.parse().ok());
        let grpc = stream.grpc.then(|| grpc_timeout(headers)).flatten();
        let by_route = match (action.max_stream_duration, action.max_grpc_timeout) {
            (Some(_), _) => None,
            (None, Some(cap)) if stream.grpc => {
                if cap.is_zero() {
                    grpc
                } else {
                    Some(grpc.map_or(cap, |asked| asked.min(cap)))
                }
            }
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
            idle: action.idle_timeout.unwrap_or(config.stream_idle_timeout),
            duration,
            request: config.request_timeout,
            alt_response,
        }
    }

    /// `x-envoy-expected-rq-timeout-ms`
    pub fn expected(&self) -> Option<u64> {
        self.route.map(|timeout| timeout.as_millis().max(1) as u64)
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
                cluster.stats().upstream_rq_timeout.inc();
                let (status, text) = match self.alt_response {
                    true => (StatusCode::NO_CONTENT, ""),
                    false => (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"),
                };
                cluster.traffic().charge(status.as_u16(), stream.internal);
                LocalReply::new(status, "response_timeout", text)
                    .flag(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT)
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

/// `grpc-timeout`: at most eight digits and a unit.
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout").map(HeaderValue::as_bytes)?;
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
