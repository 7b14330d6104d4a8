//! `envoy.filters.http.admission_control`: the fewer requests succeed, the more of them are refused here already.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use proto::envoy::config::core::v3::{RuntimeFeatureFlag, RuntimePercent};
use proto::envoy::extensions::filters::http::admission_control::v3::AdmissionControl as Message;
use proto::envoy::extensions::filters::http::admission_control::v3::admission_control::{
    EvaluationCriteria, SuccessCriteria,
};

use super::{Blueprint, Build, Decoded, End, HttpFilter, Registration, Request, Response};
use crate::config::bootstrap::{Runtime, runtime_flag, runtime_number};
use crate::config::{At, ConfigError, any, value};
use crate::http::local_reply::LocalReply;
use crate::route::request::is_grpc;
use crate::stat_group;

mod history;

use history::{Counts, History};

/// Its entry in the table.
pub(super) const FILTER: Registration = Registration {
    config: "envoy.extensions.filters.http.admission_control.v3.AdmissionControl",
    translate: |config, at, _| {
        let config = Config::from_proto(any::open(config, at)?, at)?;
        Ok(Box::new(config) as Box<dyn Blueprint>)
    },
    route: None,
};

stat_group! {
    /// `http.<stat_prefix>.admission_control.`
    pub struct AdmissionStats {
        counter rq_failure,
        counter rq_rejected,
        counter rq_success,
    }
}

const DEFAULT_WINDOW: Duration = Duration::from_secs(30);

/// The filter's configuration. What may come from the runtime is read when the filter is built.
#[derive(Debug)]
struct Config {
    message: Message,
    window: Duration,
    success: Success,
}

/// What counts as a success.
#[derive(Clone, Debug)]
struct Success {
    http: Vec<Range<u16>>,
    grpc: Vec<u32>,
}

/// The numbers that refusals follow from.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rule {
    /// At least 1; default 1.
    aggression: f64,
    /// `sr_threshold` as a share of 1; default 0.95.
    threshold: f64,
    /// `rps_threshold`: below so many requests a second none is refused.
    min_rps: u64,
    /// `max_rejection_probability` as a share of 1; default 0.8.
    max: f64,
}

impl Rule {
    /// The probability with which the next request is refused.
    fn rejection(&self, counts: Counts) -> f64 {
        let total = counts.requests as f64;
        let surplus = total - counts.successes as f64 / self.threshold;
        if surplus <= 0.0 {
            return 0.0;
        }
        (surplus / (total + 1.0)).powf(1.0 / self.aggression).min(self.max)
    }

    fn read(message: &Message, runtime: &Runtime) -> Rule {
        let percent = |field: Option<&RuntimePercent>, default: f64| {
            let value = field.and_then(|field| field.default_value.as_ref());
            let value = value.map_or(default, |value| value.value);
            let value = field.map_or(value, |f| runtime_number(runtime, &f.runtime_key, value));
            value.clamp(0.0, 100.0) / 100.0
        };
        let aggression = message.aggression.as_ref();
        let aggression = aggression
            .map_or(1.0, |field| runtime_number(runtime, &field.runtime_key, field.default_value));
        let rps = message.rps_threshold.as_ref();
        let rps = rps.map_or(0.0, |field| {
            runtime_number(runtime, &field.runtime_key, field.default_value.into())
        });
        Rule {
            aggression: aggression.max(1.0),
            threshold: percent(message.sr_threshold.as_ref(), 95.0),
            min_rps: rps as u64,
            max: percent(message.max_rejection_probability.as_ref(), 80.0),
        }
    }
}

