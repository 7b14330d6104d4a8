//! A raw xDS client over the generated stubs: it sends what it is told and shows what comes.
#![allow(dead_code, reason = "every test program uses its own part")]

use std::net::SocketAddr;
use std::time::Duration;

use control_plane_mock::Resource;
use proto::envoy::config::cluster::v3::Cluster;
use proto::envoy::config::core::v3::Node;
use proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use proto::google::rpc::Status as RpcStatus;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Longer than anything takes; a test that waits this long fails.
pub const LONG: Duration = Duration::from_secs(20);

pub const NODE: &str = "test-node";

pub fn node() -> Option<Node> {
    Some(Node { id: NODE.into(), cluster: "shop".into(), ..Default::default() })
}

pub fn cluster(name: &str, alt_stat_name: &str) -> Resource {
    let cluster =
        Cluster { name: name.into(), alt_stat_name: alt_stat_name.into(), ..Default::default() };
    Resource::pack(&cluster).expect("named")
}

pub fn endpoints(cluster_name: &str) -> Resource {
    let endpoints =
        ClusterLoadAssignment { cluster_name: cluster_name.into(), ..Default::default() };
    Resource::pack(&endpoints).expect("named")
}

pub async fn channel(address: SocketAddr) -> Channel {
    let address = format!("http://{address}");
    let endpoint = Channel::from_shared(address).expect("an address is a URI");
    endpoint.connect().await.expect("the control plane listens")
}

/// One open stream, its requests and its responses.
pub struct Stream<Req, Res> {
    requests: UnboundedSender<Req>,
    responses: Streaming<Res>,
}

pub type Sotw = Stream<DiscoveryRequest, DiscoveryResponse>;
pub type Delta = Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

impl<Req, Res> Stream<Req, Res> {
    pub fn send(&self, request: Req) {
        self.requests.send(request).expect("the stream is open");
    }

    pub async fn receive(&mut self) -> Res {
        let received = tokio::time::timeout(LONG, self.responses.message()).await;
        let message = received.expect("a response was expected").expect("the stream is open");
        message.expect("the server does not end a stream")
    }

    pub async fn receive_end(&mut self) -> Status {
        let received = tokio::time::timeout(LONG, self.responses.message()).await;
        received.expect("the end was expected").err().expect("a status was expected")
    }
}

pub async fn open_sotw(address: SocketAddr) -> Sotw {
    let mut client = AggregatedDiscoveryServiceClient::new(channel(address).await);
    let (requests, receiver) = unbounded_channel();
    let stream = UnboundedReceiverStream::new(receiver);
    let response = client.stream_aggregated_resources(stream).await.expect("the method exists");
    Stream { requests, responses: response.into_inner() }
}

pub async fn open_delta(address: SocketAddr) -> Delta {
    let mut client = AggregatedDiscoveryServiceClient::new(channel(address).await);
    let (requests, receiver) = unbounded_channel();
    let stream = UnboundedReceiverStream::new(receiver);
    let response = client.delta_aggregated_resources(stream).await.expect("the method exists");
    Stream { requests, responses: response.into_inner() }
}

impl Sotw {
    pub fn subscribe(&self, type_url: &str, names: &[&str]) {
        self.send(DiscoveryRequest {
            node: node(),
            type_url: type_url.into(),
            resource_names: owned(names),
            ..Default::default()
        });
    }

    /// Answers a response, with the names subscribed to from now on.
    pub fn answer(&self, response: &DiscoveryResponse, names: &[&str], error: Option<&str>) {
        self.send(DiscoveryRequest {
            version_info: response.version_info.clone(),
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            resource_names: owned(names),
            error_detail: error.map(rpc_status),
            ..Default::default()
        });
    }
}

impl Delta {
    pub fn change(&self, type_url: &str, subscribe: &[&str], unsubscribe: &[&str]) {
        self.send(DeltaDiscoveryRequest {
            node: node(),
            type_url: type_url.into(),
            resource_names_subscribe: owned(subscribe),
            resource_names_unsubscribe: owned(unsubscribe),
            ..Default::default()
        });
    }

    pub fn answer(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(rpc_status),
            ..Default::default()
        });
    }

    /// Receives a response, accepts it and returns the names of what was sent and what was removed.
    pub async fn accept(&mut self) -> (Vec<String>, Vec<String>) {
        let response = self.receive().await;
        self.answer(&response, None);
        let names = response.resources.into_iter().map(|resource| resource.name);
        (names.collect(), response.removed_resources)
    }
}

/// The names of the clusters in a response.
pub fn names(response: &DiscoveryResponse) -> Vec<String> {
    let names = response.resources.iter().map(proto::any::resource_name);
    names.map(|name| name.expect("named")).collect()
}

pub fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn rpc_status(message: &str) -> RpcStatus {
    RpcStatus { code: 13, message: message.into(), ..Default::default() }
}
