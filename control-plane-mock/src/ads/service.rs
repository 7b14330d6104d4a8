//! The gRPC side: connections, methods and the tasks that read requests.
//!
//! All services differ in their path and type only, so they are a table and not one generated server each.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use http::{Request as HttpRequest, Response as HttpResponse};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use proto::type_url;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Request as GrpcRequest, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::load;
use super::message::{Outbox, Request};
use crate::core::Shared;
use crate::event::Protocol;

/// The largest request, in bytes: the names of some hundred thousand resources.
const MAX_REQUEST: usize = 64 << 20;

/// A gRPC method: its path, its protocol and, unless it is aggregated, its type.
struct Method {
    path: &'static str,
    protocol: Protocol,
    only: Option<&'static str>,
}

const fn sotw(path: &'static str, type_url: &'static str) -> Method {
    Method { path, protocol: Protocol::Sotw, only: Some(type_url) }
}

const fn delta(path: &'static str, type_url: &'static str) -> Method {
    Method { path, protocol: Protocol::Delta, only: Some(type_url) }
}

const METHODS: [Method; 20] = [
    Method {
        path: "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        protocol: Protocol::Sotw,
        only: None,
    },
    Method {
        path: "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        protocol: Protocol::Delta,
        only: None,
    },
    sotw("/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners", type_url::LISTENER),
    delta("/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners", type_url::LISTENER),
    sotw(
        "/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes",
        type_url::ROUTE_CONFIGURATION,
    ),
    delta(
        "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
        type_url::ROUTE_CONFIGURATION,
    ),
    sotw(
        "/envoy.service.route.v3.ScopedRoutesDiscoveryService/StreamScopedRoutes",
        type_url::SCOPED_ROUTE_CONFIGURATION,
    ),
    delta(
        "/envoy.service.route.v3.ScopedRoutesDiscoveryService/DeltaScopedRoutes",
        type_url::SCOPED_ROUTE_CONFIGURATION,
    ),
    delta(
        "/envoy.service.route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts",
        type_url::VIRTUAL_HOST,
    ),
    sotw("/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters", type_url::CLUSTER),
    delta("/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters", type_url::CLUSTER),
    sotw(
        "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
        type_url::CLUSTER_LOAD_ASSIGNMENT,
    ),
    delta(
        "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints",
        type_url::CLUSTER_LOAD_ASSIGNMENT,
    ),
    delta(
        "/envoy.service.endpoint.v3.LocalityEndpointDiscoveryService/DeltaLocalityEndpoints",
        type_url::LB_ENDPOINT,
    ),
    sotw("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets", type_url::SECRET),
    delta("/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets", type_url::SECRET),
    sotw("/envoy.service.runtime.v3.RuntimeDiscoveryService/StreamRuntime", type_url::RUNTIME),
    delta("/envoy.service.runtime.v3.RuntimeDiscoveryService/DeltaRuntime", type_url::RUNTIME),
    sotw(
        "/envoy.service.extension.v3.ExtensionConfigDiscoveryService/StreamExtensionConfigs",
        type_url::TYPED_EXTENSION_CONFIG,
    ),
    delta(
        "/envoy.service.extension.v3.ExtensionConfigDiscoveryService/DeltaExtensionConfigs",
        type_url::TYPED_EXTENSION_CONFIG,
    ),
];

/// Accepts clients over TCP for ever. Dropping the future closes all connections.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let without_delay = |socket: TcpStream| {
        // Best effort: without it small pushes wait for the client's delayed TCP ACK.
        let _ = socket.set_nodelay(true);
        socket
    };
    let sockets = TcpListenerStream::new(listener);
    serve_all(sockets.map(move |socket| socket.map(without_delay)), shared).await;
}

/// The same over a unix socket.
pub(crate) async fn serve_unix(listener: UnixListener, shared: Arc<Shared>) {
    serve_all(UnixListenerStream::new(listener), shared).await;
}

async fn serve_all<S>(sockets: impl Stream<Item = io::Result<S>>, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut sockets = std::pin::pin!(sockets);
    loop {
        tokio::select! {
            Some(accepted) = sockets.next() => match accepted {
                Ok(socket) => {
                    connections.spawn(serve_connection(TokioIo::new(socket), shared.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting an xDS client failed");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection<S>(socket: TokioIo<S>, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(call(request, shared).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(socket, service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an xDS connection ended");
    }
}

/// Calls the method that the path names.
async fn call(request: HttpRequest<Incoming>, shared: Arc<Shared>) -> HttpResponse<Body> {
    let path = request.uri().path();
    if path == load::METHOD
        && let Some(interval) = shared.load_interval
    {
        return load::serve(request, shared, interval).await;
    }
    let Some(method) = METHODS.iter().find(|method| method.path == path) else {
        let status = Status::unimplemented(format!("{path} is no xDS method of this server"));
        return status.into_http();
    };
    match method.protocol {
        Protocol::Sotw => {
            stream::<DiscoveryRequest, _>(request, shared, method, Outbox::Sotw).await
        }
        Protocol::Delta => {
            stream::<DeltaDiscoveryRequest, _>(request, shared, method, Outbox::Delta).await
        }
    }
}

/// Runs a bidirectional stream with the messages of one of the protocols.
async fn stream<Req, Res>(
    request: HttpRequest<Incoming>,
    shared: Arc<Shared>,
    method: &'static Method,
    outbox: fn(UnboundedSender<Result<Res, Status>>) -> Outbox,
) -> HttpResponse<Body>
where
    Req: Message + Default + Into<Request> + 'static,
    Res: Message + Default + 'static,
{
    let open = tower::service_fn(move |request: GrpcRequest<Streaming<Req>>| {
        let (sender, receiver) = unbounded_channel();
        let outbox = outbox(sender);
        let id = shared.open(method.path, method.only, outbox.clone());
        tokio::spawn(read(id, request.into_inner(), shared.clone(), outbox));
        std::future::ready(Ok::<_, Status>(Response::new(UnboundedReceiverStream::new(receiver))))
    });
    Grpc::new(ProstCodec::<Res, Req>::default())
        .max_decoding_message_size(MAX_REQUEST)
        .streaming(open, request)
        .await
}

/// Hands the requests of a stream to the control plane until either side ends it.
async fn read<Req: Into<Request>>(
    id: u64,
    mut requests: Streaming<Req>,
    shared: Arc<Shared>,
    outbox: Outbox,
) {
    let reason = loop {
        let received = tokio::select! {
            received = requests.message() => received,
            () = outbox.closed() => break "the connection closed".to_owned(),
        };
        match received {
            Ok(Some(request)) => shared.on_request(id, request.into()),
            Ok(None) => break "the client ended it".to_owned(),
            Err(status) => break format!("{:?}: {}", status.code(), status.message()),
        }
    };
    shared.close(id, reason);
}
