//! Retry and hedge policies (`RetryPolicy`, `HedgePolicy`), with their translation.

use std::time::Duration;

use http::HeaderName;
use proto::envoy::config::route::v3 as pb;
use proto::envoy::config::route::v3::retry_policy as pb_retry;
use proto::envoy::extensions::retry::host::omit_canary_hosts::v3::OmitCanaryHostsPredicate;
use proto::envoy::extensions::retry::host::omit_host_metadata::v3::OmitHostMetadataConfig;
use proto::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use proto::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use serde_json::{Map, Value};

use super::retry_on::RetryOn;
use crate::config::matcher::HeaderMatcher;
use crate::config::value::{
    duration, duration_above, enumeration, header_name, non_empty, required, timeout,
};
use crate::config::{At, ConfigError, Context, any};
use crate::{refuse_set, warn_set};

/// `num_retries`, when it is not set.
const DEFAULT_RETRIES: u32 = 1;
/// `rate_limited_retry_back_off.max_interval`, when it is not set.
const DEFAULT_RATE_LIMITED_MAX: Duration = Duration::from_secs(300);
/// The namespace of host metadata that load balancing looks at.
const LB_NAMESPACE: &str = "envoy.lb";

/// `RetryPolicy`.
#[derive(Clone, Debug, Default)]
pub struct RetryPolicy {
    /// `retry_on`
    pub on: RetryOn,
    /// `num_retries`; default 1.
    pub num_retries: u32,
    /// `per_try_timeout`; none for 0.
    pub per_try_timeout: Option<Duration>,
    /// `per_try_idle_timeout`; none for 0.
    pub per_try_idle_timeout: Option<Duration>,
    /// `retriable_status_codes`
    pub status_codes: Vec<u16>,
    /// `retriable_headers`: responses that match one are retried.
    pub headers: Vec<HeaderMatcher>,
    /// `retriable_request_headers`: where there are some, only requests that match one are retried.
    pub request_headers: Vec<HeaderMatcher>,
    /// `retry_host_predicate`: hosts that a retry passes over.
    pub host_predicates: Vec<HostPredicate>,
    /// `host_selection_retry_max_attempts`: how often another host is picked; default 1.
    pub host_attempts: u32,
    /// `retry_priority` `previous_priorities`: after so many attempts their priorities are passed over.
    pub priority_update_frequency: Option<u32>,
    /// `retry_back_off`
    pub back_off: Option<BackOff>,
    /// `rate_limited_retry_back_off`
    pub rate_limited: Option<RateLimitedBackOff>,
}

/// `RetryPolicy.RetryBackOff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// `base_interval`, at least 1 ms.
    pub base: Duration,
    /// `max_interval`; default 10 times the base.
    pub max: Duration,
}

impl BackOff {
    /// Intervals from `base` up to ten times as much.
    pub fn new(base: Duration) -> BackOff {
        BackOff { base, max: base.saturating_mul(10) }
    }
}

/// `RetryPolicy.RateLimitedRetryBackOff`.
#[derive(Clone, Debug)]
pub struct RateLimitedBackOff {
    /// `reset_headers`, the first that is there and usable counts.
    pub headers: Vec<(HeaderName, ResetFormat)>,
    /// `max_interval`: what asks for longer waits is not believed; default 300 s.
    pub max: Duration,
}

/// `RetryPolicy.ResetHeaderFormat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetFormat {
    /// `SECONDS` from now.
    Seconds,
    /// `UNIX_TIMESTAMP`: seconds since 1970.
    UnixTimestamp,
}

/// `RetryPolicy.RetryHostPredicate`.
#[derive(Clone, Debug, PartialEq)]
pub enum HostPredicate {
    /// `envoy.retry_host_predicates.previous_hosts`: hosts that were tried.
    PreviousHosts,
    /// `envoy.retry_host_predicates.omit_canary_hosts`: hosts whose metadata says `canary`.
    CanaryHosts,
    /// `envoy.retry_host_predicates.omit_host_metadata`: hosts whose `envoy.lb` metadata has these values.
    Metadata(Map<String, Value>),
}

