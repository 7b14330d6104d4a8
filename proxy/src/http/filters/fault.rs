//! `envoy.filters.http.fault`: delays and failures on purpose, to see how callers bear them.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};
use proto::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use proto::envoy::extensions::filters::http::fault::v3 as pb;
use proto::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use proto::google::protobuf::Any;

use super::{Blueprint, Build, Decoded, HttpFilter, Registration, Request, falls_within, view};
use crate::config::http_filter::Opaque;
use crate::config::matcher::HeaderMatcher;
use crate::config::{At, ConfigError, Context, any, value};
use crate::http::local_reply::LocalReply;
use crate::http::sanitize::names;
use crate::telemetry::response_flags::ResponseFlags;
use crate::telemetry::stats::Gauge;
use crate::{refuse_set, stat_group, warn_set};

/// Its entry in the table.
pub(super) const FILTER: Registration = Registration {
    config: "envoy.extensions.filters.http.fault.v3.HTTPFault",
    translate: |config, at, context| {
        let faults = Faults::from_proto(&any::open(config, at)?, at, context)?;
        Ok(Box::new(Config(Arc::new(faults))) as Box<dyn Blueprint>)
    },
    route: Some(("envoy.extensions.filters.http.fault.v3.HTTPFault", route)),
};

stat_group! {
    /// `http.<stat_prefix>.fault.`
    pub struct FaultStats {
        counter delays_injected,
        counter aborts_injected,
        counter faults_overflow,
        counter response_rl_injected,
        gauge active_faults,
    }
}

const DELAY: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request");
const DELAY_SHARE: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request-percentage");
const ABORT: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request");
const ABORT_GRPC: HeaderName = HeaderName::from_static("x-envoy-fault-abort-grpc-request");
const ABORT_SHARE: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request-percentage");

/// `HTTPFault`
#[derive(Debug)]
struct Faults {
    delay: Option<Delay>,
    abort: Option<Abort>,
    /// `upstream_cluster`: requests to other clusters have no faults; empty for all.
    cluster: Box<str>,
    /// `headers`, all of which must match.
    headers: Box<[HeaderMatcher]>,
    /// `downstream_nodes`; empty for all.
    nodes: Box<[Box<str>]>,
    /// `max_active_faults`
    most: Option<u64>,
}

/// `FaultDelay`
#[derive(Debug)]
struct Delay {
    /// How long; none if the request's header says.
    fixed: Option<Duration>,
    share: (u32, u32),
}

/// `FaultAbort`
#[derive(Debug)]
struct Abort {
    how: Failure,
    share: (u32, u32),
    /// `response_body`
    body: Box<str>,
}

#[derive(Clone, Copy, Debug)]
enum Failure {
    Http(StatusCode),
    Grpc(u8),
    /// The request's headers say.
    ByHeader,
}

impl Faults {
    fn from_proto(
        message: &pb::HttpFault,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Faults, ConfigError> {
        refuse_set!(at, message, [response_rate_limit]);
        let reason = "the configured value is always used";
        warn_set!(context, at, message, [delay_percent_runtime, abort_percent_runtime], reason);
        warn_set!(
            context,
            at,
            message,
            [delay_duration_runtime, abort_http_status_runtime],
            reason
        );
        warn_set!(context, at, message, [max_active_faults_runtime], reason);
        warn_set!(context, at, message, [response_rate_limit_percent_runtime], reason);
        warn_set!(context, at, message, [abort_grpc_status_runtime], reason);
        let reason = "there are no statistics of downstream clusters";
        warn_set!(context, at, message, [disable_downstream_cluster_stats], reason);
        warn_set!(context, at, message, [filter_metadata], "nothing in Pillion reads it");
        let headers = message.headers.iter().enumerate();
        let headers = headers.map(|(index, header)| {
            HeaderMatcher::from_proto(header, &at.index("headers", index), context)
        });
        Ok(Faults {
            delay: Delay::from_proto(message, at)?,
            abort: Abort::from_proto(message, at)?,
            cluster: message.upstream_cluster.as_str().into(),
            headers: headers.collect::<Result<_, _>>()?,
            nodes: message.downstream_nodes.iter().map(|node| node.as_str().into()).collect(),
            most: message.max_active_faults.map(|most| most.value.into()),
        })
    }

    /// Whether the request may have a fault at all.
    fn concern(&self, request: &Request<'_>) -> bool {
        let Request { parts, stream, .. } = request;
        let node = || parts.headers.get(&names::X_ENVOY_DOWNSTREAM_SERVICE_NODE)?.to_str().ok();
        let protocol = stream.shared.info.borrow().protocol;
        let seen = view(parts, stream.scheme, protocol);
        (self.cluster.is_empty()
            || request.cluster().is_some_and(|cluster| **cluster.name() == *self.cluster))
            && (self.nodes.is_empty()
                || node().is_some_and(|node| self.nodes.iter().any(|known| **known == *node)))
            && self.headers.iter().all(|header| header.matches(&seen.pseudo, seen.headers))
    }
}

impl Delay {
    fn from_proto(message: &pb::HttpFault, at: &At<'_>) -> Result<Option<Delay>, ConfigError> {
        let Some(delay) = &message.delay else { return Ok(None) };
        let at = at.field("delay");
        let fixed = match value::required(&delay.fault_delay_secifier, &at)? {
            FaultDelaySecifier::FixedDelay(time) => {
                value::positive_duration(Some(*time), &at.field("fixed_delay"))?
            }
            FaultDelaySecifier::HeaderDelay(_) => None,
        };
        let percentage = delay.percentage.as_ref();
        let share = percentage.map(|share| value::fraction(share, &at.field("percentage")));
        Ok(Some(Delay { fixed, share: share.transpose()?.unwrap_or((0, 100)) }))
    }

