//! Translating the HTTP connection manager.

use std::time::Duration;

use http::HeaderValue;
use proto::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use proto::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, ServerHeaderTransformation,
};

use super::http_filters::http_filters;
use super::options::{CommonOptions, Http1Options, check_request_id, scheme_overwrite, upgrades};
use super::{
    Codec, EscapedSlashes, ForwardClientCert, HttpConnectionManager, InternalAddresses,
    RouteSource, ServerHeader, StripHostPort,
};
use crate::config::access_log::AccessLog;
use crate::config::cluster::Http2Options;
use crate::config::value::{duration, enumeration, non_empty, timeout, within};
use crate::config::{At, ConfigError, Context};
use crate::{refuse_set, warn_set};

/// `server_name`, when it is not set.
const DEFAULT_SERVER_NAME: &str = "envoy";
const DEFAULT_STREAM_IDLE: Duration = Duration::from_secs(300);
const DEFAULT_DRAIN: Duration = Duration::from_secs(5);
const DEFAULT_DELAYED_CLOSE: Duration = Duration::from_secs(1);
/// `max_request_headers_kb`: the default and the range.
const DEFAULT_HEADERS_KB: u32 = 60;
const HEADERS_KB: (u32, u32) = (1, 8192);

impl HttpConnectionManager {
    /// An `HttpConnectionManager` of a listener that buffers at most `buffer_limit` bytes a connection.
    pub fn from_proto(
        message: &pb::HttpConnectionManager,
        buffer_limit: u32,
        at: &At<'_>,
        context: &Context,
    ) -> Result<HttpConnectionManager, ConfigError> {
        check_unsupported(message, at)?;
        warn_without_effect(message, at, context);
        let request_id = at.field("request_id_extension");
        check_request_id(message.request_id_extension.as_ref(), &request_id, context)?;
        let (filters, router) = http_filters(&message.http_filters, at, context)?;
        let http1 = message.http_protocol_options.as_ref();
        let http1 = Http1Options::from_proto(http1, &at.field("http_protocol_options"), context)?;
        let http2 = message.http2_protocol_options.as_ref();
        let common = message.common_http_protocol_options.as_ref();
        let at_common = at.field("common_http_protocol_options");
        let common = CommonOptions::from_proto(common, &at_common, context)?;
        let logs = message.access_log.iter().enumerate().map(|(index, log)| {
            AccessLog::from_proto(log, &at.index("access_log", index), context)
        });
        let internal = message.internal_address_config.as_ref().map(|internal| {
            InternalAddresses::from_proto(internal, &at.field("internal_address_config"))
        });
        let scheme = message.scheme_header_transformation.as_ref();
        let on = |value: Option<proto::google::protobuf::BoolValue>, default: bool| {
            value.map_or(default, |value| value.value)
        };
        let limit = |value, default, field: &str| timeout(value, default, &at.field(field));
        Ok(HttpConnectionManager {
            stat_prefix: non_empty(&message.stat_prefix, &at.field("stat_prefix"))?.into(),
            codec: codec(message, at)?,
            routes: RouteSource::from_proto(message.route_specifier.as_ref(), at, context)?,
            filters,
            router,
            accept_http10: http1.accept_http10,
            default_host_for_http10: http1.default_host_for_http10,
            allow_absolute_url: http1.allow_absolute_url,
            http1_trailers: http1.trailers,
            proper_case_words: http1.proper_case_words,
            http2: Http2Options::from_proto(http2, &at.field("http2_protocol_options"), context)?,
            server_name: header_value(&message.server_name, &at.field("server_name"))?
                .unwrap_or(HeaderValue::from_static(DEFAULT_SERVER_NAME)),
            server_header: server_header(message, at)?,
            via: header_value(&message.via, &at.field("via"))?,
            use_remote_address: on(message.use_remote_address, false),
            xff_num_trusted_hops: message.xff_num_trusted_hops,
            skip_xff_append: message.skip_xff_append,
            append_x_forwarded_port: message.append_x_forwarded_port,
            internal_addresses: internal.transpose()?,
            add_user_agent: on(message.add_user_agent, false),
            generate_request_id: on(message.generate_request_id, true),
            preserve_external_request_id: message.preserve_external_request_id,
            always_set_request_id_in_response: message.always_set_request_id_in_response,
            forward_client_cert: forward_client_cert(message, at)?,
            proxy_100_continue: message.proxy_100_continue,
            normalize_path: on(message.normalize_path, false),
            merge_slashes: message.merge_slashes,
            escaped_slashes: escaped_slashes(message, at)?,
            strip_host_port: StripHostPort::from_proto(message, at)?,
            strip_trailing_host_dot: message.strip_trailing_host_dot,
            scheme_overwrite: scheme_overwrite(scheme, &at.field("scheme_header_transformation"))?,
            max_request_headers_kb: within(
                message.max_request_headers_kb,
                DEFAULT_HEADERS_KB,
                HEADERS_KB,
                &at.field("max_request_headers_kb"),
            )?,
            max_headers_count: common.max_headers_count,
            underscores: common.underscores,
            max_requests_per_connection: common.max_requests_per_connection,
            idle_timeout: common.idle_timeout,
            max_connection_duration: common.max_connection_duration,
            max_stream_duration: common.max_stream_duration,
            stream_idle_timeout: limit(
                message.stream_idle_timeout,
                Some(DEFAULT_STREAM_IDLE),
                "stream_idle_timeout",
            )?,
            request_timeout: limit(message.request_timeout, None, "request_timeout")?,
            request_headers_timeout: limit(
                message.request_headers_timeout,
                None,
                "request_headers_timeout",
            )?,
            drain_timeout: duration(message.drain_timeout, &at.field("drain_timeout"))?
                .unwrap_or(DEFAULT_DRAIN),
            delayed_close_timeout: limit(
                message.delayed_close_timeout,
                Some(DEFAULT_DELAYED_CLOSE),
                "delayed_close_timeout",
            )?,
            stream_error_on_invalid: on(message.stream_error_on_invalid_http_message, false),
            upgrades: upgrades(&message.upgrade_configs, at)?,
            access_log: logs.collect::<Result<_, _>>()?,
            buffer_limit,
        })
    }
}

