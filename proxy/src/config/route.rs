//! Routes (`envoy.config.route.v3.RouteConfiguration`).

mod action;
mod cluster_specifier;
mod configuration;
mod internal_redirect;
mod mirror;
mod retry;
mod retry_on;
mod rewrite;
mod route_match;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};

use crate::config::endpoint::Metadata;
use crate::config::hash_policy::HashPolicies;
use crate::config::headers::HeaderMutations;
use crate::config::http_filter::RouteFilters;
use crate::config::matcher::tree::Tree;
use crate::config::matcher::{FullRegex, HeaderMatcher, QueryMatcher};
use crate::config::metadata_match::MetadataMatch;

pub(in crate::config) use action::upgrade_types;
pub use internal_redirect::{InternalRedirect, RedirectPredicate};
pub use mirror::{Mirror, MirrorTarget};
pub use retry::{BackOff, HostPredicate, RateLimitedBackOff, ResetFormat, RetryPolicy};
pub use retry_on::RetryOn;

/// `RouteConfiguration`.
#[derive(Clone, Debug)]
pub struct RouteConfiguration {
    /// `name`
    pub name: Arc<str>,
    /// `virtual_hosts`; every domain is unique among them.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// `ignore_port_in_host_matching`
    pub ignore_port: bool,
    /// `request_headers_to_add`, `request_headers_to_remove`
    pub request_headers: HeaderMutations,
    /// `response_headers_to_add`, `response_headers_to_remove`
    pub response_headers: HeaderMutations,
    /// `most_specific_header_mutations_wins`
    pub most_specific_wins: bool,
    /// `internal_only_headers`
    pub internal_only_headers: Vec<HeaderName>,
    /// `validate_clusters`; default true inline and false over RDS.
    pub validate_clusters: Option<bool>,
    /// `ignore_path_parameters_in_path_matching`
    pub ignore_path_parameters: bool,
    /// `typed_per_filter_config`
    pub filters: RouteFilters,
}

/// `VirtualHost`.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// `name`
    pub name: Arc<str>,
    /// `domains` in lower case.
    pub domains: Vec<Box<str>>,
    /// `routes`, in order; or those of the actions of `matcher`, one action's after the other's.
    pub routes: Vec<Arc<Route>>,
    /// `matcher`: chooses a part of `routes`, of which the first that matches takes the request.
    pub tree: Option<RouteTree>,
    /// `require_tls`
    pub require_tls: RequireTls,
    /// `request_headers_to_add`, `request_headers_to_remove`
    pub request_headers: HeaderMutations,
    /// `response_headers_to_add`, `response_headers_to_remove`
    pub response_headers: HeaderMutations,
    /// `include_request_attempt_count`
    pub include_attempt_count: bool,
    /// `include_attempt_count_in_response`
    pub include_attempt_count_in_response: bool,
    /// `include_is_timeout_retry_header`
    pub include_is_timeout_retry: bool,
    /// `typed_per_filter_config`
    pub filters: RouteFilters,
}

/// `VirtualHost.matcher`, which leads to a part of the virtual host's routes.
pub type RouteTree = Tree<Range<usize>>;

/// `TlsRequirementType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequireTls {
    /// `NONE`
    None,
    /// `EXTERNAL_ONLY`
    ExternalOnly,
    /// `ALL`
    All,
}

/// `Route`.
#[derive(Clone, Debug)]
pub struct Route {
    /// `name`; empty if unnamed.
    pub name: Arc<str>,
    /// `match`
    pub matches: RouteMatch,
    /// `route`, `redirect` or `direct_response`
    pub action: Action,
    /// `request_headers_to_add`, `request_headers_to_remove`
    pub request_headers: HeaderMutations,
    /// `response_headers_to_add`, `response_headers_to_remove`
    pub response_headers: HeaderMutations,
    /// `metadata.filter_metadata`
    pub metadata: Option<Arc<Metadata>>,
    /// `typed_per_filter_config`
    pub filters: RouteFilters,
}

