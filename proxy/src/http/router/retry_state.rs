//! Whether an attempt is repeated: the policy of the route, what the request's headers ask for, and what limits both.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode};

use super::back_off::{Growing, asked};
use super::failure::Failed;
use super::recovery::Asked;
use super::runtime::RouterRuntime;
use crate::config::route::{BackOff, RetryOn, RetryPolicy};
use crate::http::sanitize::names;
use crate::telemetry::response_flags::ResponseFlags;
use crate::upstream::cluster::{CircuitBreaker, Cluster, Permit, Resource, TrafficStats};
use crate::upstream::pool::ResetReason;

/// Whether an attempt is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is not: it was good, or nobody asked for it.
    No,
    /// It is, after a wait.
    Retry(Duration),
    /// It would be, but circuit breakers or budgets forbid it.
    Overflow,
    /// It would be, but no retries are left.
    LimitExceeded,
    /// It would be, but a proxy further on has retried already, or the caller will not wait for it.
    Futile,
}

impl Decision {
    /// What the access log tells of it.
    pub fn flag(self) -> ResponseFlags {
        match self {
            Decision::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
            Decision::LimitExceeded => ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED,
            Decision::No | Decision::Retry(_) | Decision::Futile => ResponseFlags::NONE,
        }
    }

    /// Whether the attempt was bad, and cannot be repeated even so.
    pub fn is_refusal(self) -> bool {
        matches!(self, Decision::Overflow | Decision::LimitExceeded | Decision::Futile)
    }
}

/// The retries of one request.
pub struct RetryState {
    on: RetryOn,
    remaining: u32,
    policy: Option<Arc<RetryPolicy>>,
    /// `x-envoy-retriable-status-codes`
    status_codes: Vec<u16>,
    /// `x-envoy-retriable-header-names`
    header_names: Vec<HeaderName>,
    back_off: Growing,
    /// When the caller has given up.
    deadline: Option<Instant>,
    /// Whether something of the request has been sent, in any attempt.
    has_sent: bool,
    runtime: RouterRuntime,
    stats: Arc<TrafficStats>,
    breaker: Arc<CircuitBreaker>,
    /// Held from a decision for a retry to the next decision.
    permit: Option<Permit>,
    /// Whether the wait before the next attempt is one that the response asked for.
    is_wait_asked: bool,
}

impl RetryState {
    /// What route and request ask for; none if that is nothing. `matches_request` says whether the request is one of those
    /// that the policy is for.
    pub fn new(
        policy: Option<&Arc<RetryPolicy>>,
        matches_request: bool,
        asked: &Asked,
        deadline: Option<Instant>,
        runtime: RouterRuntime,
        (cluster, priority): (&Cluster, usize),
    ) -> Option<Self> {
        let by_policy = policy.map_or(RetryOn::default(), |policy| policy.on);
        let on = match matches_request {
            true => by_policy | asked.on,
            false => RetryOn::default(),
        };
        if on.is_empty() {
            return None;
        }
        let retries = policy.map_or(1, |policy| policy.num_retries);
        let back_off = policy.and_then(|policy| policy.back_off);
        let breaker = Arc::clone(cluster.breaker(priority));
        if runtime.bound_retries {
            breaker.earn_retry();
        }
        Some(RetryState {
            on,
            remaining: asked.max_retries.unwrap_or(retries),
            policy: policy.cloned(),
            status_codes: asked.status_codes.clone(),
            header_names: asked.header_names.clone(),
            back_off: Growing::new(back_off.unwrap_or(BackOff::new(runtime.base_back_off))),
            deadline,
            has_sent: false,
            runtime,
            stats: Arc::clone(&cluster.traffic().stats),
            breaker,
            permit: None,
            is_wait_asked: false,
        })
    }

    /// Whether a response is one of those that are repeated.
    pub fn is_retriable(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        if headers.contains_key(&names::X_ENVOY_RATELIMITED) {
            return self.on.has(RetryOn::RATE_LIMITED);
        }
        let code = status.as_u16();
        let policy = self.policy.as_deref();
        self.on.has(RetryOn::SERVER_ERROR) && status.is_server_error()
            || self.on.has(RetryOn::GATEWAY_ERROR) && matches!(code, 502..=504)
            || self.on.has(RetryOn::RETRIABLE_4XX) && status == StatusCode::CONFLICT
            || self.on.has(RetryOn::STATUS_CODES)
                && (self.status_codes.contains(&code)
                    || policy.is_some_and(|policy| policy.status_codes.contains(&code)))
            || self.on.has(RetryOn::HEADERS)
                && (self.header_names.iter().any(|name| headers.contains_key(name))
                    || policy.is_some_and(|policy| {
                        policy.headers.iter().any(|matcher| matcher.matches_headers(headers))
                    }))
            || self.on.has(RetryOn::GRPC) && self.on.has(grpc_condition(headers))
    }

