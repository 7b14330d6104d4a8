//! Clusters (`envoy.config.cluster.v3.Cluster`).

use std::sync::Arc;
use std::time::Duration;

use crate::config::endpoint::{Assignment, Metadata};
use crate::config::source::ConfigSource;
use crate::config::tls::UpstreamTls;
use crate::io::Address;

pub use load_balancing::{LbPolicy, LoadBalancing};

mod circuit_breakers;
mod discovery;
mod health_check;
mod http2_options;
mod http_options;
pub mod load_balancing;
mod outlier_detection;
mod sockets;
mod translate;

pub use health_check::{GrpcProbe, HealthCheck, HttpProbe, Pauses, Probe, ProbeHeaders, TcpProbe};
pub use outlier_detection::{Consecutive, FailurePercentage, OutlierDetection, SuccessRate};

pub use sockets::{AutoNames, SocketMatch};

/// A cluster: how its hosts are found, picked and talked to.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// `name`
    pub name: Arc<str>,
    /// `alt_stat_name`, or the name; what stands in statistics (with `:` replaced by `_`).
    pub stat_name: Arc<str>,
    /// `type` or `cluster_type`, with what it needs.
    pub discovery: Discovery,
    /// `connect_timeout`; default 5 s.
    pub connect_timeout: Duration,
    /// `per_connection_buffer_limit_bytes`; default 1 MiB.
    pub buffer_limit: u32,
    /// How requests spread over the hosts.
    pub lb: Arc<LoadBalancing>,
    /// `circuit_breakers.thresholds`: for the default and the high priority.
    pub circuit_breakers: Box<[Thresholds; 2]>,
    /// `health_checks`
    pub health_check: Option<Arc<HealthCheck>>,
    /// `ignore_health_on_host_removal`: hosts go when they are removed, though their health check passes.
    pub ignore_health_on_removal: bool,
    /// `common_lb_config.ignore_new_hosts_until_first_hc`
    pub ignore_new_hosts_until_first_check: bool,
    /// `outlier_detection`; none means off.
    pub outlier_detection: Option<Arc<OutlierDetection>>,
    /// The protocol spoken to hosts (`HttpProtocolOptions`).
    pub protocol: UpstreamProtocol,
    /// `HttpProtocolOptions.common_http_protocol_options`.
    pub http: CommonHttpOptions,
    /// The HTTP/2 settings, used when HTTP/2 is spoken.
    pub http2: Http2Options,
    /// `enable_trailers` of the HTTP/1 settings: trailers of HTTP/1 responses pass.
    pub http1_trailers: bool,
    /// `transport_socket`; none means plaintext.
    pub tls: Option<Arc<UpstreamTls>>,
    /// `transport_socket_matches`: the first that fits a host goes before `tls`.
    pub socket_matches: Box<[SocketMatch]>,
    /// `upstream_http_protocol_options`: names that TLS connections take from requests.
    pub auto_names: Option<Box<AutoNames>>,
    /// `upstream_connection_options.tcp_keepalive`
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `upstream_bind_config.source_address`: connections start from this address.
    pub source_address: Option<std::net::SocketAddr>,
    /// `upstream_bind_config.extra_source_addresses`: one of the other IP version.
    pub extra_source_address: Option<std::net::SocketAddr>,
    /// `metadata.filter_metadata`
    pub metadata: Option<Arc<Metadata>>,
}

/// How a cluster's hosts are found.
#[derive(Clone, Debug)]
pub enum Discovery {
    /// `STATIC`: from `load_assignment`.
    Static(Assignment),
    /// `EDS`
    Eds {
        /// `eds_cluster_config.eds_config`
        source: ConfigSource,
        /// `eds_cluster_config.service_name`, or the cluster's name.
        service_name: Arc<str>,
    },
    /// `STRICT_DNS`: every address of every name is a host.
    StrictDns {
        /// `load_assignment` with names.
        assignment: Assignment,
        /// How to resolve.
        dns: DnsOptions,
    },
    /// `LOGICAL_DNS`: one name, the first address of its last answer is used for new connections.
    LogicalDns {
        /// `load_assignment` with exactly one endpoint.
        assignment: Assignment,
        /// How to resolve.
        dns: DnsOptions,
    },
    /// `ORIGINAL_DST`: the connection's original destination is the host.
    OriginalDst {
        /// `original_dst_lb_config.http_header_name` when `use_http_header` is set.
        header: Option<http::HeaderName>,
        /// `original_dst_lb_config.upstream_port_override`
        port_override: Option<u16>,
        /// `cleanup_interval`: hosts unused for so long go; default 5 s.
        cleanup_interval: Duration,
    },
    /// `envoy.clusters.aggregate`: the hosts of other clusters, in their order.
    Aggregate {
        /// `clusters`, at least one.
        clusters: Vec<Arc<str>>,
    },
}

impl Discovery {
    /// The kind's name, if it picks hosts in its own way and no load balancing policy does.
    pub fn picks_by_itself(&self) -> Option<&'static str> {
        match self {
            Discovery::OriginalDst { .. } => Some("ORIGINAL_DST"),
            Discovery::Aggregate { .. } => Some("envoy.clusters.aggregate"),
            _ => None,
        }
    }
}

