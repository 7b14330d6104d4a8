//! Network filters of a filter chain.

mod connection;
mod ext_authz;
mod rbac;
mod tcp_proxy;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::envoy::config::listener::v3 as pb;
use proto::envoy::config::listener::v3::filter::ConfigType;
use proto::envoy::extensions::filters::network::direct_response::v3::Config as PbDirectResponse;
use proto::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as PbExtAuthz;
use proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager as PbHttp;
use proto::envoy::extensions::filters::network::rbac::v3::Rbac as PbRbac;
use proto::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy as PbTcpProxy;
use proto::google::protobuf::Any;

use crate::config::access_log::AccessLog;
use crate::config::filter_state::StateValues;
use crate::config::hcm::HttpConnectionManager;
use crate::config::matcher::MetadataMatcher;
use crate::config::metadata_match::MetadataMatch;
use crate::config::rbac::Engines;
use crate::config::source::GrpcService;
use crate::config::value::{bytes, non_empty, required};
use crate::config::{At, ConfigError, Context, any, istio};

pub use connection::{ConnectionLimit, ConnectionRateLimit};

/// A network filter.
#[derive(Clone, Debug)]
pub enum NetworkFilter {
    /// `envoy.filters.network.http_connection_manager`
    Http(Arc<HttpConnectionManager>),
    /// `envoy.filters.network.tcp_proxy`
    TcpProxy(Arc<TcpProxy>),
    /// `envoy.filters.network.direct_response`: these bytes for every connection, which then closes.
    DirectResponse(Bytes),
    /// `envoy.filters.network.echo`: what a connection sends comes back.
    Echo,
    /// `envoy.filters.network.rbac`; not terminal, as all from here on.
    Rbac(Arc<NetworkRbac>),
    /// `envoy.filters.network.connection_limit`
    ConnectionLimit(Arc<ConnectionLimit>),
    /// `envoy.filters.network.local_ratelimit`
    RateLimit(Arc<ConnectionRateLimit>),
    /// `envoy.filters.network.set_filter_state`
    FilterState(Arc<StateValues>),
    /// `envoy.filters.network.sni_cluster`
    SniCluster,
    /// `envoy.filters.network.ext_authz`, likewise.
    ExtAuthz(Arc<NetworkAuthz>),
}

/// `envoy.extensions.filters.network.rbac.v3.RBAC`.
#[derive(Clone, Debug)]
pub struct NetworkRbac {
    /// What decides, and what is only noted.
    pub engines: Engines,
    /// `stat_prefix`
    pub stat_prefix: Box<str>,
    /// `shadow_rules_stat_prefix`
    pub shadow_prefix: Box<str>,
    /// `delay_deny`: how long a connection that is denied stays open all the same.
    pub delay_deny: Option<Duration>,
}

/// `envoy.extensions.filters.network.ext_authz.v3.ExtAuthz`.
#[derive(Clone, Debug)]
pub struct NetworkAuthz {
    /// `stat_prefix`
    pub stat_prefix: Box<str>,
    /// `grpc_service`
    pub service: GrpcService,
    /// `failure_mode_allow`
    pub allows_on_failure: bool,
    /// `include_peer_certificate`
    pub tells_certificate: bool,
    /// `include_tls_session`
    pub tells_session: bool,
    /// `filter_enabled_metadata`
    pub enabled_by: Option<MetadataMatcher>,
    /// `metadata_context_namespaces`
    pub metadata: Box<[Box<str>]>,
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.
#[derive(Clone, Debug)]
pub struct TcpProxy {
    /// `stat_prefix`
    pub stat_prefix: Arc<str>,
    /// `cluster`, or `weighted_clusters`; weights sum up to more than 0.
    pub clusters: Vec<TcpCluster>,
    /// `hash_policy` with `source_ip`: the client's address decides for policies that hash.
    pub hash_source_ip: bool,
    /// `idle_timeout`; default 1 h, none for 0.
    pub idle_timeout: Option<Duration>,
    /// `max_downstream_connection_duration`
    pub max_duration: Option<Duration>,
    /// `max_connect_attempts`; default 1.
    pub max_connect_attempts: u32,
    /// `access_log`
    pub access_log: Vec<AccessLog>,
}

/// A cluster that connections may go to.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpCluster {
    /// Its name.
    pub name: Arc<str>,
    /// Its share of the sum of all weights.
    pub weight: u32,
    /// `metadata_match`: the subset of its hosts.
    pub metadata_match: Option<Arc<MetadataMatch>>,
}

/// Whether Pillion does without the filter, and traffic too.
fn is_left_out(filter: &pb::Filter) -> bool {
    let Some(ConfigType::TypedConfig(config)) = &filter.config_type else { return false };
    istio::is_telemetry(config)
}

