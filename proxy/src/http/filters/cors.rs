//! `envoy.filters.http.cors`: which pages of other origins may read responses (the Fetch standard's CORS protocol).

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proto::envoy::extensions::filters::http::cors::v3 as pb;
use proto::google::protobuf::Any;

use super::{Blueprint, Build, Decoded, HttpFilter, Registration, Request, Response, falls_within};
use crate::config::http_filter::Opaque;
use crate::config::matcher::StringMatcher;
use crate::config::{At, ConfigError, Context, any, value};
use crate::http::local_reply::LocalReply;
use crate::stat_group;

/// Its entry in the table.
pub(super) const FILTER: Registration = Registration {
    config: "envoy.extensions.filters.http.cors.v3.Cors",
    translate: |config, at, _| {
        let pb::Cors {} = any::open(config, at)?;
        Ok(Box::new(Config) as Box<dyn Blueprint>)
    },
    route: Some(("envoy.extensions.filters.http.cors.v3.CorsPolicy", route)),
};

stat_group! {
    /// `http.<stat_prefix>.cors.`
    pub struct CorsStats {
        counter origin_valid,
        counter origin_invalid,
    }
}

const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");
const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// `CorsPolicy`
#[derive(Debug)]
struct Policy {
    /// `allow_origin_string_match`
    origins: Box<[StringMatcher]>,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    /// `allow_credentials`
    credentials: bool,
    /// `allow_private_network_access`
    private_network: bool,
    /// `filter_enabled` as numerator and denominator; default all.
    enabled: (u32, u32),
    /// `shadow_enabled`: origins are counted, and nothing else happens; default none.
    shadow: (u32, u32),
    /// `forward_not_matching_preflights`; default true.
    forwards: bool,
}

fn route(config: &Any, at: &At<'_>, context: &Context) -> Result<Opaque, ConfigError> {
    let message: pb::CorsPolicy = any::open(config, at)?;
    let text = |field: &str, text: &str| match text {
        "" => Ok(None),
        text => HeaderValue::from_str(text)
            .map(Some)
            .map_err(|_| at.field(field).error("cannot stand in a header")),
    };
    let origins = message.allow_origin_string_match.iter().enumerate();
    let origins = origins.map(|(index, origin)| {
        StringMatcher::from_proto(origin, &at.index("allow_origin_string_match", index), context)
    });
    let share = |field: &str, share: &Option<_>, default| {
        value::share(share.as_ref(), default, &at.field(field), context)
    };
    let forwards = message.forward_not_matching_preflights;
    Ok(Opaque::new(Policy {
        origins: origins.collect::<Result<_, _>>()?,
        methods: text("allow_methods", &message.allow_methods)?,
        headers: text("allow_headers", &message.allow_headers)?,
        exposed: text("expose_headers", &message.expose_headers)?,
        max_age: text("max_age", &message.max_age)?,
        credentials: message.allow_credentials.is_some_and(|allow| allow.value),
        private_network: message.allow_private_network_access.is_some_and(|allow| allow.value),
        enabled: share("filter_enabled", &message.filter_enabled, (100, 100))?,
        shadow: share("shadow_enabled", &message.shadow_enabled, (0, 100))?,
        forwards: forwards.is_none_or(|forwards| forwards.value),
    }))
}

#[derive(Debug)]
struct Config;

impl Blueprint for Config {
    fn build(&self, build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
        let prefix = format!("{}cors.", build.stat_prefix);
        Ok(Arc::new(Filter { stats: build.stats.get(build.store, prefix, CorsStats::new) }))
    }
}

struct Filter {
    stats: Arc<CorsStats>,
}

/// The origin of a request that may read its response.
struct Allowed(HeaderValue);

impl HttpFilter for Filter {
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a> {
        let config = request.config.clone();
        let Some(policy) = config.as_ref().and_then(Opaque::get::<Policy>) else {
            return Decoded::Continue;
        };
        let enabled = falls_within(policy.enabled);
        if !enabled && !falls_within(policy.shadow) {
            return Decoded::Continue;
        }
        let headers = &request.parts.headers;
        let Some(origin) = headers.get(ORIGIN).filter(|origin| !origin.is_empty()).cloned() else {
            return Decoded::Continue;
        };
        let is_preflight = request.parts.method == Method::OPTIONS
            && headers.get(ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|method| !method.is_empty());
        if !policy.allows(&origin) {
            self.stats.origin_invalid.inc();
            return match enabled && is_preflight && !policy.forwards {
                true => Decoded::Reply(LocalReply::new(StatusCode::OK, "cors_response", "")),
                false => Decoded::Continue,
            };
        }
        self.stats.origin_valid.inc();
        if !enabled {
            return Decoded::Continue;
        }
        let wants_private =
            headers.get(REQUEST_PRIVATE_NETWORK).is_some_and(|private| private == "true");
        request.keep(Box::new(Allowed(origin.clone())));
        if !is_preflight {
            return Decoded::Continue;
        }
        let mut reply = LocalReply::new(StatusCode::OK, "cors_response", "");
        let told = [
            (ACCESS_CONTROL_ALLOW_METHODS, policy.methods.clone()),
            (ACCESS_CONTROL_ALLOW_HEADERS, policy.headers.clone()),
            (ACCESS_CONTROL_MAX_AGE, policy.max_age.clone()),
            (ALLOW_PRIVATE_NETWORK, (wants_private && policy.private_network).then_some(TRUE)),
        ];
        reply.headers.extend(told.into_iter().filter_map(|(name, value)| Some((name, value?))));
        Decoded::Reply(reply)
    }

    fn encode(&self, response: &mut Response<'_>) {
        let Some(Allowed(origin)) = response.kept::<Allowed>() else { return };
        let origin = origin.clone();
        let Some(policy) = response.config.clone() else { return };
        if let Some(policy) = policy.get::<Policy>() {
            policy.tell(origin, &mut response.head.headers);
        }
    }
}

impl Policy {
    fn allows(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        self.origins.iter().any(|allowed| allowed.matches(origin))
    }

    /// Tells the page what it may read.
    fn tell(&self, origin: HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(exposed) = &self.exposed {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }
}
