//! Where resources come from: the aggregated stream, streams for one type, polled servers, and files.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proto::envoy::config::core::v3::Node;
use proto::envoy::service::discovery::v3::DiscoveryResponse;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use xds_client::file::{self, FileConfig};
use xds_client::transport::{BoxError, Service, channel};
use xds_client::{
    BackoffConfig, Client, ClientConfig, Mode, Pause, Protocol, RateLimit, Server, StartError,
    Subscription, SubscriptionConfig,
};

use crate::config::cluster::UpstreamProtocol;
use crate::config::source::{ApiConfigSource, ConfigSource, GrpcService, GrpcTarget, SourceKind};
use crate::upstream::client::{ClusterService, Http1Service};
use crate::upstream::cluster::ClusterRegistry;

/// A type of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CDS
    Clusters,
    /// EDS
    Endpoints,
    /// LDS
    Listeners,
    /// RDS
    Routes,
    /// SDS
    Secrets,
}

impl Kind {
    /// The type URL.
    pub fn type_url(self) -> &'static str {
        match self {
            Kind::Clusters => proto::type_url::CLUSTER,
            Kind::Endpoints => proto::type_url::CLUSTER_LOAD_ASSIGNMENT,
            Kind::Listeners => proto::type_url::LISTENER,
            Kind::Routes => proto::type_url::ROUTE_CONFIGURATION,
            Kind::Secrets => proto::type_url::SECRET,
        }
    }

    /// Names have initial fetch timeouts of their own, see [`Fetch`](super::watches::Fetch).
    fn subscription(self, initial_fetch_timeout: Option<Duration>) -> SubscriptionConfig {
        let is_everything = matches!(self, Kind::Clusters | Kind::Listeners);
        SubscriptionConfig {
            type_url: self.type_url().to_owned(),
            wildcard: is_everything,
            full_state: is_everything,
            initial_fetch_timeout: initial_fetch_timeout.filter(|_| is_everything),
            name_of: proto::any::resource_name,
        }
    }
}

/// Why a source cannot be subscribed to.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// `ads` without an `ads_config`.
    #[error("ads: the bootstrap has no dynamic_resources.ads_config")]
    NoAds,
    /// A gRPC service names a cluster that is not there.
    #[error(
        "envoy_grpc.cluster_name: unknown cluster {0:?}; management servers must be static clusters"
    )]
    UnknownCluster(String),
    /// A gRPC service has an unusable authority.
    #[error("envoy_grpc.authority: {0:?} is no authority")]
    Authority(String),
    /// Metadata that gRPC cannot send.
    #[error("initial_metadata: {0:?} is no name and value of ASCII metadata")]
    Metadata(String),
    /// The client cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The file cannot be watched.
    #[error(transparent)]
    File(#[from] file::FileError),
}

/// Streams that are open, shared by equal sources.
pub struct Sources {
    node: Node,
    ads: Option<Arc<ApiConfigSource>>,
    registry: Arc<ClusterRegistry>,
    streams: Vec<Stream>,
}

struct Stream {
    origin: Origin,
    mode: Mode,
    client: Client,
    /// Who subscribes holds it too; a stream that nobody holds is closed when the next one is wanted.
    lease: Rc<()>,
}

/// Which configuration a stream is of. That of `ads` is not shared with an equal one, whose resources are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Ads,
    Api(Arc<ApiConfigSource>),
}

/// A subscription that keeps its stream open.
pub struct Subscribed {
    /// The subscription.
    pub subscription: Subscription,
    /// Held as long as the subscription; none for files.
    pub lease: Option<Rc<()>>,
}

impl Sources {
    /// No stream yet. `ads` is the bootstrap's `ads_config`; clusters that are called are looked up in `registry`.
    pub fn new(node: Node, ads: Option<ApiConfigSource>, registry: Arc<ClusterRegistry>) -> Self {
        Sources { node, ads: ads.map(Arc::new), registry, streams: Vec::new() }
    }

    /// Subscribes to a type. The first subscription to a source connects.
    ///
    /// # Errors
    /// The source cannot be reached by this configuration.
    pub fn subscribe(
        &mut self,
        kind: Kind,
        source: &ConfigSource,
    ) -> Result<Subscribed, SourceError> {
        let config = kind.subscription(source.initial_fetch_timeout);
        let (origin, api) = match &source.kind {
            SourceKind::Ads => (Origin::Ads, self.ads.clone().ok_or(SourceError::NoAds)?),
            SourceKind::Api(api) => (Origin::Api(Arc::clone(api)), Arc::clone(api)),
            SourceKind::Path { path, watched_directory } => {
                let (path, watched_directory) = (path.clone(), watched_directory.clone());
                let subscription =
                    file::watch(FileConfig { path, watched_directory, parse: read }, config)?;
                return Ok(Subscribed { subscription, lease: None });
            }
        };
        let stream = self.stream(origin, &api, kind)?;
        let subscription = stream.client.subscribe(config);
        Ok(Subscribed { subscription, lease: Some(Rc::clone(&stream.lease)) })
    }

