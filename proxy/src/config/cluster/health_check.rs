//! Active health checks (`envoy.config.core.v3.HealthCheck`).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::config::headers::AppendAction;
use crate::config::matcher::StringMatcher;

mod translate;

/// How a cluster's hosts are asked whether they are well.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// `timeout` of one check.
    pub timeout: Duration,
    /// The pauses between checks.
    pub pauses: Pauses,
    /// `unhealthy_threshold`: failures in a row that make a healthy host unhealthy.
    pub unhealthy_threshold: u32,
    /// `healthy_threshold`: successes in a row that make an unhealthy host healthy.
    pub healthy_threshold: u32,
    /// `reuse_connection`; default true.
    pub reuse_connection: bool,
    /// `event_log_path`, or the path of the file sink.
    pub event_log: Option<Arc<str>>,
    /// `always_log_health_check_failures`
    pub logs_failures: bool,
    /// `always_log_health_check_success`
    pub logs_successes: bool,
    /// What is asked.
    pub probe: Probe,
}

/// The pauses between the checks of a host.
#[derive(Clone, Debug)]
pub struct Pauses {
    /// `interval` while the host is healthy.
    pub healthy: Duration,
    /// `unhealthy_interval`; default `interval`.
    pub unhealthy: Duration,
    /// `healthy_edge_interval`: while successes count towards healthy; default `interval`.
    pub healthy_edge: Duration,
    /// `unhealthy_edge_interval`: while failures count towards unhealthy; default `unhealthy_interval`.
    pub unhealthy_edge: Duration,
    /// `no_traffic_interval`: while the cluster has never had a connection; default 60 s.
    pub no_traffic: Duration,
    /// `no_traffic_healthy_interval`: as above, while the host is healthy; default `no_traffic_interval`.
    pub no_traffic_healthy: Duration,
    /// `initial_jitter`: at most so long before the first check; default 0.
    pub initial_jitter: Duration,
    /// `interval_jitter`: at most so much more; default 0.
    pub jitter: Duration,
    /// `interval_jitter_percent`: at most this part more; default 0.
    pub jitter_percent: u32,
}

/// What a health check asks.
#[derive(Clone, Debug)]
pub enum Probe {
    /// `http_health_check`
    Http(HttpProbe),
    /// `tcp_health_check`
    Tcp(TcpProbe),
    /// `grpc_health_check`: `grpc.health.v1.Health/Check`.
    Grpc(GrpcProbe),
}

/// `HttpHealthCheck`.
#[derive(Clone, Debug)]
pub struct HttpProbe {
    /// `host`; empty means the endpoint's hostname, or the cluster's name.
    pub host: Box<str>,
    /// `path`
    pub path: http::uri::PathAndQuery,
    /// `method`; default GET.
    pub method: Method,
    /// `send`
    pub send: Vec<u8>,
    /// `receive`: blocks that must appear in the body in order.
    pub receive: Vec<Vec<u8>>,
    /// `response_buffer_size`; default 1024.
    pub response_buffer: usize,
    /// `request_headers_to_add` and, done first, `request_headers_to_remove`.
    pub headers: ProbeHeaders,
    /// `expected_statuses`, each from the first to before the second; default 200.
    pub expected: Vec<(i64, i64)>,
    /// `retriable_statuses`: count towards the threshold, where other bad ones make a host unhealthy at once.
    pub retriable: Vec<(i64, i64)>,
    /// `codec_client_type: HTTP2`
    pub http2: bool,
    /// `service_name_matcher`, for `x-envoy-upstream-healthchecked-cluster`.
    pub service: Option<StringMatcher>,
}

/// Changes of a probe's headers.
#[derive(Clone, Debug, Default)]
pub struct ProbeHeaders {
    /// Removed.
    pub remove: Vec<HeaderName>,
    /// Added.
    pub add: Vec<(HeaderName, HeaderValue, AppendAction)>,
}

/// `TcpHealthCheck`.
#[derive(Clone, Debug)]
pub struct TcpProbe {
    /// `send`; empty means that a connection is enough.
    pub send: Vec<u8>,
    /// `receive`: blocks that must come in this order.
    pub receive: Vec<Vec<u8>>,
}

/// `GrpcHealthCheck`.
#[derive(Clone, Debug)]
pub struct GrpcProbe {
    /// `service_name`
    pub service: String,
    /// `authority`; empty means the endpoint's hostname, or the cluster's name.
    pub authority: Box<str>,
    /// `initial_metadata`
    pub headers: ProbeHeaders,
}