impl RetryPolicy {
    /// An `envoy.config.route.v3.RetryPolicy`.
    pub(super) fn from_proto(
        message: &pb::RetryPolicy,
        at: &At<'_>,
        context: &Context,
    ) -> Result<RetryPolicy, ConfigError> {
        refuse_set!(at, message, [retry_options_predicates, refresh_cluster_on_retry]);
        let matchers = |messages: &[pb::HeaderMatcher], field: &str| {
            let each = messages.iter().enumerate();
            let translate = |(index, message)| {
                HeaderMatcher::from_proto(message, &at.index(field, index), context)
            };
            each.map(translate).collect::<Result<Vec<_>, _>>()
        };
        let predicates =
            message.retry_host_predicate.iter().enumerate().map(|(index, predicate)| {
                HostPredicate::from_proto(predicate, &at.index("retry_host_predicate", index))
            });
        let at_idle = at.field("per_try_idle_timeout");
        Ok(RetryPolicy {
            on: RetryOn::parse(&message.retry_on),
            num_retries: message.num_retries.map_or(DEFAULT_RETRIES, |number| number.value),
            per_try_timeout: timeout(message.per_try_timeout, None, &at.field("per_try_timeout"))?,
            per_try_idle_timeout: timeout(message.per_try_idle_timeout, None, &at_idle)?,
            status_codes: status_codes(&message.retriable_status_codes),
            headers: matchers(&message.retriable_headers, "retriable_headers")?,
            request_headers: matchers(
                &message.retriable_request_headers,
                "retriable_request_headers",
            )?,
            host_predicates: predicates.collect::<Result<_, _>>()?,
            host_attempts: host_attempts(message.host_selection_retry_max_attempts),
            priority_update_frequency: message
                .retry_priority
                .as_ref()
                .map(|priority| retry_priority(priority, &at.field("retry_priority")))
                .transpose()?,
            back_off: message
                .retry_back_off
                .as_ref()
                .map(|back_off| BackOff::from_proto(back_off, &at.field("retry_back_off")))
                .transpose()?,
            rate_limited: message
                .rate_limited_retry_back_off
                .as_ref()
                .map(|back_off| {
                    let at = at.field("rate_limited_retry_back_off");
                    RateLimitedBackOff::from_proto(back_off, &at)
                })
                .transpose()?,
        })
    }
}

/// Numbers that are no status match nothing.
fn status_codes(codes: &[u32]) -> Vec<u16> {
    codes.iter().filter_map(|code| u16::try_from(*code).ok()).collect()
}

/// Zero and less mean the default.
fn host_attempts(number: i64) -> u32 {
    match number {
        ..=0 => 1,
        number => u32::try_from(number).unwrap_or(u32::MAX),
    }
}

fn retry_priority(message: &pb_retry::RetryPriority, at: &At<'_>) -> Result<u32, ConfigError> {
    use pb_retry::retry_priority::ConfigType;
    non_empty(&message.name, &at.field("name"))?;
    let Some(ConfigType::TypedConfig(config)) = &message.config_type else {
        return Err(at.field("typed_config").error("is required"));
    };
    let at = at.field("typed_config");
    if !any::is::<PreviousPrioritiesConfig>(config) {
        return Err(any::unknown(&message.name, Some(config), &at));
    }
    let config: PreviousPrioritiesConfig = any::open(config, &at)?;
    match u32::try_from(config.update_frequency) {
        Ok(frequency) if frequency > 0 => Ok(frequency),
        _ => {
            let rule = format_args!("{} is not above 0", config.update_frequency);
            Err(at.field("update_frequency").error(rule))
        }
    }
}

