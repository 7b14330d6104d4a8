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
    CertificateDetails, Codec, EscapedSlashes, ForwardClientCert, HttpConnectionManager,
    InternalAddresses, LocalReplies, RouteSource, ServerHeader, StripHostPort,
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
            allow_custom_methods: http1.allow_custom_methods,
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
            local_replies: message
                .local_reply_config
                .as_ref()
                .map(|config| {
                    LocalReplies::from_proto(config, &at.field("local_reply_config"), context)
                })
                .transpose()?
                .map(Box::new),
            add_user_agent: on(message.add_user_agent, false),
            generate_request_id: on(message.generate_request_id, true),
            preserve_external_request_id: message.preserve_external_request_id,
            always_set_request_id_in_response: message.always_set_request_id_in_response,
            forward_client_cert: forward_client_cert(message, at)?,
            client_cert_details: client_cert_details(message),
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
            access_log: AccessLog::from_list(&message.access_log, "access_log", at, context)?,
            append_local_overload: message.append_local_overload,
            buffer_limit,
        })
    }
}

fn check_unsupported(message: &pb::HttpConnectionManager, at: &At<'_>) -> Result<(), ConfigError> {
    refuse_set!(at, message, [http1_safe_max_connection_duration]);
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
        [add_proxy_protocol_connection_state],
        "only PROXY protocol towards clusters reads it"
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
    Ok(match enumeration(message.forward_client_cert_details, &at)? {
        ForwardClientCertDetails::Sanitize => ForwardClientCert::Sanitize,
        ForwardClientCertDetails::ForwardOnly => ForwardClientCert::ForwardOnly,
        ForwardClientCertDetails::AppendForward => ForwardClientCert::AppendForward,
        ForwardClientCertDetails::SanitizeSet => ForwardClientCert::SanitizeSet,
        ForwardClientCertDetails::AlwaysForwardOnly => ForwardClientCert::AlwaysForwardOnly,
    })
}