    /// Holds back the requests of these types on every stream until the guards are dropped.
    pub fn pause(&self, kinds: &[Kind]) -> Vec<Pause> {
        let type_urls: Vec<_> = kinds.iter().map(|kind| kind.type_url()).collect();
        self.streams.iter().map(|stream| stream.client.pause(&type_urls)).collect()
    }

    /// Holds back the answers to this type on every stream until the guards are dropped.
    pub fn hold_answers(&self, kind: Kind) -> Vec<Pause> {
        self.streams.iter().map(|stream| stream.client.hold_answers(&[kind.type_url()])).collect()
    }

    /// The aggregated stream, once something has subscribed to it.
    pub fn ads(&self) -> Option<Client> {
        let ads = self.streams.iter().find(|stream| stream.origin == Origin::Ads)?;
        Some(ads.client.clone())
    }

    /// The first server of a source, to call another service of it.
    ///
    /// # Errors
    /// It cannot be reached by this configuration.
    pub fn first_server(&self, api: &ApiConfigSource) -> Result<Server, SourceError> {
        let first = api.services.first().ok_or(StartError::NoServer)?;
        self.server(first, api.polling.is_some())
    }

    /// The stream that is open, or a new one.
    fn stream(
        &mut self,
        origin: Origin,
        api: &ApiConfigSource,
        kind: Kind,
    ) -> Result<&Stream, SourceError> {
        let mode = match api.aggregated {
            true => Mode::Aggregated,
            false => Mode::SingleType { type_url: kind.type_url().to_owned() },
        };
        let same = |stream: &Stream| stream.origin == origin && stream.mode == mode;
        let index = match self.streams.iter().position(same) {
            Some(index) => index,
            None => {
                self.streams.retain(|stream| Rc::strong_count(&stream.lease) > 1);
                let client = self.start(api, mode.clone())?;
                self.streams.push(Stream { origin, mode, client, lease: Rc::default() });
                self.streams.len() - 1
            }
        };
        Ok(&self.streams[index])
    }

    fn start(&self, api: &ApiConfigSource, mode: Mode) -> Result<Client, SourceError> {
        let is_rest = api.polling.is_some();
        let servers = api.services.iter().map(|service| self.server(service, is_rest));
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        let protocol = match api.polling {
            Some(polling) => Protocol::Rest(polling),
            None if api.delta => Protocol::Delta,
            None => Protocol::Sotw,
        };
        let mut config = ClientConfig::new(self.node.clone(), protocol, mode, servers);
        if let Some(polling) = api.polling {
            config.backoff =
                BackoffConfig { base: polling.refresh_delay, max: polling.refresh_delay };
        }
        config.set_node_on_first_message_only = api.set_node_on_first_message_only;
        config.rate_limit = api.rate_limit.map(|limit| RateLimit {
            max_tokens: limit.max_tokens,
            fill_rate: 1.0 / limit.fill_interval.as_secs_f64(),
        });
        Ok(Client::start(config)?)
    }

    fn server(&self, service: &GrpcService, is_rest: bool) -> Result<Server, SourceError> {
        let (name, way) = match &service.target {
            GrpcTarget::Cluster { name, authority } => {
                (name, through_cluster(&self.registry, name, authority.as_deref(), is_rest)?)
            }
            GrpcTarget::Uri(uri) => (uri, channel(&[uri.parse()?])?),
        };
        Ok(Server {
            name: name.clone(),
            service: way,
            metadata: metadata(&service.initial_metadata)?,
        })
    }
}

/// Envoy's default authority is the cluster's name. REST goes over what the cluster speaks, gRPC over HTTP/2.
fn through_cluster(
    registry: &ClusterRegistry,
    name: &str,
    authority: Option<&str>,
    is_rest: bool,
) -> Result<Service, SourceError> {
    let unknown = || SourceError::UnknownCluster(name.to_owned());
    let protocol = registry.get(name).ok_or_else(unknown)?.config().protocol;
    let authority = authority.unwrap_or(name);
    let authority = authority.parse().map_err(|_| SourceError::Authority(authority.to_owned()))?;
    if is_rest && protocol != UpstreamProtocol::Http2 {
        let service = Http1Service::new(registry.slot(name), authority);
        return Ok(BoxCloneSyncService::new(service.map_err(BoxError::from)));
    }
    let service = ClusterService::new(registry.slot(name), authority);
    Ok(BoxCloneSyncService::new(service.map_err(BoxError::from)))
}

fn metadata(pairs: &[(String, String)]) -> Result<MetadataMap, SourceError> {
    let mut metadata = MetadataMap::new();
    for (key, value) in pairs {
        let unusable = || SourceError::Metadata(key.clone());
        let name: AsciiMetadataKey = key.parse().map_err(|_| unusable())?;
        let value: AsciiMetadataValue = value.parse().map_err(|_| unusable())?;
        metadata.append(name, value);
    }
    Ok(metadata)
}

/// Reads a file that holds resources. The descriptors that this takes are dropped again: they are large, and files seldom change.
fn read(path: &Path) -> Result<DiscoveryResponse, String> {
    let parsed = proto::Registry::load().read_file(path).map_err(|error| error.to_string())?;
    Ok(parsed.message)
}