/// `RouteMatch`.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    /// The path specifier.
    pub path: PathMatch,
    /// `case_sensitive`; default true. Patterns are in lower case when false.
    pub case_sensitive: bool,
    /// `headers`
    pub headers: Vec<HeaderMatcher>,
    /// `query_parameters`
    pub query: Vec<QueryMatcher>,
    /// `grpc`: only gRPC requests match.
    pub grpc: bool,
    /// `runtime_fraction.default_value` as numerator and denominator.
    pub fraction: Option<(u32, u32)>,
    /// `tls_context.presented`: whether the client presented a certificate.
    pub certificate_presented: Option<bool>,
    /// `tls_context.validated`: whether that certificate is known to be good.
    pub certificate_validated: Option<bool>,
}

/// The path specifier of a [`RouteMatch`].
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// `prefix`
    Prefix(Box<str>),
    /// `path`
    Exact(Box<str>),
    /// `path_separated_prefix`
    SeparatedPrefix(Box<str>),
    /// `safe_regex`
    Regex(FullRegex),
    /// `connect_matcher`
    Connect,
}

/// What a route does with a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// `route`
    Forward(Box<RouteAction>),
    /// `redirect`
    Redirect(Box<Redirect>),
    /// `direct_response`
    Direct(DirectResponse),
}

/// `RouteAction`.
#[derive(Clone, Debug)]
pub struct RouteAction {
    /// The cluster specifier.
    pub cluster: ClusterSpecifier,
    /// `cluster_not_found_response_code`: 503 by default, 404 or 500.
    pub cluster_not_found: StatusCode,
    /// `prefix_rewrite`, `regex_rewrite`
    pub path_rewrite: PathRewrite,
    /// `host_rewrite_*`, `auto_host_rewrite`
    pub host_rewrite: HostRewrite,
    /// `append_x_forwarded_host`
    pub append_x_forwarded_host: bool,
    /// `timeout`; default 15 s, none for 0.
    pub timeout: Option<Duration>,
    /// `idle_timeout`: overrides the HCM's `stream_idle_timeout`; inner none for 0.
    pub idle_timeout: Option<Option<Duration>>,
    /// `max_stream_duration`; with it, `timeout` has no effect.
    pub max_stream_duration: Option<MaxStreamDuration>,
    /// `max_grpc_timeout`: a gRPC request's `grpc-timeout` replaces `timeout`, capped to this (0 means uncapped).
    pub max_grpc_timeout: Option<Duration>,
    /// `grpc_timeout_offset`: taken off `grpc-timeout` where `max_grpc_timeout` is set.
    pub grpc_timeout_offset: Duration,
    /// `priority` is `HIGH`.
    pub high_priority: bool,
    /// `hash_policy`: what of a request makes its hash.
    pub hash_policies: Option<Arc<HashPolicies>>,
    /// `metadata_match` under `envoy.lb`: the subset of hosts that requests go to.
    pub metadata_match: Option<Arc<MetadataMatch>>,
    /// `upgrade_configs`: type in lower case, and whether it is enabled.
    pub upgrades: Vec<(Box<str>, bool)>,
    /// `upgrade_configs[].connect_config`: CONNECT ends here, and goes on to the host as plain TCP.
    pub terminates_connect: bool,
    /// What happens beside one attempt at one host.
    pub resilience: Resilience,
}

/// What a route does beside forwarding a request once: nothing, as a rule.
#[derive(Clone, Debug, Default)]
pub struct Resilience {
    /// `retry_policy`, or that of the virtual host.
    pub retry: Option<Arc<RetryPolicy>>,
    /// `hedge_policy.hedge_on_per_try_timeout`, or that of the virtual host.
    pub hedge_on_per_try_timeout: bool,
    /// `request_mirror_policies`, or those of the virtual host or the route configuration: of the most specific that has
    /// some.
    pub mirrors: Vec<Arc<Mirror>>,
    /// `internal_redirect_policy`
    pub internal_redirect: Option<Box<InternalRedirect>>,
    /// `request_body_buffer_limit` or `per_request_buffer_limit_bytes`: how much of a body is kept for another attempt.
    pub buffer_limit: Option<u64>,
}

