//! A scripted management server, and short ways to say what tests say often.

use std::time::Duration;

use prost::{Message, Name};
use proto::envoy::config::cluster::v3::Cluster;
use proto::envoy::config::core::v3::Node;
use proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use proto::google::protobuf::Any;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Response, Status, Streaming};
use tower::util::BoxCloneSyncService;
use xds_client::{
    Client, ClientConfig, Event, Mode, Protocol, ResourceStatus, Server, Subscription,
    SubscriptionConfig, Update, transport,
};

pub const CDS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub const EDS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// Awaits what must happen: with the clock paused, what does not is noticed at once.
async fn must<T>(what: &str, future: impl Future<Output = T>) -> T {
    let wait = tokio::time::timeout(Duration::from_secs(120), future);
    wait.await.unwrap_or_else(|_| panic!("in vain did the test wait for {what}"))
}

/// A server whose streams the test plays.
pub struct Script {
    streams: mpsc::UnboundedReceiver<ServerStream>,
}

impl Script {
    /// The server and the client's way to it.
    pub fn new(name: &str) -> (Self, Server) {
        let (sender, streams) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
            let path = request.uri().path().to_owned();
            let accept = Accept { path, streams: sender.clone() };
            async move {
                let response = tonic::server::Grpc::new(Bytes).streaming(accept, request).await;
                Ok::<_, transport::BoxError>(response)
            }
        });
        (Self { streams }, server(name, BoxCloneSyncService::new(service)))
    }

    /// The next stream that the client opens.
    pub async fn accept(&mut self) -> ServerStream {
        must("a stream", self.streams.recv()).await.expect("the client runs")
    }

    /// Whether the client has opened another stream by now.
    pub fn has_stream(&mut self) -> bool {
        !self.streams.is_empty()
    }
}

/// A server that nobody can reach.
pub fn unreachable(name: &str) -> Server {
    let service = tower::service_fn(|_: http::Request<tonic::body::Body>| async {
        Err::<http::Response<tonic::body::Body>, _>(transport::BoxError::from("unreachable"))
    });
    server(name, BoxCloneSyncService::new(service))
}

fn server(name: &str, service: transport::Service) -> Server {
    Server { name: name.to_owned(), service, metadata: Default::default() }
}

/// A stream as the server sees it.
pub struct ServerStream {
    pub path: String,
    pub metadata: tonic::metadata::MetadataMap,
    requests: Streaming<Vec<u8>>,
    responses: mpsc::UnboundedSender<Result<Vec<u8>, Status>>,
}

impl ServerStream {
    async fn request<M: Message + Default>(&mut self) -> M {
        let bytes = must("a request", self.requests.message())
            .await
            .expect("a request")
            .expect("the stream is open");
        M::decode(bytes.as_slice()).expect("requests can be decoded")
    }

    pub async fn sotw(&mut self) -> DiscoveryRequest {
        self.request().await
    }

    pub async fn delta(&mut self) -> DeltaDiscoveryRequest {
        self.request().await
    }

    /// Type URL and nonce of the next request.
    pub async fn either(&mut self, protocol: Protocol) -> (String, String) {
        match protocol {
            Protocol::Sotw | Protocol::Rest(_) => {
                let request = self.sotw().await;
                (request.type_url, request.response_nonce)
            }
            Protocol::Delta => {
                let request = self.delta().await;
                (request.type_url, request.response_nonce)
            }
        }
    }

    /// Sends version `1` of the resource `a`.
    pub fn send_either(&self, protocol: Protocol, type_url: &str, nonce: &str) {
        match protocol {
            Protocol::Sotw | Protocol::Rest(_) => self.send(&world(type_url, "1", nonce, &["a"])),
            Protocol::Delta => self.send(&change(type_url, nonce, &[("a", "1")], &[])),
        }
    }

    /// Asserts that the client says nothing more, however long one waits.
    pub async fn is_silent(&mut self) {
        let wait = tokio::time::timeout(Duration::from_secs(1), self.requests.message());
        assert!(wait.await.is_err(), "the client said something or hung up");
    }

    pub fn send(&self, response: &impl Message) {
        self.send_bytes(response.encode_to_vec());
    }

    pub fn send_bytes(&self, bytes: Vec<u8>) {
        self.responses.send(Ok(bytes)).expect("the client reads");
    }

    /// Waits until the client has hung up.
    pub async fn hung_up(&self) {
        must("the client to hang up", self.responses.closed()).await;
    }
}

/// Turns a call into a [`ServerStream`].
#[derive(Clone)]
struct Accept {
    path: String,
    streams: mpsc::UnboundedSender<ServerStream>,
}

