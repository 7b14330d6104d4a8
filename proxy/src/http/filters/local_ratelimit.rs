//! `envoy.filters.http.local_ratelimit`: so many requests a time, counted in this process alone.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use proto::envoy::config::core::v3::{HeaderValueOption, RuntimeFractionalPercent};
use proto::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use proto::google::protobuf::Any;

use super::{Blueprint, Build, Decoded, HttpFilter, Registration, Request, falls_within};
use crate::config::headers::{HeaderAdd, HeaderMutations};
use crate::config::http_filter::Opaque;
use crate::config::{At, ConfigError, Context, any, value};
use crate::http::local_reply::LocalReply;
use crate::route::header_mutation;
use crate::telemetry::response_flags::ResponseFlags;
use crate::{refuse_set, stat_group, warn_set};

mod bucket;

use bucket::TokenBucket;

/// Its entry in the table.
pub(super) const FILTER: Registration = Registration {
    config: "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
    translate: |config, at, context| {
        let config = Limit::from_proto(&any::open(config, at)?, at, context)?;
        Ok(Box::new(Config(Arc::new(config))) as Box<dyn Blueprint>)
    },
    route: Some(("envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", route)),
};

stat_group! {
    /// `<stat_prefix>.http_local_rate_limit.`
    pub struct LimitStats {
        counter enabled,
        counter enforced,
        counter ok,
        counter rate_limited,
    }
}

/// A limit, with its bucket: all streams that it holds for, on all workers, draw from one.
#[derive(Debug)]
struct Limit {
    stat_prefix: Box<str>,
    status: StatusCode,
    /// `token_bucket`; without one nothing is limited.
    bucket: Option<TokenBucket>,
    /// `filter_enabled` and `filter_enforced` as numerator and denominator; default none of the requests.
    enabled: (u32, u32),
    enforced: (u32, u32),
    /// `request_headers_to_add_when_not_enforced`
    request_headers: HeaderMutations,
    /// `response_headers_to_add`
    response_headers: HeaderMutations,
    /// `rate_limited_as_resource_exhausted`
    resource_exhausted: bool,
}

/// gRPC's `RESOURCE_EXHAUSTED`
const RESOURCE_EXHAUSTED: u8 = 8;

impl Limit {
    fn from_proto(
        message: &LocalRateLimit,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Limit, ConfigError> {
        refuse_set!(at, message, [descriptors, rate_limits, local_cluster_rate_limit]);
        refuse_set!(at, message, [local_rate_limit_per_downstream_connection]);
        refuse_set!(at, message, [enable_x_ratelimit_headers, enable_retry_after_header]);
        let reason = "it is about descriptors, of which there are none";
        warn_set!(context, at, message, [stage, vh_rate_limits, max_dynamic_descriptors], reason);
        warn_set!(context, at, message, [always_consume_default_token_bucket], reason);
        let stat_prefix = value::non_empty(&message.stat_prefix, &at.field("stat_prefix"))?;
        let share = |field: &str, share: Option<&RuntimeFractionalPercent>| {
            value::share(share, (0, 100), &at.field(field), context)
        };
        let bucket = message.token_bucket.as_ref();
        let at_bucket = at.field("token_bucket");
        Ok(Limit {
            stat_prefix: stat_prefix.into(),
            status: status(message, at)?,
            bucket: bucket.map(|bucket| TokenBucket::from_proto(bucket, &at_bucket)).transpose()?,
            enabled: share("filter_enabled", message.filter_enabled.as_ref())?,
            enforced: share("filter_enforced", message.filter_enforced.as_ref())?,
            request_headers: added(
                "request_headers_to_add_when_not_enforced",
                &message.request_headers_to_add_when_not_enforced,
                at,
            )?,
            response_headers: added(
                "response_headers_to_add",
                &message.response_headers_to_add,
                at,
            )?,
            resource_exhausted: message.rate_limited_as_resource_exhausted,
        })
    }

    /// Whether there is a token for the request.
    fn has_room(&self) -> bool {
        self.bucket.as_ref().is_none_or(TokenBucket::take)
    }
}

/// The status of a refusal: as configured, but an error in any case.
fn status(message: &LocalRateLimit, at: &At<'_>) -> Result<StatusCode, ConfigError> {
    let Some(status) = &message.status else { return Ok(StatusCode::TOO_MANY_REQUESTS) };
    let at = at.field("status");
    let at = at.field("code");
    let code: proto::envoy::r#type::v3::StatusCode = value::enumeration(status.code, &at)?;
    let code = u16::try_from(code as i32).ok().filter(|code| *code >= 400);
    Ok(code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .unwrap_or(StatusCode::TOO_MANY_REQUESTS))
}

fn added(
    field: &str,
    options: &[HeaderValueOption],
    at: &At<'_>,
) -> Result<HeaderMutations, ConfigError> {
    let options = options.iter().enumerate();
    let add = options.map(|(i, option)| HeaderAdd::from_proto(option, &at.index(field, i)));
    Ok(HeaderMutations { remove: Vec::new(), add: add.collect::<Result<_, _>>()? })
}

/// The limit of a route, in place of the filter's; it counts in the filter's statistics.
fn route(config: &Any, at: &At<'_>, context: &Context) -> Result<Opaque, ConfigError> {
    Ok(Opaque::new(Limit::from_proto(&any::open(config, at)?, at, context)?))
}

#[derive(Debug)]
struct Config(Arc<Limit>);

impl Blueprint for Config {
    fn build(&self, build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
        let prefix = format!("{}.http_local_rate_limit.", self.0.stat_prefix);
        let stats = build.stats.get(build.store, prefix, LimitStats::new);
        Ok(Arc::new(Filter { limit: Arc::clone(&self.0), stats }))
    }
}

struct Filter {
    limit: Arc<Limit>,
    stats: Arc<LimitStats>,
}

impl HttpFilter for Filter {
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a> {
        let route = request.config.clone();
        let limit = route.as_ref().and_then(Opaque::get).unwrap_or(&*self.limit);
        if !falls_within(limit.enabled) {
            return Decoded::Continue;
        }
        self.stats.enabled.inc();
        if limit.has_room() {
            self.stats.ok.inc();
            return Decoded::Continue;
        }
        self.stats.rate_limited.inc();
        let Request { parts, stream, .. } = request;
        if !falls_within(limit.enforced) {
            stream.with_format(|context| {
                header_mutation::apply(&limit.request_headers, &mut parts.headers, context);
            });
            return Decoded::Continue;
        }
        self.stats.enforced.inc();
        let mut headers = HeaderMap::new();
        stream.with_format(|context| {
            header_mutation::apply(&limit.response_headers, &mut headers, context);
        });
        let reply = LocalReply::new(limit.status, "local_rate_limited", "local_rate_limited");
        let mut reply = reply.flag(ResponseFlags::RATE_LIMITED);
        reply.headers.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        reply.grpc_status = limit.resource_exhausted.then_some(RESOURCE_EXHAUSTED);
        Decoded::Reply(reply)
    }
}
