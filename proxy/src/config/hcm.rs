//! The HTTP connection manager
//! (`envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`).

mod http_filters;
mod local_replies;
mod options;
mod translate;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use local_replies::{BodyFormat, LocalReplies, ReplyMapper};

use crate::config::access_log::AccessLog;
use crate::config::cluster::Http2Options;
use crate::config::http_filter::Opaque;
use crate::config::route::RouteConfiguration;
use crate::config::source::ConfigSource;

/// How HTTP is spoken with the downstream.
#[derive(Clone, Debug)]
pub struct HttpConnectionManager {
    /// `stat_prefix`
    pub stat_prefix: Arc<str>,
    /// `codec_type`
    pub codec: Codec,
    /// `route_config` or `rds`
    pub routes: RouteSource,
    /// `http_filters` before the terminal router, in order.
    pub filters: Vec<HttpFilter>,
    /// The terminal `envoy.filters.http.router`.
    pub router: RouterOptions,
    /// `http_protocol_options.accept_http_10`
    pub accept_http10: bool,
    /// `http_protocol_options.default_host_for_http_10`
    pub default_host_for_http10: Option<Arc<str>>,
    /// `http_protocol_options.allow_absolute_url`; default true.
    pub allow_absolute_url: bool,
    /// `http_protocol_options.allow_custom_methods`: every token is a method.
    pub allow_custom_methods: bool,
    /// `http_protocol_options.enable_trailers`: HTTP/1 trailers pass.
    pub http1_trailers: bool,
    /// `http_protocol_options.header_key_format.proper_case_words`
    pub proper_case_words: bool,
    /// `http2_protocol_options`
    pub http2: Http2Options,
    /// `server_name`; default `envoy`.
    pub server_name: http::HeaderValue,
    /// `server_header_transformation`
    pub server_header: ServerHeader,
    /// `via`
    pub via: Option<http::HeaderValue>,
    /// `use_remote_address`
    pub use_remote_address: bool,
    /// `xff_num_trusted_hops`
    pub xff_num_trusted_hops: u32,
    /// `skip_xff_append`
    pub skip_xff_append: bool,
    /// `append_x_forwarded_port`
    pub append_x_forwarded_port: bool,
    /// `internal_address_config`; none means that no address is internal.
    pub internal_addresses: Option<InternalAddresses>,
    /// `local_reply_config`
    pub local_replies: Option<Box<LocalReplies>>,
    /// `add_user_agent`
    pub add_user_agent: bool,
    /// `generate_request_id`; default true.
    pub generate_request_id: bool,
    /// `preserve_external_request_id`
    pub preserve_external_request_id: bool,
    /// `always_set_request_id_in_response`
    pub always_set_request_id_in_response: bool,
    /// `forward_client_cert_details`
    pub forward_client_cert: ForwardClientCert,
    /// `set_current_client_cert_details`
    pub client_cert_details: CertificateDetails,
    /// `proxy_100_continue`
    pub proxy_100_continue: bool,
    /// `normalize_path`
    pub normalize_path: bool,
    /// `merge_slashes`
    pub merge_slashes: bool,
    /// `path_with_escaped_slashes_action`
    pub escaped_slashes: EscapedSlashes,
    /// `strip_matching_host_port` or `strip_any_host_port`
    pub strip_host_port: StripHostPort,
    /// `strip_trailing_host_dot`
    pub strip_trailing_host_dot: bool,
    /// `scheme_header_transformation.scheme_to_overwrite`: `http` or `https`.
    pub scheme_overwrite: Option<&'static str>,
    /// `max_request_headers_kb`; default 60.
    pub max_request_headers_kb: u32,
    /// `common_http_protocol_options.max_headers_count`; default 100.
    pub max_headers_count: u32,
    /// `common_http_protocol_options.headers_with_underscores_action`
    pub underscores: Underscores,
    /// `common_http_protocol_options.max_requests_per_connection`
    pub max_requests_per_connection: Option<u32>,
    /// `common_http_protocol_options.idle_timeout`; default 1 h, none for 0.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration`
    pub max_connection_duration: Option<Duration>,
    /// `common_http_protocol_options.max_stream_duration`
    pub max_stream_duration: Option<Duration>,
    /// `stream_idle_timeout`; default 5 min, none for 0.
    pub stream_idle_timeout: Option<Duration>,
    /// `request_timeout`; none for 0.
    pub request_timeout: Option<Duration>,
    /// `request_headers_timeout`; none for 0.
    pub request_headers_timeout: Option<Duration>,
    /// `drain_timeout`; default 5 s.
    pub drain_timeout: Duration,
    /// `delayed_close_timeout`; default 1 s, none for 0.
    pub delayed_close_timeout: Option<Duration>,
    /// `stream_error_on_invalid_http_message`
    pub stream_error_on_invalid: bool,
    /// `upgrade_configs`: type in lower case, and whether it is enabled.
    pub upgrades: Vec<(Box<str>, bool)>,
    /// `access_log`
    pub access_log: Vec<AccessLog>,
    /// `append_local_overload`: refusals by overload say so in `x-envoy-local-overloaded`.
    pub append_local_overload: bool,
    /// The listener's `per_connection_buffer_limit_bytes`.
    pub buffer_limit: u32,
}