impl HostPredicate {
    fn from_proto(
        message: &pb_retry::RetryHostPredicate,
        at: &At<'_>,
    ) -> Result<HostPredicate, ConfigError> {
        use pb_retry::retry_host_predicate::ConfigType;
        let name = non_empty(&message.name, &at.field("name"))?;
        let Some(ConfigType::TypedConfig(config)) = &message.config_type else {
            // Told by its name where it has no configuration.
            return match name {
                "envoy.retry_host_predicates.previous_hosts" => Ok(HostPredicate::PreviousHosts),
                "envoy.retry_host_predicates.omit_canary_hosts" => Ok(HostPredicate::CanaryHosts),
                _ => Err(any::unknown(name, None, at)),
            };
        };
        let at = at.field("typed_config");
        if any::is::<PreviousHostsPredicate>(config) {
            Ok(HostPredicate::PreviousHosts)
        } else if any::is::<OmitCanaryHostsPredicate>(config) {
            Ok(HostPredicate::CanaryHosts)
        } else if any::is::<OmitHostMetadataConfig>(config) {
            let config: OmitHostMetadataConfig = any::open(config, &at)?;
            let metadata = config.metadata_match.unwrap_or_default();
            let labels = metadata.filter_metadata.get(LB_NAMESPACE);
            let labels = labels.map(proto::convert::struct_to_json).unwrap_or_default();
            Ok(HostPredicate::Metadata(labels))
        } else {
            Err(any::unknown(name, Some(config), &at))
        }
    }
}

impl BackOff {
    fn from_proto(message: &pb_retry::RetryBackOff, at: &At<'_>) -> Result<BackOff, ConfigError> {
        let at_base = at.field("base_interval");
        let base = duration(message.base_interval, &at_base)?;
        let base = *required(&base, &at_base)?;
        if base < Duration::from_millis(1) {
            return Err(at_base.error(format_args!("{base:?} is shorter than 1ms")));
        }
        let at_max = at.field("max_interval");
        match duration_above(Duration::ZERO, message.max_interval, &at_max)? {
            None => Ok(BackOff::new(base)),
            Some(max) if max < base => {
                Err(at_max.error(format_args!("{max:?} is shorter than base_interval, {base:?}")))
            }
            Some(max) => Ok(BackOff { base, max }),
        }
    }
}

impl RateLimitedBackOff {
    fn from_proto(
        message: &pb_retry::RateLimitedRetryBackOff,
        at: &At<'_>,
    ) -> Result<RateLimitedBackOff, ConfigError> {
        if message.reset_headers.is_empty() {
            return Err(at.field("reset_headers").error("must not be empty"));
        }
        let headers = message.reset_headers.iter().enumerate().map(|(index, header)| {
            let at = at.index("reset_headers", index);
            let name = non_empty(&header.name, &at.field("name"))?;
            let format = match enumeration(header.format, &at.field("format"))? {
                pb_retry::ResetHeaderFormat::Seconds => ResetFormat::Seconds,
                pb_retry::ResetHeaderFormat::UnixTimestamp => ResetFormat::UnixTimestamp,
            };
            Ok((header_name(name, &at.field("name"))?, format))
        });
        let max = duration_above(Duration::ZERO, message.max_interval, &at.field("max_interval"))?;
        Ok(RateLimitedBackOff {
            headers: headers.collect::<Result<_, ConfigError>>()?,
            max: max.unwrap_or(DEFAULT_RATE_LIMITED_MAX),
        })
    }
}

/// `HedgePolicy.hedge_on_per_try_timeout`, the one field that Envoy looks at.
pub(super) fn hedge_on_per_try_timeout(
    message: &pb::HedgePolicy,
    at: &At<'_>,
    context: &Context,
) -> bool {
    const UNUSED: &str = "only hedge_on_per_try_timeout has an effect, as in Envoy";
    warn_set!(context, at, message, [initial_requests, additional_request_chance], UNUSED);
    message.hedge_on_per_try_timeout
}

#[cfg(test)]
mod tests;
