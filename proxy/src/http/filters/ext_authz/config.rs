//! Translating `ExtAuthz`.

use std::collections::HashMap;

use http::StatusCode;
use proto::envoy::config::core::v3::http_uri::HttpUpstreamType;
use proto::envoy::extensions::filters::http::ext_authz::v3 as pb;
use proto::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use proto::envoy::extensions::filters::http::ext_authz::v3::ext_authz_per_route::Override;
use proto::envoy::r#type::matcher::v3::ListStringMatcher;
use proto::google::protobuf::Any;

use super::TIMEOUT;
use super::http_server::HttpService;
use crate::config::headers::{HeaderAdd, HeaderMutations};
use crate::config::http_filter::Opaque;
use crate::config::matcher::{MetadataMatcher, StringMatcher};
use crate::config::source::GrpcService;
use crate::config::{At, ConfigError, Context, any, value};
use crate::http::call::grpc::Service as Grpc;
use crate::{refuse_set, warn_set};

/// The filter's configuration.
#[derive(Debug)]
pub struct Settings {
    /// Who is asked.
    pub server: Server,
    /// `failure_mode_allow`
    pub allows_on_failure: bool,
    /// `failure_mode_allow_header_add`
    pub tells_of_failure: bool,
    /// `with_request_body`
    pub body: Option<BodySettings>,
    /// `clear_route_cache`
    pub clear_route_cache: bool,
    /// `status_on_error`; default 403.
    pub status_on_error: StatusCode,
    /// `validate_mutations`
    pub validates: bool,
    /// `metadata_context_namespaces`
    pub metadata: Box<[Box<str>]>,
    /// `route_metadata_context_namespaces`
    pub route_metadata: Box<[Box<str>]>,
    /// `filter_enabled` as numerator and denominator; default all.
    pub enabled: (u32, u32),
    /// `filter_enabled_metadata`
    pub enabled_by: Option<MetadataMatcher>,
    /// `deny_at_disable`
    pub denies_when_disabled: bool,
    /// `include_peer_certificate`
    pub tells_certificate: bool,
    /// `include_tls_session`
    pub tells_session: bool,
    /// `stat_prefix`
    pub stat_prefix: Box<str>,
    /// Which of the request's headers are told.
    pub headers: HeaderChoice,
    /// `encode_raw_headers`
    pub raw_headers: bool,
    /// `charge_cluster_response_stats`; default true.
    pub charges_cluster: bool,
    /// `enable_dynamic_metadata_ingestion`; default true.
    pub takes_metadata: bool,
    /// `max_denied_response_body_bytes`; 0 is no limit.
    pub longest_denial: usize,
}

/// Who is asked.
#[derive(Debug)]
pub enum Server {
    /// `grpc_service`
    Grpc(Box<Grpc>),
    /// `http_service`
    Http(Box<HttpService>),
}

/// `BufferSettings`: how much of the request's body is told.
#[derive(Clone, Copy, Debug)]
pub struct BodySettings {
    /// `max_request_bytes`
    pub most: usize,
    /// `allow_partial_message`
    pub partial: bool,
    /// `pack_as_bytes`
    pub as_bytes: bool,
}

/// Some headers, by name.
#[derive(Debug, Default)]
pub struct HeaderChoice {
    /// Only these; none for all.
    pub allowed: Option<Box<[StringMatcher]>>,
    /// None of these.
    pub disallowed: Box<[StringMatcher]>,
}

/// What a route says to the filter.
#[derive(Debug, Default)]
pub struct RouteSettings {
    /// `disabled`
    pub disabled: bool,
    /// `context_extensions`
    pub extensions: HashMap<String, String>,
    /// `disable_request_body_buffering`
    pub without_body: bool,
    /// `with_request_body`
    pub body: Option<BodySettings>,
}

impl HeaderChoice {
    /// Whether a header is told.
    pub fn has(&self, name: &str) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| any_matches(allowed, name))
            && !any_matches(&self.disallowed, name)
    }
}

/// Whether one of the matchers takes the text.
pub fn any_matches(matchers: &[StringMatcher], text: &str) -> bool {
    matchers.iter().any(|matcher| matcher.matches(text))
}