/// Where the route table comes from.
#[derive(Clone, Debug)]
pub enum RouteSource {
    /// `route_config`
    Inline(Arc<RouteConfiguration>),
    /// `rds`
    Rds {
        /// `route_config_name`
        name: Arc<str>,
        /// `config_source`
        source: ConfigSource,
    },
}

/// `CodecType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// `AUTO`: by ALPN, else by the HTTP/2 preface.
    Auto,
    /// `HTTP1`
    Http1,
    /// `HTTP2`
    Http2,
}

/// An HTTP filter before the router.
#[derive(Clone, Debug)]
pub struct HttpFilter {
    /// `name`: the key of `typed_per_filter_config`.
    pub name: Arc<str>,
    /// `disabled`: off unless a route enables it.
    pub disabled: bool,
    /// `typed_config`, which the filter itself has translated.
    pub config: Opaque,
}

/// `envoy.extensions.filters.http.router.v3.Router`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouterOptions {
    /// `suppress_envoy_headers`
    pub suppress_envoy_headers: bool,
    /// `respect_expected_rq_timeout`
    pub respect_expected_rq_timeout: bool,
}

/// `ServerHeaderTransformation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerHeader {
    /// `OVERWRITE`
    Overwrite,
    /// `APPEND_IF_ABSENT`
    AppendIfAbsent,
    /// `PASS_THROUGH`
    PassThrough,
}

/// `ForwardClientCertDetails`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardClientCert {
    /// `SANITIZE`
    Sanitize,
    /// `FORWARD_ONLY`
    ForwardOnly,
    /// `APPEND_FORWARD`
    AppendForward,
    /// `SANITIZE_SET`
    SanitizeSet,
    /// `ALWAYS_FORWARD_ONLY`
    AlwaysForwardOnly,
}

/// `SetCurrentClientCertDetails`: what is told of a client's certificate besides its digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CertificateDetails {
    /// `subject`
    pub subject: bool,
    /// `cert`
    pub cert: bool,
    /// `chain`
    pub chain: bool,
    /// `dns`
    pub dns: bool,
    /// `uri`
    pub uri: bool,
}

/// `InternalAddressConfig`.
#[derive(Clone, Debug)]
pub struct InternalAddresses {
    /// `unix_sockets`
    pub unix_sockets: bool,
    /// `cidr_ranges`; when empty, the private and loopback ranges.
    pub ranges: Vec<IpNet>,
}

/// `PathWithEscapedSlashesAction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// `KEEP_UNCHANGED`, the default.
    Keep,
    /// `REJECT_REQUEST`
    Reject,
    /// `UNESCAPE_AND_REDIRECT`
    Redirect,
    /// `UNESCAPE_AND_FORWARD`
    Forward,
}

/// What becomes of a port in the request's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StripHostPort {
    /// It stays.
    No,
    /// `strip_matching_host_port`: removed if it is the listener's.
    Matching,
    /// `strip_any_host_port`: removed.
    Any,
}

/// `HeadersWithUnderscoresAction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underscores {
    /// `ALLOW`
    Allow,
    /// `REJECT_REQUEST`
    Reject,
    /// `DROP_HEADER`
    Drop,
}