impl Config {
    fn from_proto(message: Message, at: &At<'_>) -> Result<Config, ConfigError> {
        let at_window = at.field("sampling_window");
        let window = value::duration(message.sampling_window, &at_window)?;
        let window = Duration::from_secs(window.unwrap_or(DEFAULT_WINDOW).as_secs());
        if window.is_zero() {
            return Err(at_window.error("is shorter than 1s"));
        }
        let criteria =
            value::required(&message.evaluation_criteria, &at.field("success_criteria"))?;
        let EvaluationCriteria::SuccessCriteria(criteria) = criteria;
        let success = Success::from_proto(criteria, &at.field("success_criteria"))?;
        let threshold = message.sr_threshold.as_ref().and_then(|field| field.default_value);
        if threshold.is_some_and(|percent| percent.value < 1.0) {
            return Err(at.field("sr_threshold").error("must be at least 1 %"));
        }
        let percents = [
            ("sr_threshold", message.sr_threshold.as_ref()),
            ("max_rejection_probability", message.max_rejection_probability.as_ref()),
        ];
        for (field, percent) in percents {
            let percent = percent.and_then(|percent| percent.default_value.as_ref());
            percent.map(|percent| value::percent(percent, &at.field(field))).transpose()?;
        }
        Ok(Config { window, success, message })
    }
}

impl Success {
    fn from_proto(message: &SuccessCriteria, at: &At<'_>) -> Result<Success, ConfigError> {
        let http = match &message.http_criteria {
            // Everything that is no failure of a server.
            None => std::iter::once(100..500).collect(),
            Some(criteria) => {
                let at = at.field("http_criteria");
                let ranges = &criteria.http_success_status;
                let ranges = ranges.iter().enumerate().map(|(index, range)| {
                    let valid = |code: i32| u16::try_from(code).ok().filter(|c| *c <= 600);
                    let bounds = (valid(range.start), valid(range.end));
                    match bounds {
                        (Some(start), Some(end)) if (100..600).contains(&start) && start <= end => {
                            Ok(start..end)
                        }
                        _ => {
                            let at = at.index("http_success_status", index);
                            let (start, end) = (range.start, range.end);
                            Err(at
                                .error(format_args!("{start} to {end} is not within 100 and 600")))
                        }
                    }
                });
                ranges.collect::<Result<Vec<_>, _>>()?
            }
        };
        let grpc = match &message.grpc_criteria {
            None => GRPC_SUCCESS.to_vec(),
            Some(criteria) => {
                let codes = &criteria.grpc_success_status;
                if let Some(code) = codes.iter().find(|code| **code > 16) {
                    let at = at.field("grpc_criteria");
                    let at = at.field("grpc_success_status");
                    return Err(at.error(format_args!("{code} is no gRPC status")));
                }
                codes.clone()
            }
        };
        Ok(Success { http, grpc })
    }

    fn of_http(&self, status: StatusCode) -> bool {
        self.http.iter().any(|range| range.contains(&status.as_u16()))
    }

    fn of_grpc(&self, headers: &HeaderMap) -> bool {
        grpc_status(headers).is_some_and(|status| self.grpc.contains(&status))
    }
}

/// The statuses that Envoy takes for no failure of a server.
const GRPC_SUCCESS: [u32; 11] = [0, 1, 2, 3, 5, 6, 7, 9, 11, 12, 16];

fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

impl Blueprint for Config {
    fn build(&self, build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
        let prefix = format!("{}admission_control.", build.stat_prefix);
        Ok(Arc::new(Filter {
            enabled: is_enabled(self.message.enabled.as_ref(), build.runtime),
            rule: Rule::read(&self.message, build.runtime),
            success: self.success.clone(),
            history: Mutex::new(History::new(self.window)),
            stats: build.stats.get(build.store, prefix, AdmissionStats::new),
        }))
    }
}

/// Whether a filter is on: it is unless its flag says otherwise.
pub(super) fn is_enabled(flag: Option<&RuntimeFeatureFlag>, runtime: &Runtime) -> bool {
    flag.is_none_or(|flag| {
        let default = flag.default_value.is_none_or(|value| value.value);
        runtime_flag(runtime, &flag.runtime_key, default)
    })
}

struct Filter {
    enabled: bool,
    rule: Rule,
    success: Success,
    /// Of all workers; held for a few additions.
    history: Mutex<History>,
    stats: Arc<AdmissionStats>,
}

/// What is kept of a request that counts: whether its gRPC status is still to come, in trailers.
struct Counted(std::cell::Cell<bool>);

