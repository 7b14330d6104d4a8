//! Translating circuit breakers.

use proto::envoy::config::cluster::v3 as pb;
use proto::envoy::config::cluster::v3::circuit_breakers::Thresholds as PbThresholds;
use proto::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget as PbRetryBudget;
use proto::envoy::config::core::v3 as core;

use super::{RetryBudget, Thresholds};
use crate::config::error::{At, ConfigError, Context};
use crate::config::value;
use crate::{refuse_set, warn_set};

/// Thresholds of the default and the high priority; of two for one priority the first counts.
pub(super) fn circuit_breakers(
    message: &pb::Cluster,
    at: &At<'_>,
    context: &Context,
) -> Result<Box<[Thresholds; 2]>, ConfigError> {
    let mut breakers = Box::new([Thresholds::default(); 2]);
    let Some(message) = &message.circuit_breakers else {
        return Ok(breakers);
    };
    let at = at.field("circuit_breakers");
    let mut seen = [false; 2];
    for (i, thresholds) in message.thresholds.iter().enumerate() {
        let at = at.index("thresholds", i);
        let priority: core::RoutingPriority =
            value::enumeration(thresholds.priority, &at.field("priority"))?;
        let slot = usize::from(priority == core::RoutingPriority::High);
        let translated = Thresholds::from_proto(thresholds, &at, context)?;
        if !std::mem::replace(&mut seen[slot], true) {
            breakers[slot] = translated;
        }
    }
    for (i, thresholds) in message.per_host_thresholds.iter().enumerate().rev() {
        let at = at.index("per_host_thresholds", i);
        refuse_set!(at, thresholds, [max_pending_requests, max_requests, max_retries]);
        refuse_set!(at, thresholds, [max_connection_pools, retry_budget]);
        let priority: core::RoutingPriority =
            value::enumeration(thresholds.priority, &at.field("priority"))?;
        let slot = usize::from(priority == core::RoutingPriority::High);
        breakers[slot].max_connections_per_host =
            thresholds.max_connections.map_or(u32::MAX, |n| n.value);
    }
    Ok(breakers)
}

impl Thresholds {
    fn from_proto(
        message: &PbThresholds,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Thresholds, ConfigError> {
        let at_budget = at.field("retry_budget");
        let budget = message.retry_budget.as_ref();
        let budget = budget
            .map(|budget| RetryBudget::from_proto(budget, &at_budget, context))
            .transpose()?;
        let max_retries = message.max_retries.map(|n| n.value);
        let reason = "a host has one pool per worker and protocol";
        warn_set!(context, at, message, [max_connection_pools], reason);
        let default = Thresholds::default();
        Ok(Thresholds {
            max_connections: message.max_connections.map_or(default.max_connections, |n| n.value),
            max_pending_requests: message
                .max_pending_requests
                .map_or(default.max_pending_requests, |n| n.value),
            max_requests: message.max_requests.map_or(default.max_requests, |n| n.value),
            max_retries: max_retries.unwrap_or(default.max_retries),
            retry_budget: budget,
            limits_retries: budget.is_some() || max_retries.is_some_and(|max| max < u32::MAX),
            max_connections_per_host: default.max_connections_per_host,
            track_remaining: message.track_remaining,
        })
    }
}

impl RetryBudget {
    fn from_proto(
        message: &PbRetryBudget,
        at: &At<'_>,
        context: &Context,
    ) -> Result<RetryBudget, ConfigError> {
        let reason = "the budget is a share of the requests under way";
        warn_set!(context, at, message, [budget_interval], reason);
        let percent = message.budget_percent.as_ref();
        let percent = percent.map(|value| value::percent(value, &at.field("budget_percent")));
        Ok(RetryBudget {
            percent: percent.transpose()?.unwrap_or(20.0) as f32,
            min: message.min_retry_concurrency.map_or(3, |n| n.value),
        })
    }
}