impl Resilience {
    /// Whether one attempt is all there is, unless a request's own headers ask for more.
    pub fn is_plain(&self) -> bool {
        self.retry.is_none() && self.mirrors.is_empty() && self.internal_redirect.is_none()
    }
}

/// `MaxStreamDuration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxStreamDuration {
    /// `max_stream_duration`: overrides the HCM's; zero disables.
    pub max: Option<Duration>,
    /// `grpc_timeout_header_max`: zero means uncapped.
    pub grpc_timeout_max: Option<Duration>,
    /// `grpc_timeout_header_offset`
    pub grpc_timeout_offset: Option<Duration>,
}

/// The cluster specifier.
#[derive(Clone, Debug)]
pub enum ClusterSpecifier {
    /// `cluster`
    Cluster(Arc<str>),
    /// `cluster_header`: in lower case; a pseudo header keeps its colon.
    Header(Box<str>),
    /// `weighted_clusters`
    Weighted(WeightedClusters),
}

/// `WeightedCluster`.
#[derive(Clone, Debug)]
pub struct WeightedClusters {
    /// `clusters`
    pub clusters: Vec<WeightedCluster>,
    /// The sum of the weights; above 0.
    pub total: u64,
    /// `header_name`: a request header whose number selects.
    pub header: Option<HeaderName>,
    /// `use_hash_policy`: the request's hash selects, if it has one.
    pub by_hash: bool,
}

/// `WeightedCluster.ClusterWeight`.
#[derive(Clone, Debug)]
pub struct WeightedCluster {
    /// `name`, or `cluster_header`.
    pub cluster: WeightedTarget,
    /// `weight`
    pub weight: u32,
    /// `metadata_match`, over the route's.
    pub metadata_match: Option<Arc<MetadataMatch>>,
    /// `request_headers_to_add`, `request_headers_to_remove`
    pub request_headers: HeaderMutations,
    /// `response_headers_to_add`, `response_headers_to_remove`
    pub response_headers: HeaderMutations,
    /// `host_rewrite_literal`
    pub host_rewrite: Option<http::uri::Authority>,
    /// `typed_per_filter_config`
    pub filters: RouteFilters,
}

/// What a weighted cluster names.
#[derive(Clone, Debug)]
pub enum WeightedTarget {
    /// `name`
    Cluster(Arc<str>),
    /// `cluster_header`
    Header(Box<str>),
}

/// How the path changes on its way upstream (and in redirects).
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// It does not.
    None,
    /// `prefix_rewrite`: replaces what matched.
    Prefix(Box<str>),
    /// `regex_rewrite`: every match is replaced; the substitution is in the `regex` crate's syntax.
    Regex {
        /// `pattern.regex`
        pattern: regex::Regex,
        /// `substitution`
        substitution: Box<str>,
    },
}

/// How the host changes on its way upstream.
#[derive(Clone, Debug)]
pub enum HostRewrite {
    /// It does not.
    None,
    /// `host_rewrite_literal`
    Literal(Box<str>),
    /// `host_rewrite_header`
    Header(HeaderName),
    /// `host_rewrite_path_regex`
    PathRegex {
        /// `pattern.regex`
        pattern: regex::Regex,
        /// `substitution` in the `regex` crate's syntax.
        substitution: Box<str>,
    },
    /// `auto_host_rewrite`: the endpoint's hostname.
    Auto,
}

/// `RedirectAction`.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// `response_code`; default 301.
    pub code: StatusCode,
    /// `https_redirect` or `scheme_redirect`
    pub scheme: Option<Box<str>>,
    /// `host_redirect`
    pub host: Option<Box<str>>,
    /// `port_redirect`
    pub port: Option<u16>,
    /// `path_redirect`
    pub path: Option<Box<str>>,
    /// `prefix_rewrite`, `regex_rewrite`
    pub rewrite: PathRewrite,
    /// `strip_query`
    pub strip_query: bool,
}

/// `DirectResponseAction`.
#[derive(Clone, Debug)]
pub struct DirectResponse {
    /// `status`
    pub status: StatusCode,
    /// `body`; empty for none.
    pub body: bytes::Bytes,
}
