//! `envoy.filters.http.adaptive_concurrency`: as many requests at a time as their latency allows.

use std::cell::Cell;
use std::sync::Arc;

use http::StatusCode;
use proto::envoy::config::core::v3::RuntimeFeatureFlag;
use proto::envoy::extensions::filters::http::adaptive_concurrency::v3::AdaptiveConcurrency as Message;
use proto::envoy::extensions::filters::http::adaptive_concurrency::v3::adaptive_concurrency::ConcurrencyControllerConfig;
use tokio::time::Instant;

use super::admission_control::is_enabled;
use super::{Blueprint, Build, Decoded, End, HttpFilter, Registration, Request};
use crate::config::{At, ConfigError, any, value};
use crate::http::local_reply::LocalReply;
use crate::stat_group;

mod controller;
mod latencies;
mod parameters;

use controller::Controller;
use parameters::Parameters;

/// Its entry in the table.
pub(super) const FILTER: Registration = Registration {
    config: "envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency",
    translate: |config, at, _| {
        let config = Config::from_proto(any::open(config, at)?, at)?;
        Ok(Box::new(config) as Box<dyn Blueprint>)
    },
    route: None,
};

stat_group! {
    /// `http.<stat_prefix>.adaptive_concurrency.gradient_controller.`
    pub struct GradientStats {
        gauge burst_queue_size,
        gauge concurrency_limit,
        gauge gradient,
        gauge min_rtt_calculation_active,
        gauge min_rtt_msecs,
        counter rq_blocked,
        gauge sample_rtt_msecs,
    }
}

/// The filter's configuration.
#[derive(Debug)]
struct Config {
    enabled: Option<RuntimeFeatureFlag>,
    parameters: Parameters,
    /// `concurrency_limit_exceeded_status`; default 503.
    status: StatusCode,
}

impl Config {
    fn from_proto(message: Message, at: &At<'_>) -> Result<Config, ConfigError> {
        let at_controller = at.field("gradient_controller_config");
        let ConcurrencyControllerConfig::GradientControllerConfig(controller) =
            value::required(&message.concurrency_controller_config, &at_controller)?;
        let parameters = Parameters::from_proto(controller, &at_controller)?;
        let code = message.concurrency_limit_exceeded_status.map_or(0, |status| status.code);
        let status = u16::try_from(code).ok().filter(|code| (400..600).contains(code));
        let status = status.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        Ok(Config { enabled: message.enabled, parameters, status })
    }
}

impl Blueprint for Config {
    fn build(&self, build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
        let prefix = format!("{}adaptive_concurrency.gradient_controller.", build.stat_prefix);
        let stats = build.stats.get(build.store, prefix, GradientStats::new);
        Ok(Arc::new(Filter {
            enabled: is_enabled(self.enabled.as_ref(), build.runtime),
            controller: Controller::start(self.parameters.clone(), stats),
            status: self.status,
        }))
    }
}

struct Filter {
    enabled: bool,
    controller: Arc<Controller>,
    status: StatusCode,
}

/// A request that is under way. One that never comes to its end is no sample of latency.
struct Sample {
    controller: Arc<Controller>,
    started: Instant,
    is_recorded: Cell<bool>,
}

impl Drop for Sample {
    fn drop(&mut self) {
        if !self.is_recorded.get() {
            self.controller.cancel();
        }
    }
}

impl HttpFilter for Filter {
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a> {
        if !self.enabled {
            return Decoded::Continue;
        }
        if !self.controller.admit() {
            let (details, body) = ("reached_concurrency_limit", "reached concurrency limit");
            return Decoded::Reply(LocalReply::new(self.status, details, body));
        }
        request.keep(Box::new(Sample {
            controller: Arc::clone(&self.controller),
            started: Instant::now(),
            is_recorded: Cell::new(false),
        }));
        Decoded::Continue
    }

    fn end(&self, end: &End<'_>) {
        if let (true, Some(sample)) = (end.complete, end.kept::<Sample>()) {
            sample.is_recorded.set(true);
            self.controller.record(sample.started, Instant::now());
        }
    }
}