    /// How long this request waits, if it does.
    fn chosen(&self, request: &Request<'_>) -> Option<Duration> {
        let by_header = || number(request, &DELAY).map(Duration::from_millis);
        let time = self.fixed.or_else(by_header).filter(|time| !time.is_zero())?;
        falls_within(share(self.share, request, &DELAY_SHARE)).then_some(time)
    }
}

impl Abort {
    fn from_proto(message: &pb::HttpFault, at: &At<'_>) -> Result<Option<Abort>, ConfigError> {
        let Some(abort) = &message.abort else { return Ok(None) };
        let at = at.field("abort");
        let how = match value::required(&abort.error_type, &at)? {
            ErrorType::HttpStatus(code) => {
                let at = at.field("http_status");
                let code = u16::try_from(*code).ok().filter(|code| (200..600).contains(code));
                let code = code.and_then(|code| StatusCode::from_u16(code).ok());
                Failure::Http(code.ok_or_else(|| at.error("must be within 200 and 599"))?)
            }
            ErrorType::GrpcStatus(code) => Failure::Grpc(u8::try_from(*code).unwrap_or(2)),
            ErrorType::HeaderAbort(_) => Failure::ByHeader,
        };
        let percentage = abort.percentage.as_ref();
        let share = percentage.map(|share| value::fraction(share, &at.field("percentage")));
        let body = match abort.response_body.as_str() {
            "" => "fault filter abort",
            body => body,
        };
        Ok(Some(Abort { how, share: share.transpose()?.unwrap_or((0, 100)), body: body.into() }))
    }

    /// The failure of this request, if it has one.
    fn chosen(&self, request: &Request<'_>) -> Option<LocalReply> {
        let how = match self.how {
            Failure::ByHeader => by_header(request)?,
            how => how,
        };
        if !falls_within(share(self.share, request, &ABORT_SHARE)) {
            return None;
        }
        let (status, grpc) = match how {
            Failure::Http(status) => (status, None),
            Failure::Grpc(code) => (StatusCode::OK, Some(code)),
            Failure::ByHeader => return None,
        };
        let reply = LocalReply::new(status, "fault_filter_abort", self.body.to_string());
        let mut reply = reply.flag(ResponseFlags::FAULT_INJECTED);
        reply.grpc_status = grpc;
        Some(reply)
    }
}

/// The failure that the request asks for.
fn by_header(request: &Request<'_>) -> Option<Failure> {
    let http = || {
        let code = number(request, &ABORT).filter(|code| (200..600).contains(code))?;
        StatusCode::from_u16(u16::try_from(code).ok()?).ok().map(Failure::Http)
    };
    let grpc = || u8::try_from(number(request, &ABORT_GRPC)?).ok().map(Failure::Grpc);
    http().or_else(grpc)
}

/// The share of requests, which a request's header may make smaller.
fn share(
    (numerator, denominator): (u32, u32),
    request: &Request<'_>,
    name: &HeaderName,
) -> (u32, u32) {
    let wanted = number(request, name).and_then(|wanted| u32::try_from(wanted).ok());
    (wanted.map_or(numerator, |wanted| wanted.min(numerator)), denominator)
}

fn number(request: &Request<'_>, name: &HeaderName) -> Option<u64> {
    request.parts.headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The faults of a route, in place of the filter's; they count in the filter's statistics.
fn route(config: &Any, at: &At<'_>, context: &Context) -> Result<Opaque, ConfigError> {
    Ok(Opaque::new(Faults::from_proto(&any::open(config, at)?, at, context)?))
}

#[derive(Debug)]
struct Config(Arc<Faults>);

impl Blueprint for Config {
    fn build(&self, build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
        let prefix = format!("{}fault.", build.stat_prefix);
        let stats = build.stats.get(build.store, prefix, FaultStats::new);
        Ok(Arc::new(Filter { faults: Arc::clone(&self.0), stats }))
    }
}

struct Filter {
    faults: Arc<Faults>,
    stats: Arc<FaultStats>,
}

impl HttpFilter for Filter {
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a> {
        let route = request.config.clone();
        let faults = route.as_ref().and_then(Opaque::get).unwrap_or(&*self.faults);
        if faults.most.is_some_and(|most| self.stats.active_faults.get() >= most) {
            self.stats.faults_overflow.inc();
            return Decoded::Continue;
        }
        if !faults.concern(request) {
            return Decoded::Continue;
        }
        let delay = faults.delay.as_ref().and_then(|delay| delay.chosen(request));
        let abort = faults.abort.as_ref().and_then(|abort| abort.chosen(request));
        if delay.is_some() || abort.is_some() {
            request.keep(Box::new(Active::start(&self.stats)));
        }
        match (delay, abort) {
            (None, None) => Decoded::Continue,
            (None, Some(abort)) => {
                self.stats.aborts_injected.inc();
                Decoded::Reply(abort)
            }
            (Some(delay), abort) => {
                self.stats.delays_injected.inc();
                request.stream.flag(ResponseFlags::DELAY_INJECTED);
                Decoded::Later(Box::pin(async move {
                    tokio::time::sleep(delay).await;
                    match abort {
                        Some(abort) => {
                            self.stats.aborts_injected.inc();
                            Err(abort)
                        }
                        None => Ok(()),
                    }
                }))
            }
        }
    }
}

/// A fault that counts as active until its stream ends.
struct Active(Arc<FaultStats>);

impl Active {
    fn start(stats: &Arc<FaultStats>) -> Self {
        Gauge::inc(&stats.active_faults);
        Active(Arc::clone(stats))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active_faults.dec();
    }
}