fn client_cert_details(message: &pb::HttpConnectionManager) -> CertificateDetails {
    let details = message.set_current_client_cert_details.unwrap_or_default();
    CertificateDetails {
        subject: details.subject.is_some_and(|subject| subject.value),
        cert: details.cert,
        chain: details.chain,
        dns: details.dns,
        uri: details.uri,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::hcm::Underscores;
    use crate::config::testing::message;

    const ROUTER: &str = "{name: router, typed_config:
        {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";
    const OTHER: &str = "{name: other, typed_config:
        {'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}}";

    fn translate(fields: &str) -> (Result<HttpConnectionManager, ConfigError>, Vec<String>) {
        let context = Context::default();
        let at = At::resource("listener", "l");
        let http = HttpConnectionManager::from_proto(&message(fields), 1024, &at, &context);
        (http, context.take_warnings())
    }

    /// A complete connection manager with further fields.
    fn with(fields: &str) -> (Result<HttpConnectionManager, ConfigError>, Vec<String>) {
        let base = "{stat_prefix: s, route_config: {}, http_filters: [ROUTER], FIELDS}";
        translate(&base.replace("ROUTER", ROUTER).replace("FIELDS", fields))
    }

    #[test]
    fn defaults_are_envoys() {
        let (http, warnings) = with("");
        let http = http.unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(http.codec, Codec::Auto);
        assert_eq!(http.server_name, "envoy");
        assert_eq!(http.server_header, ServerHeader::Overwrite);
        assert_eq!(http.forward_client_cert, ForwardClientCert::Sanitize);
        assert!(http.generate_request_id && http.allow_absolute_url);
        assert!(!http.use_remote_address && !http.normalize_path && !http.merge_slashes);
        assert!(http.internal_addresses.is_none());
        assert_eq!((http.max_request_headers_kb, http.max_headers_count), (60, 100));
        assert_eq!(http.underscores, Underscores::Allow);
        assert_eq!(http.idle_timeout, Some(Duration::from_secs(3600)));
        assert_eq!(http.stream_idle_timeout, Some(Duration::from_secs(300)));
        assert_eq!((http.request_timeout, http.request_headers_timeout), (None, None));
        assert_eq!(http.drain_timeout, Duration::from_secs(5));
        assert_eq!(http.delayed_close_timeout, Some(Duration::from_secs(1)));
        assert_eq!(http.buffer_limit, 1024);
    }

    #[test]
    fn what_is_set_is_translated() {
        let (http, warnings) = with(
            "codec_type: HTTP1, server_name: x, via: v, use_remote_address: true,
             stream_idle_timeout: 0s, request_timeout: 3s, delayed_close_timeout: 0s,
             strip_any_host_port: true, path_with_escaped_slashes_action: REJECT_REQUEST,
             scheme_header_transformation: {scheme_to_overwrite: https},
             internal_address_config: {cidr_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]},
             http_protocol_options: {accept_http_10: true, default_host_for_http_10: h,
               allow_absolute_url: false, header_key_format: {proper_case_words: {}}},
             common_http_protocol_options: {idle_timeout: 0s, max_headers_count: 7,
               headers_with_underscores_action: DROP_HEADER},
             upgrade_configs: [{upgrade_type: websocket}]",
        );
        let http = http.unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(http.codec, Codec::Http1);
        assert_eq!(http.via, Some(HeaderValue::from_static("v")));
        assert_eq!(http.stream_idle_timeout, None);
        assert_eq!(http.request_timeout, Some(Duration::from_secs(3)));
        assert_eq!(http.strip_host_port, StripHostPort::Any);
        assert_eq!(http.escaped_slashes, EscapedSlashes::Reject);
        assert_eq!(http.scheme_overwrite, Some("https"));
        assert_eq!(http.internal_addresses.unwrap().ranges.len(), 1);
        assert!(http.accept_http10 && http.proper_case_words && !http.allow_absolute_url);
        assert_eq!(http.default_host_for_http10.as_deref(), Some("h"));
        assert_eq!((http.idle_timeout, http.max_headers_count), (None, 7));
        assert_eq!(http.underscores, Underscores::Drop);
        assert_eq!(http.upgrades, [("websocket".into(), true)]);
    }

    #[test]
    fn bad_and_unsupported_fields_are_refused_by_their_path() {
        for (fields, path) in [
            ("codec_type: HTTP3", "codec_type"),
            ("max_request_headers_kb: 0", "max_request_headers_kb"),
            ("max_request_headers_kb: 8193", "max_request_headers_kb"),
            ("strip_matching_host_port: true, strip_any_host_port: true", "strip_any_host_port"),
            (
                "scheme_header_transformation: {scheme_to_overwrite: ftp}",
                "scheme_header_transformation.scheme_to_overwrite",
            ),
            ("proxy_status_config: {}", "proxy_status_config"),
            ("request_timeout: -1s", "request_timeout"),
            (
                "upgrade_configs: [{upgrade_type: a}, {upgrade_type: A}]",
                "upgrade_configs[1].upgrade_type",
            ),
            (
                "http_protocol_options: {allow_chunked_length: true}",
                "http_protocol_options.allow_chunked_length",
            ),
            (
                "internal_address_config: {cidr_ranges: [{address_prefix: x}]}",
                "internal_address_config.cidr_ranges[0].address_prefix",
            ),
        ] {
            let error = with(fields).0.unwrap_err();
            assert_eq!(error.path, format!("listener \"l\": {path}"), "{error}");
        }
        let error = translate(&format!("{{stat_prefix: s, http_filters: [{ROUTER}]}}")).0;
        assert!(error.unwrap_err().message.contains("no routes"));
    }

    #[test]
    fn the_router_is_the_only_and_last_filter() {
        let filters = |filters: &str| {
            translate(&format!("{{stat_prefix: s, route_config: {{}}, http_filters: [{filters}]}}"))
        };
        for (list, path, rule) in [
            (String::new(), "http_filters", "must end in"),
            (format!("{ROUTER}, {ROUTER}"), "http_filters[0]", "must be the last"),
            (format!("{OTHER}, {ROUTER}"), "http_filters[0].typed_config", "cors.v3.Cors"),
            (OTHER.into(), "http_filters[0].typed_config", "cors.v3.Cors"),
            (
                OTHER.replace("{name: other", "{name: other, is_optional: true"),
                "http_filters[0]",
                "must end in",
            ),
            (
                ROUTER.replace("{name: router", "{name: router, disabled: true"),
                "http_filters[0].disabled",
                "terminal",
            ),
            ("{name: x}".into(), "http_filters[0].typed_config", "required"),
        ] {
            let error = filters(&list).0.unwrap_err();
            assert_eq!(error.path, format!("listener \"l\": {path}"), "{error}");
            assert!(error.message.contains(rule), "{error}");
        }
        let optional = OTHER.replace("{name: other", "{name: other, is_optional: true");
        let (http, warnings) = filters(&format!("{optional}, {ROUTER}"));
        assert!(http.unwrap().filters.is_empty());
        assert!(warnings[0].contains("cors.v3.Cors"), "{warnings:?}");
    }
}
