//! Protobuf to model: how HTTP is spoken with a cluster's hosts.

use proto::envoy::config::cluster::v3 as pb;
use proto::envoy::config::cluster::v3::cluster::ClusterProtocolSelection;
use proto::envoy::config::core::v3 as core;
use proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use proto::envoy::extensions::filters::network::http_connection_manager::v3::http_filter;
use proto::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use proto::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
};
use proto::envoy::extensions::upstreams::tcp::v3::TcpProtocolOptions;
use proto::google::protobuf::Any;

use super::{AutoNames, CommonHttpOptions, Http2Options, UpstreamProtocol};
use crate::config::any;
use crate::config::error::{At, ConfigError, Context};
use crate::config::value;
use crate::{refuse_set, warn_set};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const TCP_OPTIONS: &str = "envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions";
const UPSTREAM_CODEC: &str = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";
/// The largest `max_response_headers_kb`.
const MAX_HEADERS_KB: u32 = 8192;

/// How HTTP is spoken with a cluster's hosts.
#[derive(Default)]
pub(super) struct HttpOptions {
    pub protocol: UpstreamProtocol,
    pub common: CommonHttpOptions,
    pub http2: Http2Options,
    pub http1_trailers: bool,
    pub auto_names: Option<AutoNames>,
}

impl HttpOptions {
    /// `typed_extension_protocol_options`, or the older fields of the cluster.
    pub fn from_cluster(
        message: &pb::Cluster,
        speaks_tls: bool,
        at: &At<'_>,
        context: &Context,
    ) -> Result<HttpOptions, ConfigError> {
        let mut typed = None;
        for (key, any) in &message.typed_extension_protocol_options {
            let at = at.key("typed_extension_protocol_options", key);
            match any::type_name(Some(any)) {
                HTTP_OPTIONS => typed = Some(HttpOptions::from_any(any, speaks_tls, &at, context)?),
                TCP_OPTIONS => {
                    let options = any::open::<TcpProtocolOptions>(any, &at)?;
                    let reason = "idle connections of TCP pools are not kept";
                    warn_set!(context, at, options, [idle_timeout], reason);
                }
                _ => return Err(any::unknown(key, Some(any), &at)),
            }
        }
        let Some(options) = typed else {
            return HttpOptions::from_older_fields(message, at, context);
        };
        let reason = "typed_extension_protocol_options is set and stands above it";
        warn_set!(
            context,
            at,
            message,
            [
                max_requests_per_connection,
                upstream_http_protocol_options,
                common_http_protocol_options,
                http_protocol_options,
                http2_protocol_options,
                protocol_selection
            ],
            reason
        );
        Ok(options)
    }

    fn from_older_fields(
        message: &pb::Cluster,
        at: &At<'_>,
        context: &Context,
    ) -> Result<HttpOptions, ConfigError> {
        let selection = at.field("protocol_selection");
        let selection: ClusterProtocolSelection =
            value::enumeration(message.protocol_selection, &selection)?;
        let (http1, http2) = (&message.http_protocol_options, &message.http2_protocol_options);
        let protocol = match (selection, http2) {
            (ClusterProtocolSelection::UseDownstreamProtocol, _) => UpstreamProtocol::UseDownstream,
            (_, Some(_)) if http1.is_some() => {
                return Err(at.error(
                    "Both HTTP1 and HTTP2 options may only be configured with non-default \
                     'protocol_selection' values",
                ));
            }
            (_, Some(_)) => UpstreamProtocol::Http2,
            (_, None) => UpstreamProtocol::Http1,
        };
        let http1_at = at.field("http_protocol_options");
        let http1_trailers = http1_trailers(http1.as_ref(), &http1_at, context)?;
        let automatic = message.upstream_http_protocol_options.as_ref();
        let auto_names =
            AutoNames::from_proto(automatic, &at.field("upstream_http_protocol_options"))?;
        let common = message.common_http_protocol_options.as_ref();
        let mut common = CommonHttpOptions::from_proto(
            common,
            &at.field("common_http_protocol_options"),
            context,
        )?;
        if let Some(max) = message.max_requests_per_connection {
            common.max_requests_per_connection = (max.value > 0).then_some(max.value);
        }
        let at = at.field("http2_protocol_options");
        Ok(HttpOptions {
            protocol,
            common,
            http2: Http2Options::from_proto(http2.as_ref(), &at, context)?,
            http1_trailers,
            auto_names,
        })
    }

    fn from_any(
        any: &Any,
        speaks_tls: bool,
        at: &At<'_>,
        context: &Context,
    ) -> Result<HttpOptions, ConfigError> {
        let options: HttpProtocolOptions = any::open(any, at)?;
        refuse_set!(
            at,
            options,
            [
                header_validation_config,
                outlier_detection,
                request_mirror_policies,
                hash_policy,
                retry_policy
            ]
        );
        for (i, filter) in options.http_filters.iter().enumerate() {
            if any::type_name(filter_config(filter)) != UPSTREAM_CODEC {
                return Err(at.index("http_filters", i).unsupported());
            }
        }
        let automatic = options.upstream_http_protocol_options.as_ref();
        let auto_names =
            AutoNames::from_proto(automatic, &at.field("upstream_http_protocol_options"))?;
        let common = options.common_http_protocol_options.as_ref();
        let common = CommonHttpOptions::from_proto(
            common,
            &at.field("common_http_protocol_options"),
            context,
        )?;
        let protocol = options.upstream_protocol_options.as_ref().ok_or_else(|| {
            at.error(
                "explicit_http_config, use_downstream_protocol_config or auto_config is required",
            )
        })?;
        let options = protocol_options(protocol, speaks_tls, at, context)?;
        Ok(HttpOptions { common, auto_names, ..options })
    }
}

