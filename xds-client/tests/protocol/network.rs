//! Real sockets: TCP, several addresses, and unix domain sockets.

use std::path::PathBuf;

use proto::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_stream::{Once, StreamExt, once};
use tonic::{Request, Response, Status, Streaming, async_trait, transport::server::Router};
use xds_client::{Protocol, Server, transport};

use crate::script::*;

/// Answers every stream once, after its first request, and hangs up: headers and message leave
/// together, as with servers that send no headers before they have something to say.
struct Greeter;

#[async_trait]
impl AggregatedDiscoveryService for Greeter {
    type StreamAggregatedResourcesStream = Once<Result<DiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        request.into_inner().message().await?;
        Ok(Response::new(once(Ok(world(CDS, "1", "n1", &["a"])))))
    }

    type DeltaAggregatedResourcesStream = Once<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        request.into_inner().message().await?;
        Ok(Response::new(once(Ok(change(CDS, "n1", &[("a", "1")], &[])))))
    }
}

fn greeter() -> Router {
    tonic::transport::Server::builder().add_service(AggregatedDiscoveryServiceServer::new(Greeter))
}

async fn greets(targets: &[transport::Target]) {
    let service = transport::channel(targets).expect("the targets are valid");
    let server = Server { name: "greeter".into(), service, metadata: Default::default() };
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let client = start_with(config(protocol, vec![server.clone()]));
        let mut subscription = client.subscribe(clusters());
        assert_eq!(names(&update(&mut subscription).await), ["a"]);
    }
}

#[tokio::test]
async fn a_server_is_reached_over_tcp_even_if_another_of_its_addresses_is_dead() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let dead = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let targets = [dead.local_addr().expect("bound"), address]
        .map(|address| address.to_string().parse().expect("a target"));
    drop(dead);
    let serve = tokio::spawn(greeter().serve_with_incoming(TcpListenerStream::new(listener)));
    greets(&targets[1..]).await;
    greets(&targets).await;
    serve.abort();
}

#[tokio::test]
async fn a_server_is_reached_over_a_unix_socket() {
    let path =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("xds-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).expect("a fresh path");
    let incoming = UnixListenerStream::new(listener).map(|stream| stream);
    let serve = tokio::spawn(greeter().serve_with_incoming(incoming));
    greets(&[format!("unix:{}", path.display()).parse().expect("a target")]).await;
    serve.abort();
    std::fs::remove_file(path).expect("the socket is there");
}