impl NetworkFilter {
    /// The filters of a chain whose listener buffers at most `buffer_limit` bytes a connection. The last one is terminal,
    /// and no other; none at all closes every connection.
    pub fn chain_from_proto(
        filters: &[pb::Filter],
        buffer_limit: u32,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Vec<NetworkFilter>, ConfigError> {
        let last = filters.len().saturating_sub(1);
        let filters = filters.iter().enumerate().filter(|(index, filter)| {
            let left_out = is_left_out(filter);
            if left_out {
                context.warn(&at.index("filters", *index), istio::LEFT_OUT);
            }
            !left_out
        });
        let filters = filters.map(|(index, filter)| {
            let at = at.index("filters", index);
            let filter = NetworkFilter::from_proto(filter, buffer_limit, &at, context)?;
            match (index == last, filter.is_terminal()) {
                (true, true) | (false, false) => Ok(filter),
                (false, true) => Err(at.error("a terminal filter must be the last of its chain")),
                (true, false) => Err(at.error("the last filter of a chain must be terminal")),
            }
        });
        filters.collect()
    }

    fn is_terminal(&self) -> bool {
        match self {
            NetworkFilter::Http(_)
            | NetworkFilter::TcpProxy(_)
            | NetworkFilter::DirectResponse(_)
            | NetworkFilter::Echo => true,
            NetworkFilter::Rbac(_)
            | NetworkFilter::ExtAuthz(_)
            | NetworkFilter::ConnectionLimit(_)
            | NetworkFilter::RateLimit(_)
            | NetworkFilter::FilterState(_)
            | NetworkFilter::SniCluster => false,
        }
    }

    fn from_proto(
        message: &pb::Filter,
        buffer_limit: u32,
        at: &At<'_>,
        context: &Context,
    ) -> Result<NetworkFilter, ConfigError> {
        let name = non_empty(&message.name, &at.field("name"))?;
        let at_config = at.field("typed_config");
        let config = match required(&message.config_type, &at_config)? {
            ConfigType::TypedConfig(config) => config,
            ConfigType::ConfigDiscovery(_) => {
                return Err(at.field("config_discovery").unsupported());
            }
        };
        if any::is::<PbHttp>(config) {
            let message = any::open(config, &at_config)?;
            let http =
                HttpConnectionManager::from_proto(&message, buffer_limit, &at_config, context)?;
            return Ok(NetworkFilter::Http(Arc::new(http)));
        }
        if any::is::<PbTcpProxy>(config) {
            let message = any::open(config, &at_config)?;
            let tcp_proxy = TcpProxy::from_proto(&message, &at_config, context)?;
            return Ok(NetworkFilter::TcpProxy(Arc::new(tcp_proxy)));
        }
        if any::is::<PbDirectResponse>(config) {
            let message: PbDirectResponse = any::open(config, &at_config)?;
            let response = message.response.as_ref();
            let response =
                response.map(|source| bytes(source, &at_config.field("response"), context));
            return Ok(NetworkFilter::DirectResponse(
                response.transpose()?.unwrap_or_default().into(),
            ));
        }
        if any::is::<PbRbac>(config) {
            let rbac =
                NetworkRbac::from_proto(&any::open(config, &at_config)?, &at_config, context)?;
            return Ok(NetworkFilter::Rbac(Arc::new(rbac)));
        }
        if any::is::<PbExtAuthz>(config) {
            let message = any::open(config, &at_config)?;
            let authz = NetworkAuthz::from_proto(&message, &at_config, context)?;
            return Ok(NetworkFilter::ExtAuthz(Arc::new(authz)));
        }
        NetworkFilter::of_connections(config, &at_config, context)?
            .ok_or_else(|| any::unknown(name, Some(config), &at_config))
    }

    /// A filter that needs nothing of a connection but that it has come.
    fn of_connections(
        config: &Any,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Option<NetworkFilter>, ConfigError> {
        Ok(Some(match any::type_name(Some(config)) {
            "envoy.extensions.filters.network.echo.v3.Echo" => NetworkFilter::Echo,
            "envoy.extensions.filters.network.sni_cluster.v3.SniCluster" => {
                NetworkFilter::SniCluster
            }
            "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit" => {
                let limit = ConnectionLimit::from_proto(&any::open(config, at)?, at, context)?;
                NetworkFilter::ConnectionLimit(Arc::new(limit))
            }
            "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit" => {
                let limit = ConnectionRateLimit::from_proto(&any::open(config, at)?, at, context)?;
                NetworkFilter::RateLimit(Arc::new(limit))
            }
            "envoy.extensions.filters.network.set_filter_state.v3.Config" => {
                let values = connection::filter_state(&any::open(config, at)?, at, context)?;
                NetworkFilter::FilterState(Arc::new(values))
            }
            _ => return Ok(None),
        }))
    }
}
