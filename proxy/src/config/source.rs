//! Where a dynamic resource comes from (`envoy.config.core.v3.ConfigSource`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use xds_client::Polling;

mod translate;

/// A `ConfigSource` with its initial fetch timeout.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConfigSource {
    /// The way to get the resource.
    pub kind: SourceKind,
    /// `initial_fetch_timeout`; default 15 s, `None` for 0 (wait for ever).
    pub initial_fetch_timeout: Option<Duration>,
}

/// The way to get a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// `ads`, and `self`.
    Ads,
    /// `path_config_source`, and the deprecated `path`.
    Path {
        /// `path`
        path: PathBuf,
        /// `watched_directory.path`
        watched_directory: Option<PathBuf>,
    },
    /// `api_config_source`
    Api(Arc<ApiConfigSource>),
}

/// `envoy.config.core.v3.ApiConfigSource`; also the bootstrap's `ads_config`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ApiConfigSource {
    /// `api_type` is a `DELTA_*` one.
    pub delta: bool,
    /// `api_type` is an `AGGREGATED_*` one (always true for `ads_config`).
    pub aggregated: bool,
    /// How servers are polled, where `api_type` is `REST`; none is for gRPC.
    pub polling: Option<Polling>,
    /// `grpc_services`, in order of preference; at least one. Over REST, it is the one of `cluster_names`.
    pub services: Vec<GrpcService>,
    /// `set_node_on_first_message_only`
    pub set_node_on_first_message_only: bool,
    /// `rate_limit_settings`; none means no limit.
    pub rate_limit: Option<RateLimit>,
}

/// `RateLimitSettings`: a token bucket over discovery requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// `max_tokens`; default 100.
    pub max_tokens: u32,
    /// The time between two tokens (1 s / `fill_rate`); default 100 ms.
    pub fill_interval: Duration,
}

impl Default for RateLimit {
    fn default() -> Self {
        RateLimit { max_tokens: 100, fill_interval: Duration::from_millis(100) }
    }
}

/// `envoy.config.core.v3.GrpcService`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrpcService {
    /// What is called.
    pub target: GrpcTarget,
    /// `timeout`; none means no limit.
    pub timeout: Option<Duration>,
    /// `initial_metadata`, in order; keys in lower case.
    pub initial_metadata: Vec<(String, String)>,
}

/// The target of a gRPC service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GrpcTarget {
    /// `envoy_grpc`: a cluster of ours.
    Cluster {
        /// `cluster_name`
        name: String,
        /// `authority`; default is the cluster's name
        authority: Option<String>,
    },
    /// `google_grpc.target_uri` without call credentials.
    Uri(String),
}
