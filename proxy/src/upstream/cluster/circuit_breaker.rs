//! Circuit breakers: how much of each resource a cluster may use at one priority, over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::ArcSwapOption;

use super::retry_tokens::RetryTokens;
use crate::config::cluster::{RetryBudget, Thresholds};
use crate::telemetry::stats::{Gauge, Metric, StatGroup};

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Connections, those being made included (`max_connections`).
    Connections,
    /// Requests that wait for a connection (`max_pending_requests`).
    PendingRequests,
    /// Requests on connections (`max_requests`).
    Requests,
    /// Retries, from the decision to their end (`max_retries`).
    Retries,
}

const RESOURCES: usize = 4;
const ALL: [Resource; RESOURCES] =
    [Resource::Connections, Resource::PendingRequests, Resource::Requests, Resource::Retries];

/// The breakers of one priority, and their gauges `circuit_breakers.<priority>.*`.
///
/// Counts are checked and raised in two steps, as Envoy does: several workers may overshoot a limit a little.
#[derive(Debug)]
pub struct CircuitBreaker {
    prefix: Box<str>,
    limits: [AtomicU32; RESOURCES],
    active: [AtomicU32; RESOURCES],
    track_remaining: AtomicBool,
    /// `retry_budget`: takes the place of the limit of retries.
    budget: ArcSwapOption<RetryBudget>,
    /// `per_host_thresholds.max_connections`
    per_host_connections: AtomicU32,
    /// Whether configuration leaves retries without a limit, so that `tokens` bound them.
    bounds_retries: AtomicBool,
    tokens: RetryTokens,
    /// A host has one pool for each worker and protocol, so this limit is never reached.
    pools_open: Gauge,
    open: [Gauge; RESOURCES],
    remaining: [Gauge; RESOURCES],
}

/// The gauges' names, in the order of [`Resource`].
const OPEN: [&str; RESOURCES] = ["cx_open", "rq_pending_open", "rq_open", "rq_retry_open"];
const REMAINING: [&str; RESOURCES] =
    ["remaining_cx", "remaining_pending", "remaining_rq", "remaining_retries"];

impl CircuitBreaker {
    /// Breakers with nothing in use. `prefix` is `cluster.<name>.circuit_breakers.<priority>.`.
    pub fn new(prefix: impl Into<Box<str>>, thresholds: &Thresholds) -> Self {
        let breaker = CircuitBreaker {
            prefix: prefix.into(),
            limits: Default::default(),
            active: Default::default(),
            track_remaining: AtomicBool::default(),
            budget: ArcSwapOption::empty(),
            per_host_connections: AtomicU32::new(u32::MAX),
            bounds_retries: AtomicBool::default(),
            tokens: RetryTokens::new(),
            pools_open: Gauge::default(),
            open: Default::default(),
            remaining: Default::default(),
        };
        breaker.set_thresholds(thresholds);
        breaker
    }

    /// Takes over other limits; what is in use stays counted.
    pub fn set_thresholds(&self, thresholds: &Thresholds) {
        let limits = [
            thresholds.max_connections,
            thresholds.max_pending_requests,
            thresholds.max_requests,
            thresholds.max_retries,
        ];
        for (limit, value) in self.limits.iter().zip(limits) {
            limit.store(value, Relaxed);
        }
        self.track_remaining.store(thresholds.track_remaining, Relaxed);
        self.budget.store(thresholds.retry_budget.map(Arc::new));
        self.per_host_connections.store(thresholds.max_connections_per_host, Relaxed);
        self.bounds_retries.store(!thresholds.limits_retries, Relaxed);
    }

    /// Whether one more is allowed.
    pub fn has_room(&self, resource: Resource) -> bool {
        self.active(resource) < self.limit(resource)
    }

    /// How many are in use.
    pub fn active(&self, resource: Resource) -> u32 {
        self.active[resource as usize].load(Relaxed)
    }

    /// How many are allowed. A retry budget is a share of the requests that are active and pending now.
    pub fn limit(&self, resource: Resource) -> u32 {
        if resource == Resource::Retries
            && let Some(budget) = &*self.budget.load()
        {
            let requests = self.active(Resource::Requests) + self.active(Resource::PendingRequests);
            return budget.limit(requests);
        }
        self.limits[resource as usize].load(Relaxed)
    }

    /// Whether a host with so many connections may have one more.
    pub fn host_has_room(&self, connections: u64) -> bool {
        connections < u64::from(self.per_host_connections.load(Relaxed))
    }

    /// A request comes that may be retried: retries that configuration does not limit grow with such requests.
    pub fn earn_retry(&self) {
        if self.bounds_retries.load(Relaxed) {
            self.tokens.earn();
        }
    }