fn filter_config(filter: &HttpFilter) -> Option<&Any> {
    match &filter.config_type {
        Some(http_filter::ConfigType::TypedConfig(config)) => Some(config),
        _ => None,
    }
}

/// `upstream_protocol_options`: the protocol and its settings; the common ones stand elsewhere.
fn protocol_options(
    options: &UpstreamProtocolOptions,
    speaks_tls: bool,
    at: &At<'_>,
    context: &Context,
) -> Result<HttpOptions, ConfigError> {
    let (protocol, http1, http2, at) = match options {
        UpstreamProtocolOptions::ExplicitHttpConfig(config) => {
            let at = at.field("explicit_http_config");
            match value::required(&config.protocol_config, &at)? {
                ProtocolConfig::HttpProtocolOptions(http1) => {
                    (UpstreamProtocol::Http1, Some(http1), None, at)
                }
                ProtocolConfig::Http2ProtocolOptions(http2) => {
                    (UpstreamProtocol::Http2, None, Some(http2), at)
                }
                ProtocolConfig::Http3ProtocolOptions(_) => {
                    return Err(at.field("http3_protocol_options").unsupported());
                }
            }
        }
        UpstreamProtocolOptions::UseDownstreamProtocolConfig(config) => {
            let at = at.field("use_downstream_protocol_config");
            refuse_set!(at, config, [http3_protocol_options]);
            let (http1, http2) = (&config.http_protocol_options, &config.http2_protocol_options);
            (UpstreamProtocol::UseDownstream, http1.as_ref(), http2.as_ref(), at)
        }
        UpstreamProtocolOptions::AutoConfig(config) => {
            let at = at.field("auto_config");
            refuse_set!(at, config, [http3_protocol_options, alternate_protocols_cache_options]);
            if !speaks_tls {
                return Err(at.error("needs a transport socket with ALPN, which is TLS"));
            }
            let (http1, http2) = (&config.http_protocol_options, &config.http2_protocol_options);
            (UpstreamProtocol::Auto, http1.as_ref(), http2.as_ref(), at)
        }
    };
    Ok(HttpOptions {
        protocol,
        http1_trailers: http1_trailers(http1, &at.field("http_protocol_options"), context)?,
        http2: Http2Options::from_proto(http2, &at.field("http2_protocol_options"), context)?,
        ..HttpOptions::default()
    })
}

/// HTTP/1 settings towards a host: whether trailers pass. Others that would change bytes are refused.
fn http1_trailers(
    options: Option<&core::Http1ProtocolOptions>,
    at: &At<'_>,
    context: &Context,
) -> Result<bool, ConfigError> {
    let Some(options) = options else {
        return Ok(false);
    };
    refuse_set!(at, options, [header_key_format, allow_chunked_length, send_fully_qualified_url]);
    let reason = "it is for the downstream side";
    warn_set!(
        context,
        at,
        options,
        [allow_absolute_url, accept_http_10, default_host_for_http_10, ignore_http_11_upgrade],
        reason
    );
    let reason = "Pillion has one HTTP/1 parser with its own rules";
    warn_set!(
        context,
        at,
        options,
        [use_balsa_parser, allow_custom_methods, override_stream_error_on_invalid_http_message],
        reason
    );
    Ok(options.enable_trailers)
}

impl CommonHttpOptions {
    fn from_proto(
        options: Option<&core::HttpProtocolOptions>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<CommonHttpOptions, ConfigError> {
        let default = CommonHttpOptions::default();
        let Some(options) = options else {
            return Ok(default);
        };
        let reason = "connections end without jitter";
        warn_set!(context, at, options, [max_connection_duration_jitter], reason);
        let reason = "it is for the downstream side";
        warn_set!(context, at, options, [headers_with_underscores_action], reason);
        let timeout = |field, value, default| value::timeout(value, default, &at.field(field));
        Ok(CommonHttpOptions {
            idle_timeout: timeout("idle_timeout", options.idle_timeout, default.idle_timeout)?,
            max_connection_duration: timeout(
                "max_connection_duration",
                options.max_connection_duration,
                None,
            )?,
            max_requests_per_connection: options
                .max_requests_per_connection
                .and_then(|max| (max.value > 0).then_some(max.value)),
            max_stream_duration: timeout("max_stream_duration", options.max_stream_duration, None)?,
            max_response_headers_kb: value::within(
                options.max_response_headers_kb,
                default.max_response_headers_kb,
                (1, MAX_HEADERS_KB),
                &at.field("max_response_headers_kb"),
            )?,
            max_headers_count: value::within(
                options.max_headers_count,
                default.max_headers_count,
                (1, u32::MAX),
                &at.field("max_headers_count"),
            )?,
        })
    }
}