fn check_unsupported(message: &pb::HttpConnectionManager, at: &At<'_>) -> Result<(), ConfigError> {
    refuse_set!(at, message, [http1_safe_max_connection_duration, local_reply_config]);
    refuse_set!(at, message, [original_ip_detection_extensions, early_header_mutation_extensions]);
    refuse_set!(at, message, [represent_ipv4_remote_address_as_ipv4_mapped_ipv6]);
    refuse_set!(at, message, [forward_client_cert_matcher, forward_proto_config]);
    refuse_set!(at, message, [path_normalization_options, proxy_status_config]);
    refuse_set!(at, message, [typed_header_validation_config]);
    Ok(())
}

fn warn_without_effect(message: &pb::HttpConnectionManager, at: &At<'_>, context: &Context) {
    const LOG_ONCE: &str = "a stream is logged once, when it ends";
    warn_set!(context, at, message, [tracing], "Pillion writes no spans");
    warn_set!(context, at, message, [http3_protocol_options], "HTTP/3 is not spoken");
    warn_set!(context, at, message, [stream_flush_timeout], "stream_idle_timeout applies");
    warn_set!(context, at, message, [drain_timeout_jitter], "drain_timeout applies exactly");
    warn_set!(context, at, message, [access_log_flush_interval, access_log_options], LOG_ONCE);
    warn_set!(context, at, message, [flush_access_log_on_new_request], LOG_ONCE);
    warn_set!(
        context,
        at,
        message,
        [append_local_overload],
        "Pillion has no overload manager, so nothing would be appended"
    );
    warn_set!(
        context,
        at,
        message,
        [add_proxy_protocol_connection_state],
        "only PROXY protocol towards clusters reads it"
    );
    warn_set!(
        context,
        at,
        message,
        [set_current_client_cert_details],
        "only APPEND_FORWARD and SANITIZE_SET use it"
    );
}

fn codec(message: &pb::HttpConnectionManager, at: &At<'_>) -> Result<Codec, ConfigError> {
    let at = at.field("codec_type");
    match enumeration(message.codec_type, &at)? {
        CodecType::Auto => Ok(Codec::Auto),
        CodecType::Http1 => Ok(Codec::Http1),
        CodecType::Http2 => Ok(Codec::Http2),
        CodecType::Http3 => Err(at.error("HTTP3 is not supported by this version of Pillion")),
    }
}

fn server_header(
    message: &pb::HttpConnectionManager,
    at: &At<'_>,
) -> Result<ServerHeader, ConfigError> {
    let at = at.field("server_header_transformation");
    Ok(match enumeration(message.server_header_transformation, &at)? {
        ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
        ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
        ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
    })
}

fn forward_client_cert(
    message: &pb::HttpConnectionManager,
    at: &At<'_>,
) -> Result<ForwardClientCert, ConfigError> {
    let at = at.field("forward_client_cert_details");
    match enumeration(message.forward_client_cert_details, &at)? {
        ForwardClientCertDetails::Sanitize => Ok(ForwardClientCert::Sanitize),
        ForwardClientCertDetails::AlwaysForwardOnly => Ok(ForwardClientCert::AlwaysForwardOnly),
        other => Err(at.error(format_args!(
            "{} is not supported by this version of Pillion",
            other.as_str_name()
        ))),
    }
}

fn escaped_slashes(
    message: &pb::HttpConnectionManager,
    at: &At<'_>,
) -> Result<EscapedSlashes, ConfigError> {
    let at = at.field("path_with_escaped_slashes_action");
    Ok(match enumeration(message.path_with_escaped_slashes_action, &at)? {
        PathWithEscapedSlashesAction::ImplementationSpecificDefault
        | PathWithEscapedSlashesAction::KeepUnchanged => EscapedSlashes::Keep,
        PathWithEscapedSlashesAction::RejectRequest => EscapedSlashes::Reject,
        PathWithEscapedSlashesAction::UnescapeAndRedirect => EscapedSlashes::Redirect,
        PathWithEscapedSlashesAction::UnescapeAndForward => EscapedSlashes::Forward,
    })
}

/// A text that will stand in a header; none if it is empty.
fn header_value(text: &str, at: &At<'_>) -> Result<Option<HeaderValue>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let value = HeaderValue::from_str(text);
    value.map(Some).map_err(|error| at.error(format_args!("{text:?}: {error}")))
}