impl Filter {
    /// Whether a request is refused; `random` is below 10,000.
    fn rejects(&self, now: Instant, random: u32) -> bool {
        let mut history = self.history.lock();
        if history.average_rps(now) < self.rule.min_rps {
            return false;
        }
        let probability = self.rule.rejection(history.counts(now));
        probability * f64::from(ACCURACY) > f64::from(random)
    }

    fn record(&self, now: Instant, success: bool) {
        match success {
            true => self.stats.rq_success.inc(),
            false => self.stats.rq_failure.inc(),
        }
        self.history.lock().record(now, success);
    }
}

/// Probabilities have four digits.
const ACCURACY: u32 = 10_000;

impl HttpFilter for Filter {
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a> {
        if !self.enabled {
            return Decoded::Continue;
        }
        if self.rejects(Instant::now(), fastrand::u32(..ACCURACY)) {
            self.stats.rq_rejected.inc();
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Decoded::Reply(LocalReply::new(status, "denied_by_admission_control", ""));
        }
        request.keep(Box::new(Counted(std::cell::Cell::new(false))));
        Decoded::Continue
    }

    fn encode(&self, response: &mut Response<'_>) {
        let Some(Counted(waits)) = response.kept() else { return };
        let headers = &response.head.headers;
        let success = if !is_grpc(headers) {
            self.success.of_http(response.head.status)
        } else if grpc_status(headers).is_some() {
            self.success.of_grpc(headers)
        } else {
            return waits.set(true);
        };
        self.record(Instant::now(), success);
    }

    fn end(&self, end: &End<'_>) {
        if end.kept().is_some_and(|Counted(waits)| waits.get())
            && let Some(trailers) = end.trailers
        {
            self.record(Instant::now(), self.success.of_grpc(trailers));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(aggression: f64, threshold: f64) -> Rule {
        Rule { aggression, threshold, min_rps: 0, max: 0.8 }
    }

    #[test]
    fn rejections_follow_envoys_formula() {
        let counts = |requests, successes| Counts { requests, successes };
        let rejection = |rule: Rule, requests, successes| {
            (rule.rejection(counts(requests, successes)) * 1e4).round() / 1e4
        };
        assert_eq!(rejection(rule(1.0, 0.95), 0, 0), 0.0);
        assert_eq!(rejection(rule(1.0, 0.95), 100, 100), 0.0);
        assert_eq!(rejection(rule(1.0, 0.95), 100, 95), 0.0);
        // (100 - 50 / 0.95) / 101
        assert_eq!(rejection(rule(1.0, 0.95), 100, 50), 0.469);
        // The square root of it.
        assert_eq!(rejection(rule(2.0, 0.95), 100, 50), 0.6848);
        assert_eq!(rejection(rule(1.0, 0.95), 1000, 0), 0.8);
    }

    fn filter(min_rps: u64) -> Filter {
        Filter {
            enabled: true,
            rule: Rule { min_rps, ..rule(1.0, 0.95) },
            success: Success { http: std::iter::once(100..500).collect(), grpc: vec![0] },
            history: Mutex::new(History::new(Duration::from_secs(10))),
            stats: Arc::new(AdmissionStats::new("")),
        }
    }

    #[test]
    fn random_numbers_below_the_probability_are_refused() {
        let now = Instant::now();
        let filter = filter(0);
        (0..50).for_each(|_| filter.record(now, true));
        (0..50).for_each(|_| filter.record(now, false));
        assert!(filter.rejects(now, 4689));
        assert!(!filter.rejects(now, 4690));
        // What is older than the window no longer counts.
        assert!(!filter.rejects(now + Duration::from_secs(10), 0));
    }

    #[test]
    fn nothing_is_refused_below_the_rate() {
        let now = Instant::now();
        let filter = filter(10);
        (0..99).for_each(|_| filter.record(now, false));
        assert!(!filter.rejects(now, 0));
        filter.record(now, false);
        assert!(filter.rejects(now, 0));
    }
}