    /// Whether a retry is within what requests have earned; always where configuration limits retries itself.
    pub fn spend_retry(&self) -> bool {
        !self.bounds_retries.load(Relaxed) || self.tokens.spend(Instant::now())
    }

    /// Counts one in use even above the limit, until the permit is dropped.
    pub fn acquire(self: &Arc<Self>, resource: Resource) -> Permit {
        self.active[resource as usize].fetch_add(1, Relaxed);
        Permit { breaker: Arc::clone(self), resource }
    }

    /// Counts one in use until the permit is dropped; none if the limit is reached.
    pub fn try_acquire(self: &Arc<Self>, resource: Resource) -> Option<Permit> {
        self.has_room(resource).then(|| self.acquire(resource))
    }
}

/// One use of a resource, until dropped.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<CircuitBreaker>,
    resource: Resource,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.breaker.active[self.resource as usize].fetch_sub(1, Relaxed);
    }
}

impl StatGroup for CircuitBreaker {
    fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The gauges follow from the counts, so they are set when somebody looks and cost requests nothing.
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'static str, Metric<'a>)) {
        let track_remaining = self.track_remaining.load(Relaxed);
        visit("cx_pool_open", Metric::Gauge(&self.pools_open));
        for (index, resource) in ALL.into_iter().enumerate() {
            let remaining = self.limit(resource).saturating_sub(self.active(resource));
            self.open[index].set(u64::from(remaining == 0));
            visit(OPEN[index], Metric::Gauge(&self.open[index]));
            if track_remaining {
                self.remaining[index].set(u64::from(remaining));
                visit(REMAINING[index], Metric::Gauge(&self.remaining[index]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauges(breaker: &CircuitBreaker) -> Vec<(&'static str, u64)> {
        let mut seen = Vec::new();
        breaker.visit(&mut |name, metric| {
            if let Metric::Gauge(gauge) = metric {
                seen.push((name, gauge.get()));
            }
        });
        seen
    }

    #[test]
    fn a_permit_counts_until_it_is_dropped() {
        let thresholds = Thresholds { max_retries: 1, ..Thresholds::default() };
        let breaker = Arc::new(CircuitBreaker::new("p.", &thresholds));
        let permit = breaker.try_acquire(Resource::Retries).unwrap();
        assert!(breaker.try_acquire(Resource::Retries).is_none());
        assert_eq!(gauges(&breaker).last(), Some(&("rq_retry_open", 1)));
        drop(permit);
        assert!(breaker.has_room(Resource::Retries));
        assert_eq!(gauges(&breaker).last(), Some(&("rq_retry_open", 0)));
    }

    #[test]
    fn remaining_is_told_when_tracked_and_never_below_zero() {
        let thresholds =
            Thresholds { max_connections: 1, track_remaining: true, ..Thresholds::default() };
        let breaker = Arc::new(CircuitBreaker::new("p.", &thresholds));
        let _permits = [Resource::Connections; 2].map(|resource| breaker.acquire(resource));
        assert!(gauges(&breaker).contains(&("remaining_cx", 0)));
        assert!(gauges(&breaker).contains(&("remaining_retries", 3)));
    }

    #[test]
    fn a_retry_budget_is_a_share_of_the_requests_but_never_less_than_its_minimum() {
        let retry_budget = Some(RetryBudget { percent: 50.0, min: 1 });
        let thresholds = Thresholds { retry_budget, max_retries: 0, ..Thresholds::default() };
        let breaker = Arc::new(CircuitBreaker::new("p.", &thresholds));
        assert_eq!(breaker.limit(Resource::Retries), 1);
        let _requests = [(); 5].map(|()| breaker.acquire(Resource::Requests));
        let _pending = breaker.acquire(Resource::PendingRequests);
        assert_eq!(breaker.limit(Resource::Retries), 3);
    }

    #[test]
    fn retries_are_bounded_where_configuration_does_not_limit_them() {
        let spent = |limits_retries| {
            let thresholds = Thresholds { limits_retries, ..Thresholds::default() };
            let breaker = CircuitBreaker::new("p.", &thresholds);
            (0..1000).filter(|_| breaker.spend_retry()).count()
        };
        assert_eq!(spent(true), 1000);
        assert!(spent(false) < 100);
    }

    #[test]
    fn new_limits_keep_what_is_in_use() {
        let breaker = Arc::new(CircuitBreaker::new("p.", &Thresholds::default()));
        let _permit = breaker.acquire(Resource::Requests);
        breaker.set_thresholds(&Thresholds { max_requests: 1, ..Thresholds::default() });
        assert!(!breaker.has_room(Resource::Requests));
    }
}
