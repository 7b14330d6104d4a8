//! Outlier detection (`envoy.config.cluster.v3.OutlierDetection`).

use std::time::Duration;

use proto::envoy::config::cluster::v3 as pb;
use proto::google::protobuf::UInt32Value;

use crate::config::error::{At, ConfigError, Context};
use crate::config::value;
use crate::{refuse_set, warn_set};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
const DEFAULT_BASE_EJECTION_TIME: Duration = Duration::from_secs(30);
const DEFAULT_MAX_EJECTION_TIME: Duration = Duration::from_secs(300);

/// When hosts are ejected for what their answers look like, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierDetection {
    /// `consecutive_5xx`; default 5, always enforced unless told otherwise.
    pub consecutive_5xx: Consecutive,
    /// `consecutive_gateway_failure`; default 5, not enforced unless told.
    pub consecutive_gateway_failure: Consecutive,
    /// `consecutive_local_origin_failure`; default 5. Counts only with `split_local_origin`.
    pub consecutive_local_origin_failure: Consecutive,
    /// `split_external_local_origin_errors`
    pub split_local_origin: bool,
    /// `success_rate_*`
    pub success_rate: SuccessRate,
    /// `failure_percentage_*`
    pub failure_percentage: FailurePercentage,
    /// `interval` of the sweeps; default 10 s.
    pub interval: Duration,
    /// `base_ejection_time`; default 30 s.
    pub base_ejection_time: Duration,
    /// `max_ejection_time`; default 300 s, at least the base.
    pub max_ejection_time: Duration,
    /// `max_ejection_time_jitter`; default 0.
    pub max_ejection_time_jitter: Duration,
    /// `max_ejection_percent`; default 10.
    pub max_ejection_percent: u32,
    /// `always_eject_one_host`: whatever the percentage says.
    pub always_eject_one_host: bool,
    /// `successful_active_health_check_uneject_host`; default true.
    pub uneject_on_health_check: bool,
}

/// A detector of errors in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consecutive {
    /// How many make an outlier.
    pub threshold: u32,
    /// `enforcing_*`: how often an outlier is ejected, in percent.
    pub enforcing: u32,
}

/// The detector of hosts whose success rate is far below the others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// Hosts that must have the volume; default 5.
    pub minimum_hosts: u32,
    /// Requests that a host must have had in an interval; default 100.
    pub request_volume: u32,
    /// By how many thousandths of the standard deviation a host may be below the mean; default 1900.
    pub stdev_factor: u32,
    /// `enforcing_success_rate`, percent; default 100.
    pub enforcing: u32,
    /// `enforcing_local_origin_success_rate`, percent; default 100.
    pub enforcing_local_origin: u32,
}

/// The detector of hosts with a high share of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    /// The share in percent; default 85.
    pub threshold: u32,
    /// Hosts that must have the volume; default 5.
    pub minimum_hosts: u32,
    /// Requests that a host must have had in an interval; default 50.
    pub request_volume: u32,
    /// `enforcing_failure_percentage`, percent; default 0.
    pub enforcing: u32,
    /// `enforcing_failure_percentage_local_origin`, percent; default 0.
    pub enforcing_local_origin: u32,
}

fn number(value: Option<UInt32Value>, default: u32) -> u32 {
    value.map_or(default, |value| value.value)
}

impl OutlierDetection {
    /// Translates an `OutlierDetection`.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported.
    pub(super) fn from_proto(
        message: &pb::OutlierDetection,
        at: &At<'_>,
        context: &Context,
    ) -> Result<OutlierDetection, ConfigError> {
        refuse_set!(at, message, [monitors]);
        let reason = "degraded hosts are told by health checks and EDS";
        warn_set!(context, at, message, [detect_degraded_hosts], reason);
        let consecutive = |threshold, enforcing, default| Consecutive {
            threshold: number(threshold, 5),
            enforcing: number(enforcing, default),
        };
        let base =
            value::positive_duration(message.base_ejection_time, &at.field("base_ejection_time"))?;
        let base = base.unwrap_or(DEFAULT_BASE_EJECTION_TIME);
        let at_max = at.field("max_ejection_time");
        let max = match value::positive_duration(message.max_ejection_time, &at_max)? {
            None => DEFAULT_MAX_EJECTION_TIME.max(base),
            Some(max) if max < base => {
                return Err(at_max.error(format_args!("{max:?} is below the base of {base:?}")));
            }
            Some(max) => max,
        };
        let at_jitter = at.field("max_ejection_time_jitter");
        Ok(OutlierDetection {
            consecutive_5xx: consecutive(
                message.consecutive_5xx,
                message.enforcing_consecutive_5xx,
                100,
            ),
            consecutive_gateway_failure: consecutive(
                message.consecutive_gateway_failure,
                message.enforcing_consecutive_gateway_failure,
                0,
            ),
            consecutive_local_origin_failure: consecutive(
                message.consecutive_local_origin_failure,
                message.enforcing_consecutive_local_origin_failure,
                100,
            ),
            split_local_origin: message.split_external_local_origin_errors,
            success_rate: SuccessRate::from_proto(message),
            failure_percentage: FailurePercentage::from_proto(message),
            interval: value::positive_duration(message.interval, &at.field("interval"))?
                .unwrap_or(DEFAULT_INTERVAL),
            base_ejection_time: base,
            max_ejection_time: max,
            max_ejection_time_jitter: value::duration(
                message.max_ejection_time_jitter,
                &at_jitter,
            )?
            .unwrap_or_default(),
            max_ejection_percent: number(message.max_ejection_percent, 10),
            always_eject_one_host: message.always_eject_one_host.is_some_and(|v| v.value),
            uneject_on_health_check: message
                .successful_active_health_check_uneject_host
                .is_none_or(|v| v.value),
        })
    }
}

impl SuccessRate {
    fn from_proto(message: &pb::OutlierDetection) -> SuccessRate {
        SuccessRate {
            minimum_hosts: number(message.success_rate_minimum_hosts, 5),
            request_volume: number(message.success_rate_request_volume, 100),
            stdev_factor: number(message.success_rate_stdev_factor, 1900),
            enforcing: number(message.enforcing_success_rate, 100),
            enforcing_local_origin: number(message.enforcing_local_origin_success_rate, 100),
        }
    }
}

impl FailurePercentage {
    fn from_proto(message: &pb::OutlierDetection) -> FailurePercentage {
        FailurePercentage {
            threshold: number(message.failure_percentage_threshold, 85),
            minimum_hosts: number(message.failure_percentage_minimum_hosts, 5),
            request_volume: number(message.failure_percentage_request_volume, 50),
            enforcing: number(message.enforcing_failure_percentage, 0),
            enforcing_local_origin: number(message.enforcing_failure_percentage_local_origin, 0),
        }
    }
}
