//! The numbers of `GradientControllerConfig`.

use std::time::Duration;

use proto::envoy::extensions::filters::http::adaptive_concurrency::v3::GradientControllerConfig;
use proto::envoy::extensions::filters::http::adaptive_concurrency::v3::gradient_controller_config::{
    ConcurrencyLimitCalculationParams, MinimumRttCalculationParams,
};
use proto::envoy::r#type::v3::Percent;

use crate::config::{At, ConfigError, value};

/// What the limit follows from.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// `sample_aggregate_percentile` as a share of 1; default 0.5.
    pub percentile: f64,
    /// `max_concurrency_limit`; default 1000.
    pub max: u32,
    /// `min_concurrency_limit`: a calculated limit is never less; default `min_concurrency`.
    pub floor: u32,
    /// `concurrency_update_interval`
    pub update: Duration,
    /// How the least latency is found out.
    pub min_rtt: MinRtt,
    /// `min_concurrency`, the limit while the least latency is measured; default 3.
    pub min: u32,
    /// `buffer` as a share of 1, by which latency may exceed the least one; default 0.25.
    pub buffer: f64,
}

/// How the least latency is found out.
#[derive(Clone, Debug, PartialEq)]
pub enum MinRtt {
    /// `fixed_value`
    Fixed(Duration),
    /// It is measured.
    Measured {
        /// `interval` from one measurement to the next.
        interval: Duration,
        /// `jitter` as a share of 1, by which the interval gets longer at most; default 0.15.
        jitter: f64,
        /// `request_count`; default 50.
        requests: u64,
    },
}

const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

impl Parameters {
    /// Translates the message.
    ///
    /// # Errors
    /// A number out of its range.
    pub fn from_proto(
        message: &GradientControllerConfig,
        at: &At<'_>,
    ) -> Result<Parameters, ConfigError> {
        let at_limit = at.field("concurrency_limit_params");
        let limit = value::required(&message.concurrency_limit_params, &at_limit)?;
        let at_rtt = at.field("min_rtt_calc_params");
        let rtt = value::required(&message.min_rtt_calc_params, &at_rtt)?;
        let percentile = message.sample_aggregate_percentile.as_ref();
        let (max, update, least) = limit_of(limit, &at_limit)?;
        let min =
            value::within(rtt.min_concurrency, 3, (1, u32::MAX), &at_rtt.field("min_concurrency"))?;
        Ok(Parameters {
            percentile: share(percentile, 50.0, &at.field("sample_aggregate_percentile"))?,
            max,
            floor: least.unwrap_or(min),
            update,
            min_rtt: MinRtt::from_proto(rtt, &at_rtt)?,
            min,
            buffer: share(rtt.buffer.as_ref(), 25.0, &at_rtt.field("buffer"))?,
        })
    }
}

type Limit = (u32, Duration, Option<u32>);

fn limit_of(
    message: &ConcurrencyLimitCalculationParams,
    at: &At<'_>,
) -> Result<Limit, ConfigError> {
    let any = (1, u32::MAX);
    let max = value::within(
        message.max_concurrency_limit,
        1000,
        any,
        &at.field("max_concurrency_limit"),
    )?;
    let at_update = at.field("concurrency_update_interval");
    let update = value::positive_duration(message.concurrency_update_interval, &at_update)?;
    let least = message.min_concurrency_limit;
    let least = least
        .map(|_| value::within(least, 3, any, &at.field("min_concurrency_limit")))
        .transpose()?;
    Ok((max, *value::required(&update, &at_update)?, least))
}

impl MinRtt {
    fn from_proto(
        message: &MinimumRttCalculationParams,
        at: &At<'_>,
    ) -> Result<MinRtt, ConfigError> {
        let fixed = value::positive_duration(message.fixed_value, &at.field("fixed_value"))?;
        let at_interval = at.field("interval");
        let interval = value::duration(message.interval, &at_interval)?;
        if interval.is_some_and(|interval| interval < SHORTEST_INTERVAL) {
            return Err(at_interval.error("is shorter than 1ms"));
        }
        let at_requests = at.field("request_count");
        let requests = value::within(message.request_count, 50, (1, u32::MAX), &at_requests)?;
        let jitter = share(message.jitter.as_ref(), 15.0, &at.field("jitter"))?;
        match (fixed, interval) {
            (Some(fixed), _) => Ok(MinRtt::Fixed(fixed)),
            (None, Some(interval)) => {
                Ok(MinRtt::Measured { interval, jitter, requests: requests.into() })
            }
            (None, None) => Err(at.error("interval or fixed_value is required")),
        }
    }
}

fn share(value: Option<&Percent>, default: f64, at: &At<'_>) -> Result<f64, ConfigError> {
    let percent = value.map(|value| value::percent(value, at)).transpose()?;
    Ok(percent.unwrap_or(default) / 100.0)
}
