//! Protobuf to model: least request, slow start and client-side weights.

use std::time::Duration;

use proto::envoy::config::cluster::v3::cluster::SlowStartConfig as ClusterSlowStart;
use proto::envoy::config::core::v3::RuntimeDouble;
use proto::envoy::extensions::load_balancing_policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin;
use proto::envoy::extensions::load_balancing_policies::common::v3::SlowStartConfig;
use proto::envoy::r#type::v3::Percent;
use proto::google::protobuf;
use proto::google::protobuf::UInt32Value;

use super::{ClientSideWeighted, LbPolicy, LeastRequest, SlowStart};
use crate::config::error::{At, ConfigError, Context};
use crate::config::value;
use crate::{refuse_set, warn_set};

const DEFAULT_BLACKOUT: Duration = Duration::from_secs(10);
const DEFAULT_EXPIRATION: Duration = Duration::from_secs(180);
const DEFAULT_UPDATE: Duration = Duration::from_secs(1);
const SHORTEST_UPDATE: Duration = Duration::from_millis(100);

/// `SlowStartConfig`, which two packages have with the same fields.
pub(super) struct SlowStartFields {
    window: Option<protobuf::Duration>,
    aggression: Option<RuntimeDouble>,
    min_weight_percent: Option<Percent>,
}

impl From<&ClusterSlowStart> for SlowStartFields {
    fn from(message: &ClusterSlowStart) -> Self {
        SlowStartFields {
            window: message.slow_start_window,
            aggression: message.aggression.clone(),
            min_weight_percent: message.min_weight_percent,
        }
    }
}

impl From<&SlowStartConfig> for SlowStartFields {
    fn from(message: &SlowStartConfig) -> Self {
        SlowStartFields {
            window: message.slow_start_window,
            aggression: message.aggression.clone(),
            min_weight_percent: message.min_weight_percent,
        }
    }
}

impl SlowStartFields {
    /// The slow start; none if there is none or its window is 0. `at` is the message that has it.
    pub fn translate(
        fields: Option<SlowStartFields>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Option<SlowStart>, ConfigError> {
        let Some(fields) = fields else { return Ok(None) };
        let at = at.field("slow_start_config");
        let window = value::duration(fields.window, &at.field("slow_start_window"))?;
        let aggression = fields.aggression.map_or(1.0, |aggression| {
            runtime_key(&aggression, &at.field("aggression"), context);
            aggression.default_value
        });
        if aggression <= 0.0 || aggression.is_nan() {
            let rule = format_args!("{aggression} is not above 0");
            return Err(at.field("aggression").error(rule));
        }
        let min = fields.min_weight_percent;
        let min = min.map_or(Ok(10.0), |min| value::percent(&min, &at.field("min_weight_percent")));
        let min_weight = min? / 100.0;
        let window = window.filter(|window| !window.is_zero());
        Ok(window.map(|window| SlowStart { window, aggression, min_weight }))
    }
}

fn runtime_key(double: &RuntimeDouble, at: &At<'_>, context: &Context) {
    let reason = "the default_value is always used";
    warn_set!(context, at, double, [runtime_key], reason);
}

/// Least request with N choices.
pub(super) fn least_request(
    choice_count: Option<UInt32Value>,
    bias: Option<&RuntimeDouble>,
    slow_start: Option<SlowStart>,
    at: &At<'_>,
) -> Result<LbPolicy, ConfigError> {
    let default = LeastRequest::default();
    let at_count = at.field("choice_count");
    let choice_count = value::within(choice_count, default.choice_count, (2, u32::MAX), &at_count)?;
    let active_request_bias = bias.map_or(default.active_request_bias, |bias| bias.default_value);
    if active_request_bias < 0.0 || active_request_bias.is_nan() {
        return Err(at
            .field("active_request_bias")
            .error(format_args!("{active_request_bias} is not at least 0")));
    }
    let full_scan = false;
    Ok(LbPolicy::LeastRequest(LeastRequest {
        choice_count,
        full_scan,
        active_request_bias,
        slow_start,
    }))
}

/// `envoy.load_balancing_policies.client_side_weighted_round_robin`.
pub(super) fn client_side(
    message: &ClientSideWeightedRoundRobin,
    at: &At<'_>,
    context: &Context,
) -> Result<LbPolicy, ConfigError> {
    if message.enable_oob_load_report.is_some_and(|enabled| enabled.value) {
        return Err(at.field("enable_oob_load_report").unsupported());
    }
    refuse_set!(at, message, [oob_reporting_config]);
    let reason = "reports come with responses";
    warn_set!(context, at, message, [oob_reporting_period], reason);
    let or = |field: Option<protobuf::Duration>, name: &str, default: Duration| {
        value::duration(field, &at.field(name)).map(|duration| duration.unwrap_or(default))
    };
    let at_penalty = at.field("error_utilization_penalty");
    let error_penalty = message.error_utilization_penalty.map_or(1.0, |penalty| penalty.value);
    if error_penalty < 0.0 || error_penalty.is_nan() {
        return Err(at_penalty.error(format_args!("{error_penalty} is not at least 0")));
    }
    let slow_start = message.slow_start_config.as_ref().map(SlowStartFields::from);
    Ok(LbPolicy::ClientSideWeighted(ClientSideWeighted {
        blackout: or(message.blackout_period, "blackout_period", DEFAULT_BLACKOUT)?,
        expiration: or(
            message.weight_expiration_period,
            "weight_expiration_period",
            DEFAULT_EXPIRATION,
        )?,
        update: or(message.weight_update_period, "weight_update_period", DEFAULT_UPDATE)?
            .max(SHORTEST_UPDATE),
        error_penalty: error_penalty.into(),
        metrics: message
            .metric_names_for_computing_utilization
            .iter()
            .map(|name| name.as_str().into())
            .collect(),
        slow_start: SlowStartFields::translate(slow_start, at, context)?,
    }))
}