/// How names are resolved, for `STRICT_DNS`, `LOGICAL_DNS` and `envoy.clusters.dns`.
#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// `dns_lookup_family`
    pub family: DnsFamily,
    /// `dns_refresh_rate`; default 5 s.
    pub refresh_rate: Duration,
    /// `dns_failure_refresh_rate.base_interval` and `max_interval` (default 10 times the base); without it,
    /// `refresh_rate` for both.
    pub failure_refresh: (Duration, Duration),
    /// `respect_dns_ttl`: refresh when the answer's TTL is over.
    pub respect_ttl: bool,
    /// `dns_jitter`: added to the refresh time at random; default 0.
    pub jitter: Duration,
}

/// `DnsLookupFamily`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsFamily {
    /// `AUTO`: IPv6, and IPv4 if there is none.
    Auto,
    /// `V4_ONLY`
    V4Only,
    /// `V6_ONLY`
    V6Only,
    /// `V4_PREFERRED`: IPv4, and IPv6 if there is none.
    V4Preferred,
    /// `ALL`: both.
    All,
}

/// `CircuitBreakers.Thresholds` of one priority.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// `max_connections`; default 1024.
    pub max_connections: u32,
    /// `max_pending_requests`; default 1024.
    pub max_pending_requests: u32,
    /// `max_requests`; default 1024.
    pub max_requests: u32,
    /// `max_retries`; default 3.
    pub max_retries: u32,
    /// `retry_budget`: takes the place of `max_retries`.
    pub retry_budget: Option<RetryBudget>,
    /// Whether `max_retries` or `retry_budget` set a limit; the greatest number that there is sets none.
    pub limits_retries: bool,
    /// `per_host_thresholds.max_connections`; no limit by default.
    pub max_connections_per_host: u32,
    /// `track_remaining`: publish `remaining_*` gauges.
    pub track_remaining: bool,
}

/// `CircuitBreakers.Thresholds.RetryBudget`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// `budget_percent` of the requests that are active and pending; default 20.
    pub percent: f32,
    /// `min_retry_concurrency`: allowed however few requests there are; default 3.
    pub min: u32,
}

impl RetryBudget {
    /// How many retries are allowed with so many requests.
    pub fn limit(&self, requests: u32) -> u32 {
        ((f64::from(self.percent) / 100.0 * f64::from(requests)) as u32).max(self.min)
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
            limits_retries: false,
            max_connections_per_host: u32::MAX,
            track_remaining: false,
        }
    }
}

/// The protocol spoken to a cluster's hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// `explicit_http_config.http_protocol_options`, and the default.
    #[default]
    Http1,
    /// `explicit_http_config.http2_protocol_options`: prior knowledge, or ALPN `h2` on TLS.
    Http2,
    /// `auto_config`: what ALPN agrees on.
    Auto,
    /// `use_downstream_protocol_config`: what the downstream speaks.
    UseDownstream,
}

/// `HttpProtocolOptions` common to both protocol versions, upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommonHttpOptions {
    /// `idle_timeout`: pooled connections close after so long; default 1 h, none for 0.
    pub idle_timeout: Option<Duration>,
    /// `max_connection_duration`; none is no limit.
    pub max_connection_duration: Option<Duration>,
    /// `max_requests_per_connection`; none is no limit.
    pub max_requests_per_connection: Option<u32>,
    /// `max_stream_duration`; none is no limit.
    pub max_stream_duration: Option<Duration>,
    /// `max_response_headers_kb`; default 60.
    pub max_response_headers_kb: u32,
    /// `max_headers_count`; default 100.
    pub max_headers_count: u32,
}

impl Default for CommonHttpOptions {
    fn default() -> Self {
        CommonHttpOptions {
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            max_requests_per_connection: None,
            max_stream_duration: None,
            max_response_headers_kb: 60,
            max_headers_count: 100,
        }
    }
}

/// `Http2ProtocolOptions`, both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Options {
    /// `hpack_table_size`; default 4096.
    pub hpack_table_size: u32,
    /// `max_concurrent_streams`; default 1024.
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size`; default 16 MiB.
    pub initial_stream_window_size: u32,
    /// `initial_connection_window_size`; default 24 MiB.
    pub initial_connection_window_size: u32,
    /// `allow_connect`: extended CONNECT (RFC 8441).
    pub allow_connect: bool,
    /// `connection_keepalive.interval` and `.timeout`.
    pub keepalive: Option<(Duration, Duration)>,
}

impl Default for Http2Options {
    fn default() -> Self {
        Http2Options {
            hpack_table_size: 4096,
            max_concurrent_streams: 1024,
            initial_stream_window_size: 16 << 20,
            initial_connection_window_size: 24 << 20,
            allow_connect: false,
            keepalive: None,
        }
    }
}

/// `TcpKeepalive`: `None` fields keep the system's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// `keepalive_probes`
    pub probes: Option<u32>,
    /// `keepalive_time`
    pub time: Option<Duration>,
    /// `keepalive_interval`
    pub interval: Option<Duration>,
}

impl Cluster {
    /// The source address for a connection to `host`, if `upstream_bind_config` has one of its family.
    pub fn source_for(&self, host: &Address) -> Option<std::net::SocketAddr> {
        let host = host.ip()?;
        let sources = [self.source_address, self.extra_source_address];
        sources.into_iter().flatten().find(|source| source.is_ipv4() == host.is_ipv4())
    }
}
