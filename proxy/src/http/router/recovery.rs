//! What a request may have beyond one attempt: retries, hedges and mirrors, by its route and by its own headers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::per_try::PerTry;
use super::retry_state::RetryState;
use super::shadow::{self, Shadow};
use super::timeouts::grpc_timeout;
use crate::config::route::{InternalRedirect, RetryOn, RetryPolicy, RouteAction};
use crate::http::manager::Route;
use crate::http::present::Present;
use crate::http::sanitize::names;
use crate::http::service::route_request;
use crate::http::stream::Stream;
use crate::route::RouteRequest;
use crate::upstream::cluster::Cluster;

/// How much of a request's body is kept for another attempt where configuration does not say: what a connection buffers
/// by default.
const DEFAULT_BUFFER_LIMIT: u64 = 1 << 20;

/// Everything beyond one attempt.
#[derive(Default)]
pub struct Recovery<'a> {
    /// Whether and how often attempts are repeated.
    pub retry: Option<RetryState>,
    /// The timers of one attempt.
    pub per_try: PerTry,
    /// An attempt that takes longer than its timer goes on beside the next one.
    pub hedge: bool,
    /// Where copies of the request go.
    pub shadows: Vec<Shadow<'a>>,
    /// Redirects that the proxy follows itself.
    pub redirect: Option<&'a InternalRedirect>,
    /// How many bytes of the request's body are kept.
    pub buffer_limit: u64,
    /// The policy, with what it says about hosts.
    pub policy: Option<Arc<RetryPolicy>>,
    /// Whether who sent the request counts its attempts, and so may retry it.
    pub caller_retries: bool,
}

/// What the headers of a request ask for.
#[derive(Default)]
pub struct Asked {
    /// `x-envoy-retry-on`, `x-envoy-retry-grpc-on`
    pub on: RetryOn,
    /// `x-envoy-max-retries`
    pub max_retries: Option<u32>,
    /// `x-envoy-retriable-status-codes`
    pub status_codes: Vec<u16>,
    /// `x-envoy-retriable-header-names`
    pub header_names: Vec<HeaderName>,
    /// `x-envoy-hedge-on-per-try-timeout`
    hedge: Option<bool>,
    /// `x-envoy-upstream-rq-per-try-timeout-ms`
    per_try_timeout: Option<u64>,
}

impl Asked {
    /// Takes the headers out of the request: they are for this proxy only.
    fn take(headers: &mut HeaderMap, present: Present) -> Asked {
        if !present.has(Present::RETRIES) {
            return Asked::default();
        }
        let mut take = |name: &HeaderName| headers.remove(name);
        let on = take(&names::X_ENVOY_RETRY_ON);
        let grpc_on = take(&names::X_ENVOY_RETRY_GRPC_ON);
        let max_retries = take(&names::X_ENVOY_MAX_RETRIES);
        let codes = take(&names::X_ENVOY_RETRIABLE_STATUS_CODES);
        let header_names = take(&names::X_ENVOY_RETRIABLE_HEADER_NAMES);
        let hedge = take(&names::X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT);
        let per_try = take(&names::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS);
        Asked {
            on: RetryOn::parse_http(text(&on)) | RetryOn::parse_grpc(text(&grpc_on)),
            max_retries: text(&max_retries).parse().ok(),
            status_codes: list(text(&codes)),
            header_names: list(text(&header_names)),
            hedge: hedge.map(|value| value == "true"),
            per_try_timeout: text(&per_try).parse().ok(),
        }
    }
}

fn text(value: &Option<HeaderValue>) -> &str {
    value.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// What can be read of a list with commas.
fn list<T: std::str::FromStr>(text: &str) -> Vec<T> {
    text.split(',').filter_map(|word| word.trim().parse().ok()).collect()
}

impl<'a> Recovery<'a> {
    /// What route and request ask for; none if one attempt is all there is, as for most requests.
    pub fn new(
        stream: &Stream,
        (route, action): (&'a Route, &'a RouteAction),
        cluster: &Arc<Cluster>,
        parts: &mut Parts,
        present: Present,
        random: u64,
    ) -> Option<Box<Recovery<'a>>> {
        let resilience = &action.resilience;
        if resilience.is_plain() && !present.has(Present::RETRIES) {
            return None;
        }
        let asked = Asked::take(&mut parts.headers, present);
        let wanted = route_request(parts, stream, random);
        let policy = resilience.retry.as_ref();
        let hedge = asked.hedge.unwrap_or(resilience.hedge_on_per_try_timeout);
        let per_try = PerTry::new(policy.map(Arc::as_ref), asked.per_try_timeout);
        let retry = RetryState::new(
            policy,
            policy.is_none_or(|policy| is_for(policy, &wanted)),
            &asked,
            deadline(stream, &parts.headers, present),
            stream.connection.manager.router_runtime,
            (cluster, usize::from(action.high_priority)),
        );
        let shadows = shadow::choose(stream, route, action, &wanted);
        Some(Box::new(Recovery {
            retry,
            per_try,
            hedge,
            shadows,
            redirect: resilience.internal_redirect.as_deref(),
            buffer_limit: resilience.buffer_limit.unwrap_or(DEFAULT_BUFFER_LIMIT),
            policy: policy.cloned(),
            caller_retries: parts.headers.contains_key(&names::X_ENVOY_ATTEMPT_COUNT),
        }))
    }

    /// Whether the request's body must be kept.
    pub fn keeps_body(&self) -> bool {
        self.needs_whole_body() || !self.shadows.is_empty()
    }

    /// Whether the request may be sent again from its beginning.
    pub fn needs_whole_body(&self) -> bool {
        self.retry.is_some() || self.redirect.is_some()
    }

    /// Whether one attempt is all there is even so.
    pub fn is_void(&self) -> bool {
        !self.keeps_body() && self.per_try.is_off()
    }
}

/// `retriable_request_headers`: where there are some, one must match.
fn is_for(policy: &RetryPolicy, wanted: &RouteRequest<'_>) -> bool {
    let matchers = &policy.request_headers;
    let matches = || matchers.iter().any(|one| one.matches(&wanted.pseudo(), wanted.headers));
    matchers.is_empty() || matches()
}

/// When the caller gives up, as far as it says so.
fn deadline(stream: &Stream, headers: &HeaderMap, present: Present) -> Option<Instant> {
    let expected = headers.get(&names::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS);
    let expected = expected.and_then(|value| value.to_str().ok()?.parse().ok());
    let expected = expected.filter(|_| present.has(Present::X_ENVOY)).map(Duration::from_millis);
    let grpc = stream.grpc.then(|| grpc_timeout(headers)).flatten();
    let shortest = expected.into_iter().chain(grpc).filter(|timeout| !timeout.is_zero()).min();
    shortest.map(|timeout| stream.shared.info.borrow().start + timeout)
}