impl tonic::server::StreamingService<Vec<u8>> for Accept {
    type Response = Vec<u8>;
    type ResponseStream = UnboundedReceiverStream<Result<Vec<u8>, Status>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Vec<u8>>>) -> Self::Future {
        let (responses, receiver) = mpsc::unbounded_channel();
        let path = self.path.clone();
        let metadata = request.metadata().clone();
        let stream = ServerStream { path, metadata, requests: request.into_inner(), responses };
        // A test that is over has no use for another stream.
        let _ = self.streams.send(stream);
        std::future::ready(Ok(Response::new(UnboundedReceiverStream::new(receiver))))
    }
}

/// Messages as bytes, so that a test can send nonsense.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; prost::bytes::Buf::remaining(buffer)];
        prost::bytes::Buf::copy_to_slice(buffer, &mut bytes);
        Ok(Some(bytes))
    }
}

pub fn node() -> Node {
    Node { id: "sidecar".into(), cluster: "payments".into(), ..Default::default() }
}

/// A client of an aggregated stream and the one server it has.
pub fn start(protocol: Protocol) -> (Client, Script) {
    let (script, server) = Script::new("primary");
    (start_with(config(protocol, vec![server])), script)
}

pub fn config(protocol: Protocol, servers: Vec<Server>) -> ClientConfig {
    ClientConfig::new(node(), protocol, Mode::Aggregated, servers)
}

pub fn start_with(config: ClientConfig) -> Client {
    Client::start(config).expect("the configuration is valid")
}

pub fn clusters() -> SubscriptionConfig {
    SubscriptionConfig {
        type_url: CDS.into(),
        wildcard: true,
        full_state: true,
        initial_fetch_timeout: Some(xds_client::DEFAULT_INITIAL_FETCH_TIMEOUT),
        name_of: proto::any::resource_name,
    }
}

pub fn endpoints() -> SubscriptionConfig {
    SubscriptionConfig { type_url: EDS.into(), wildcard: false, full_state: false, ..clusters() }
}

/// A packed resource of either type.
pub fn packed(type_url: &str, name: &str) -> Any {
    let value = match type_url {
        CDS => Cluster { name: name.into(), ..Default::default() }.encode_to_vec(),
        _ => ClusterLoadAssignment { cluster_name: name.into(), ..Default::default() }
            .encode_to_vec(),
    };
    Any { type_url: type_url.into(), value }
}

/// A state-of-the-world response.
pub fn world(type_url: &str, version: &str, nonce: &str, names: &[&str]) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version.into(),
        type_url: type_url.into(),
        nonce: nonce.into(),
        resources: names.iter().map(|name| packed(type_url, name)).collect(),
        ..Default::default()
    }
}

/// A delta response of `(name, version)` and removed names.
pub fn change(
    type_url: &str,
    nonce: &str,
    news: &[(&str, &str)],
    removed: &[&str],
) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        system_version_info: format!("system-{nonce}"),
        type_url: type_url.into(),
        nonce: nonce.into(),
        resources: news.iter().map(|(name, version)| wrapper(type_url, name, version)).collect(),
        removed_resources: removed.iter().map(|name| name.to_string()).collect(),
        ..Default::default()
    }
}

pub fn wrapper(type_url: &str, name: &str, version: &str) -> Resource {
    Resource {
        name: name.into(),
        version: version.into(),
        resource: Some(packed(type_url, name)),
        ..Default::default()
    }
}

/// Wraps a resource for a state-of-the-world response.
pub fn wrap(resource: &Resource) -> Any {
    Any { type_url: Resource::type_url(), value: resource.encode_to_vec() }
}

pub fn seconds(seconds: i64) -> Option<proto::google::protobuf::Duration> {
    Some(proto::google::protobuf::Duration { seconds, nanos: 0 })
}

/// The next event, which must be an update.
pub async fn update(subscription: &mut Subscription) -> Update {
    match must("an update", subscription.next()).await {
        Some(Event::Update(update)) => update,
        other => panic!("expected an update, not {other:?}"),
    }
}

/// Names of the resources in an update.
pub fn names(update: &Update) -> Vec<&str> {
    update.resources.iter().map(|resource| resource.name.as_str()).collect()
}

/// Asserts that there is no event, however long one waits.
pub async fn no_event(subscription: &mut Subscription) {
    let wait = tokio::time::timeout(Duration::from_secs(1), subscription.next());
    if let Ok(event) = wait.await {
        panic!("unexpected {event:?}");
    }
}

/// Status and version in use of every resource of a subscription.
pub async fn resources(subscription: &Subscription) -> Vec<(String, ResourceStatus, String)> {
    let state = subscription.handle().state().await.expect("the client runs");
    state
        .resources
        .into_iter()
        .map(|resource| (resource.name, resource.status, resource.version))
        .collect()
}

/// The message of a NACK.
pub fn nack(detail: &Option<proto::google::rpc::Status>) -> &str {
    let detail = detail.as_ref().expect("a NACK");
    assert_eq!(detail.code, 13, "google.rpc.Code.INTERNAL");
    &detail.message
}