impl Settings {
    /// `ExtAuthz`
    pub fn from_proto(
        message: &pb::ExtAuthz,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Settings, ConfigError> {
        refuse_set!(at, message, [decoder_header_mutation_rules, bootstrap_metadata_labels_key]);
        refuse_set!(at, message, [shadow_mode, enforce_response_header_limits]);
        let reason = "nothing in Pillion reads what it writes";
        warn_set!(context, at, message, [filter_metadata, emit_filter_state_stats], reason);
        let reason = "Pillion keeps no typed metadata";
        warn_set!(context, at, message, [typed_metadata_context_namespaces], reason);
        warn_set!(context, at, message, [route_typed_metadata_context_namespaces], reason);
        warn_set!(context, at, message, [emit_client_span], "Pillion makes no spans");
        let boxed = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
        let enabled_by = message.filter_enabled_metadata.as_ref();
        let at_enabled_by = at.field("filter_enabled_metadata");
        let at_body = at.field("with_request_body");
        let body = message.with_request_body.as_ref();
        let takes_metadata = message.enable_dynamic_metadata_ingestion.as_ref();
        Ok(Settings {
            server: Server::from_proto(message, at, context)?,
            allows_on_failure: message.failure_mode_allow,
            tells_of_failure: message.failure_mode_allow_header_add,
            body: body.map(|body| BodySettings::from_proto(body, &at_body)).transpose()?,
            clear_route_cache: message.clear_route_cache,
            status_on_error: status_on_error(message, at)?,
            validates: message.validate_mutations,
            metadata: boxed(&message.metadata_context_namespaces),
            route_metadata: boxed(&message.route_metadata_context_namespaces),
            enabled: value::share(
                message.filter_enabled.as_ref(),
                (100, 100),
                &at.field("filter_enabled"),
                context,
            )?,
            enabled_by: enabled_by
                .map(|matcher| MetadataMatcher::from_proto(matcher, &at_enabled_by, context))
                .transpose()?,
            denies_when_disabled: denies_when_disabled(message, at, context)?,
            tells_certificate: message.include_peer_certificate,
            tells_session: message.include_tls_session,
            stat_prefix: message.stat_prefix.as_str().into(),
            headers: headers(message, at, context)?,
            raw_headers: message.encode_raw_headers,
            charges_cluster: message
                .charge_cluster_response_stats
                .is_none_or(|charge| charge.value),
            takes_metadata: takes_metadata.is_none_or(|takes| takes.value),
            longest_denial: message.max_denied_response_body_bytes as usize,
        })
    }
}

impl Server {
    fn from_proto(
        message: &pb::ExtAuthz,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Server, ConfigError> {
        match &message.services {
            None => Err(at.error("needs grpc_service or http_service")),
            Some(Services::GrpcService(service)) => {
                let at = at.field("grpc_service");
                let service = GrpcService::from_proto(service, &at, context)?;
                Ok(Server::Grpc(Box::new(Grpc::new(&service, TIMEOUT, &at)?)))
            }
            Some(Services::HttpService(service)) => {
                let at = at.field("http_service");
                Ok(Server::Http(Box::new(HttpService::from_proto(service, &at, context)?)))
            }
        }
    }
}

impl HttpService {
    fn from_proto(
        message: &pb::HttpService,
        at: &At<'_>,
        context: &Context,
    ) -> Result<HttpService, ConfigError> {
        refuse_set!(at, message, [retry_policy]);
        let at_uri = at.field("server_uri");
        let uri = value::required(&message.server_uri, &at_uri)?;
        let Some(HttpUpstreamType::Cluster(cluster)) = &uri.http_upstream_type else {
            return Err(at_uri.field("cluster").error("is required"));
        };
        for (field, path) in
            [("path_prefix", &message.path_prefix), ("path_override", &message.path_override)]
        {
            if !path.is_empty() && !path.starts_with('/') {
                return Err(at.field(field).error("must begin with /"));
            }
        }
        let request = message.authorization_request.clone().unwrap_or_default();
        let at_request = at.field("authorization_request");
        let added = request.headers_to_add.iter().enumerate().map(|(i, header)| {
            let option = proto::envoy::config::core::v3::HeaderValueOption {
                header: Some(header.clone()),
                append_action: 2,
                ..Default::default()
            };
            HeaderAdd::from_proto(&option, &at_request.index("headers_to_add", i))
        });
        let response = message.authorization_response.clone().unwrap_or_default();
        let at = at.field("authorization_response");
        let list = |field, list: &Option<ListStringMatcher>| matchers(field, list, &at, context);
        Ok(HttpService {
            cluster: cluster.as_str().into(),
            timeout: value::duration(uri.timeout, &at_uri.field("timeout"))?.unwrap_or(TIMEOUT),
            path_prefix: message.path_prefix.as_str().into(),
            path_override: message.path_override.as_str().into(),
            added: HeaderMutations { remove: Vec::new(), add: added.collect::<Result<_, _>>()? },
            upstream: list("allowed_upstream_headers", &response.allowed_upstream_headers)?,
            upstream_append: list(
                "allowed_upstream_headers_to_append",
                &response.allowed_upstream_headers_to_append,
            )?,
            client: match &response.allowed_client_headers {
                None => None,
                some => Some(list("allowed_client_headers", some)?),
            },
            client_on_success: list(
                "allowed_client_headers_on_success",
                &response.allowed_client_headers_on_success,
            )?,
            metadata: list(
                "dynamic_metadata_from_headers",
                &response.dynamic_metadata_from_headers,
            )?,
        })
    }
}

impl BodySettings {
    fn from_proto(message: &pb::BufferSettings, at: &At<'_>) -> Result<BodySettings, ConfigError> {
        if message.max_request_bytes == 0 {
            return Err(at.field("max_request_bytes").error("must be above 0"));
        }
        Ok(BodySettings {
            most: message.max_request_bytes as usize,
            partial: message.allow_partial_message,
            as_bytes: message.pack_as_bytes,
        })
    }
}

fn matchers(
    field: &str,
    list: &Option<ListStringMatcher>,
    at: &At<'_>,
    context: &Context,
) -> Result<Box<[StringMatcher]>, ConfigError> {
    let Some(list) = list else { return Ok(Box::default()) };
    let at = at.field(field);
    let patterns = list.patterns.iter().enumerate();
    let patterns = patterns
        .map(|(i, pattern)| StringMatcher::from_proto(pattern, &at.index("patterns", i), context));
    patterns.collect()
}

/// The headers that a server is told of. One that is asked over HTTP is told of few unless the configuration allows more.
#[allow(deprecated)] // Control planes still send `authorization_request.allowed_headers`.
fn headers(
    message: &pb::ExtAuthz,
    at: &At<'_>,
    context: &Context,
) -> Result<HeaderChoice, ConfigError> {
    let disallowed = matchers("disallowed_headers", &message.disallowed_headers, at, context)?;
    let allowed = match (&message.allowed_headers, &message.services) {
        (None, Some(Services::HttpService(service))) => {
            let request = service.authorization_request.as_ref();
            let older = request.and_then(|request| request.allowed_headers.clone());
            let at = at.field("http_service");
            Some(matchers("allowed_headers", &older, &at.field("authorization_request"), context)?)
        }
        (None, _) => None,
        (some, _) => Some(matchers("allowed_headers", some, at, context)?),
    };
    Ok(HeaderChoice { allowed, disallowed })
}

fn status_on_error(message: &pb::ExtAuthz, at: &At<'_>) -> Result<StatusCode, ConfigError> {
    let Some(status) = &message.status_on_error else { return Ok(StatusCode::FORBIDDEN) };
    let at = at.field("status_on_error");
    let at = at.field("code");
    let code: proto::envoy::r#type::v3::StatusCode = value::enumeration(status.code, &at)?;
    let code = u16::try_from(code as i32).ok().and_then(|code| StatusCode::from_u16(code).ok());
    Ok(code.unwrap_or(StatusCode::FORBIDDEN))
}

fn denies_when_disabled(
    message: &pb::ExtAuthz,
    at: &At<'_>,
    context: &Context,
) -> Result<bool, ConfigError> {
    let Some(flag) = &message.deny_at_disable else { return Ok(false) };
    let at = at.field("deny_at_disable");
    warn_set!(context, at, flag, [runtime_key], "the default value is always used");
    let value = value::required(&flag.default_value, &at.field("default_value"))?;
    Ok(value.value)
}

/// `ExtAuthzPerRoute`
pub fn route(config: &Any, at: &At<'_>, _context: &Context) -> Result<Opaque, ConfigError> {
    let message: pb::ExtAuthzPerRoute = any::open(config, at)?;
    let settings = match message.r#override {
        None => return Err(at.error("needs disabled or check_settings")),
        Some(Override::Disabled(disabled)) => RouteSettings { disabled, ..Default::default() },
        Some(Override::CheckSettings(check)) => {
            let at = at.field("check_settings");
            refuse_set!(at, check, [service_override]);
            let at_body = at.field("with_request_body");
            let body = check.with_request_body.as_ref();
            if body.is_some() && check.disable_request_body_buffering {
                return Err(at_body.error("cannot stand beside disable_request_body_buffering"));
            }
            RouteSettings {
                disabled: false,
                extensions: check.context_extensions.into_iter().collect(),
                without_body: check.disable_request_body_buffering,
                body: body.map(|body| BodySettings::from_proto(body, &at_body)).transpose()?,
            }
        }
    };
    Ok(Opaque::new(settings))
}