    fn is_retriable_reset(&self, failed: &Failed) -> bool {
        let is_connect_failure = matches!(
            failed.reason(),
            ResetReason::LocalConnectionFailure
                | ResetReason::RemoteConnectionFailure
                | ResetReason::ConnectionTimeout
        );
        if failed.reason() == ResetReason::Overflow {
            return false;
        }
        self.on.has(RetryOn::CONNECT_FAILURE) && is_connect_failure
            || self.on.has(RetryOn::RESET_BEFORE_REQUEST) && !self.has_sent
            || self.on.has(RetryOn::RESET | RetryOn::SERVER_ERROR | RetryOn::GATEWAY_ERROR)
            || self.on.has(RetryOn::REFUSED_STREAM)
                && failed.reason() == ResetReason::RemoteRefusedStreamReset
    }

    /// Decides about a response by its head.
    pub fn on_response(&mut self, status: StatusCode, headers: &HeaderMap) -> Decision {
        if !self.is_retriable(status, headers) {
            return self.decide(None);
        }
        let pushed_back = headers.contains_key(&names::X_PILLION_RETRY_PUSHBACK);
        if self.runtime.bound_retries && pushed_back {
            self.permit = None;
            return Decision::Futile;
        }
        let policy = self.policy.as_ref().and_then(|policy| policy.rate_limited.as_ref());
        let wait =
            policy.and_then(|policy| asked(policy, headers, SystemTime::now(), fastrand::u64(..)));
        self.decide(Some(wait))
    }

    /// Decides about an attempt without a response.
    pub fn on_reset(&mut self, failed: &Failed) -> Decision {
        self.has_sent |= failed.is_sent;
        let wanted = self.is_retriable_reset(failed);
        self.decide(wanted.then_some(None))
    }

    /// Decides about another attempt beside one that takes too long.
    pub fn on_slow_attempt(&mut self) -> Decision {
        self.has_sent = true;
        self.decide(Some(None))
    }

    /// The wait is over, and another attempt is made.
    pub fn retries(&self) {
        self.stats.upstream_rq_retry.inc();
        match self.is_wait_asked {
            true => self.stats.upstream_rq_retry_backoff_ratelimited.inc(),
            false => self.stats.upstream_rq_retry_backoff_exponential.inc(),
        }
    }

    /// `wanted` is there if a retry is asked for, with the wait that the response asks for.
    fn decide(&mut self, wanted: Option<Option<Duration>>) -> Decision {
        let was_retry = self.permit.take().is_some();
        let Some(asked) = wanted else {
            if was_retry {
                self.stats.upstream_rq_retry_success.inc();
            }
            return Decision::No;
        };
        if self.remaining == 0 {
            self.stats.upstream_rq_retry_limit_exceeded.inc();
            return Decision::LimitExceeded;
        }
        self.remaining -= 1;
        let wait = asked.unwrap_or_else(|| self.back_off.next(fastrand::u64(..)));
        let bounded = self.runtime.bound_retries;
        if bounded && self.deadline.is_some_and(|deadline| Instant::now() + wait >= deadline) {
            return Decision::Futile;
        }
        let permit = self.breaker.try_acquire(Resource::Retries);
        let Some(permit) = permit.filter(|_| !bounded || self.breaker.spend_retry()) else {
            self.stats.upstream_rq_retry_overflow.inc();
            return Decision::Overflow;
        };
        if fastrand::u64(..100) >= self.runtime.use_retry {
            return Decision::No;
        }
        self.is_wait_asked = asked.is_some();
        self.permit = Some(permit);
        Decision::Retry(wait)
    }
}

/// The condition about the gRPC status in a response's headers, which is there only if there is no message.
fn grpc_condition(headers: &HeaderMap) -> RetryOn {
    let status = headers.get("grpc-status").and_then(|status| status.to_str().ok());
    let status = status.and_then(|status| status.parse().ok());
    status.map_or(RetryOn::default(), RetryOn::of_grpc_status)
}
