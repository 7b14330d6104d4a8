//! Translating the parts of the HTTP connection manager that are messages of their own.

use std::sync::Arc;
use std::time::Duration;

use proto::envoy::config::core::v3 as core;
use proto::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use proto::envoy::config::core::v3::http1_protocol_options::header_key_format::HeaderFormat;
use proto::envoy::config::core::v3::scheme_header_transformation::Transformation;
use proto::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as pb;
use proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager as PbHttp, RequestIdExtension,
};
use proto::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;

use super::{InternalAddresses, RouteSource, StripHostPort, Underscores};
use crate::config::route::{RouteConfiguration, upgrade_types};
use crate::config::source::ConfigSource;
use crate::config::value::{cidr, enumeration, non_empty, required, timeout, within};
use crate::config::{At, ConfigError, Context, any};
use crate::{refuse_set, warn_set};

/// `common_http_protocol_options`.
pub(super) struct CommonOptions {
    pub idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    pub max_stream_duration: Option<Duration>,
    pub max_headers_count: u32,
    pub max_requests_per_connection: Option<u32>,
    pub underscores: Underscores,
}

impl CommonOptions {
    pub fn from_proto(
        message: Option<&core::HttpProtocolOptions>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<CommonOptions, ConfigError> {
        const DEFAULT_IDLE: Duration = Duration::from_secs(3600);
        const DEFAULT_HEADERS: u32 = 100;
        let message = message.cloned().unwrap_or_default();
        let jitter = "connections end exactly after max_connection_duration";
        warn_set!(context, at, message, [max_connection_duration_jitter], jitter);
        warn_set!(context, at, message, [max_response_headers_kb], "it is for clusters only");
        let duration = |value, default, field: &str| timeout(value, default, &at.field(field));
        let requests = message.max_requests_per_connection.map(|value| value.value);
        let max_headers = message.max_headers_count;
        let underscores = at.field("headers_with_underscores_action");
        Ok(CommonOptions {
            idle_timeout: duration(message.idle_timeout, Some(DEFAULT_IDLE), "idle_timeout")?,
            max_connection_duration: duration(
                message.max_connection_duration,
                None,
                "max_connection_duration",
            )?,
            max_stream_duration: duration(
                message.max_stream_duration,
                None,
                "max_stream_duration",
            )?,
            max_headers_count: within(
                max_headers,
                DEFAULT_HEADERS,
                (1, u32::MAX),
                &at.field("max_headers_count"),
            )?,
            max_requests_per_connection: requests.filter(|requests| *requests > 0),
            underscores: match enumeration(message.headers_with_underscores_action, &underscores)? {
                HeadersWithUnderscoresAction::Allow => Underscores::Allow,
                HeadersWithUnderscoresAction::RejectRequest => Underscores::Reject,
                HeadersWithUnderscoresAction::DropHeader => Underscores::Drop,
            },
        })
    }
}

/// `http_protocol_options`.
pub(super) struct Http1Options {
    pub accept_http10: bool,
    pub default_host_for_http10: Option<Arc<str>>,
    pub allow_absolute_url: bool,
    pub allow_custom_methods: bool,
    pub trailers: bool,
    pub proper_case_words: bool,
}

impl Http1Options {
    pub fn from_proto(
        message: Option<&core::Http1ProtocolOptions>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Http1Options, ConfigError> {
        let message = message.cloned().unwrap_or_default();
        refuse_set!(at, message, [allow_chunked_length, ignore_http_11_upgrade]);
        warn_set!(context, at, message, [send_fully_qualified_url], "it is for clusters only");
        warn_set!(context, at, message, [use_balsa_parser], "Pillion has one HTTP/1 parser");
        let closes = "a connection is always closed after an invalid HTTP/1 message";
        warn_set!(context, at, message, [override_stream_error_on_invalid_http_message], closes);
        let format = message.header_key_format.and_then(|format| format.header_format);
        if let Some(HeaderFormat::StatefulFormatter(_)) = format {
            return Err(at.field("header_key_format").field("stateful_formatter").unsupported());
        }
        let host = message.default_host_for_http_10;
        Ok(Http1Options {
            accept_http10: message.accept_http_10,
            default_host_for_http10: (!host.is_empty()).then(|| host.into()),
            allow_absolute_url: message.allow_absolute_url.is_none_or(|value| value.value),
            allow_custom_methods: message.allow_custom_methods,
            trailers: message.enable_trailers,
            proper_case_words: format.is_some(),
        })
    }
}

impl RouteSource {
    /// The route specifier.
    pub(super) fn from_proto(
        specifier: Option<&pb::RouteSpecifier>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<RouteSource, ConfigError> {
        match specifier {
            None => Err(at.error("has no routes; set rds or route_config")),
            Some(pb::RouteSpecifier::RouteConfig(routes)) => {
                let at = at.field("route_config");
                let routes = RouteConfiguration::from_proto(routes, &at, context)?;
                Ok(RouteSource::Inline(Arc::new(routes)))
            }
            Some(pb::RouteSpecifier::Rds(rds)) => {
                let at = at.field("rds");
                let at_source = at.field("config_source");
                let source = required(&rds.config_source, &at_source)?;
                let name = non_empty(&rds.route_config_name, &at.field("route_config_name"))?;
                Ok(RouteSource::Rds {
                    name: name.into(),
                    source: ConfigSource::from_proto(source, &at_source, context)?,
                })
            }
            Some(pb::RouteSpecifier::ScopedRoutes(_)) => {
                Err(at.field("scoped_routes").unsupported())
            }
        }
    }
}

impl InternalAddresses {
    /// `internal_address_config`.
    pub(super) fn from_proto(
        message: &pb::InternalAddressConfig,
        at: &At<'_>,
    ) -> Result<InternalAddresses, ConfigError> {
        let ranges = message.cidr_ranges.iter().enumerate();
        let ranges = ranges.map(|(index, range)| cidr(range, &at.index("cidr_ranges", index)));
        Ok(InternalAddresses {
            unix_sockets: message.unix_sockets,
            ranges: ranges.collect::<Result<_, _>>()?,
        })
    }
}

impl StripHostPort {
    /// `strip_matching_host_port` or `strip_any_host_port`.
    pub(super) fn from_proto(message: &PbHttp, at: &At<'_>) -> Result<StripHostPort, ConfigError> {
        let any =
            matches!(message.strip_port_mode, Some(pb::StripPortMode::StripAnyHostPort(true)));
        match (message.strip_matching_host_port, any) {
            (false, false) => Ok(StripHostPort::No),
            (true, false) => Ok(StripHostPort::Matching),
            (false, true) => Ok(StripHostPort::Any),
            (true, true) => Err(at
                .field("strip_any_host_port")
                .error("strip_matching_host_port is set already")),
        }
    }
}

/// `scheme_header_transformation.scheme_to_overwrite`.
pub(super) fn scheme_overwrite(
    message: Option<&core::SchemeHeaderTransformation>,
    at: &At<'_>,
) -> Result<Option<&'static str>, ConfigError> {
    let Some(message) = message else {
        return Ok(None);
    };
    refuse_set!(at, message, [match_upstream]);
    match &message.transformation {
        None => Ok(None),
        Some(Transformation::SchemeToOverwrite(scheme)) => match scheme.as_str() {
            "http" => Ok(Some("http")),
            "https" => Ok(Some("https")),
            other => Err(at
                .field("scheme_to_overwrite")
                .error(format_args!("{other:?} is neither http nor https"))),
        },
    }
}

/// `upgrade_configs`
pub(super) fn upgrades(
    configs: &[pb::UpgradeConfig],
    at: &At<'_>,
) -> Result<Vec<(Box<str>, bool)>, ConfigError> {
    for (index, config) in configs.iter().enumerate() {
        refuse_set!(at.index("upgrade_configs", index), config, [filters]);
    }
    upgrade_types(configs.iter().map(|config| (&*config.upgrade_type, config.enabled)), at)
}

/// `request_id_extension`: only UUIDs exist, which are the default.
pub(super) fn check_request_id(
    message: Option<&RequestIdExtension>,
    at: &At<'_>,
    context: &Context,
) -> Result<(), ConfigError> {
    let Some(config) = message.and_then(|message| message.typed_config.as_ref()) else {
        return Ok(());
    };
    let at = at.field("typed_config");
    let uuid: UuidRequestIdConfig = any::open(config, &at)?;
    let no_spans = "Pillion writes no spans";
    warn_set!(context, at, uuid, [pack_trace_reason, use_request_id_for_trace_sampling], no_spans);
    Ok(())
}
