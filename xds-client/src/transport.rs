//! The ways to management servers: gRPC streams, and polling over REST.

mod channel;
pub(crate) mod method;
pub(crate) mod rest;

use std::pin::Pin;

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

pub use channel::{Target, channel};
pub use rest::Polling;

/// Any error that a service may have.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An HTTP client; HTTP/2 where gRPC is to run over it. Requests carry only a path: the service adds scheme
/// and authority.
pub type Service = BoxCloneSyncService<
    http::Request<tonic::body::Body>,
    http::Response<tonic::body::Body>,
    BoxError,
>;

/// Requests that may wait for a server that reads slowly.
const QUEUED_REQUESTS: usize = 16;

/// A management server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Name for logs and statistics, such as the cluster's.
    pub name: String,
    /// The way to it; [`channel`] makes one from addresses.
    pub service: Service,
    /// `GrpcService.initial_metadata`, sent with every stream.
    pub metadata: MetadataMap,
}

/// Why a client cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// There is nobody to talk to.
    #[error("no management server is configured")]
    NoServer,
    /// No discovery service serves this type in this variant.
    #[error(
        "there is no {protocol:?} discovery service for the type {type_url:?}; use an aggregated stream or the other variant"
    )]
    NoMethod {
        /// The type.
        type_url: String,
        /// The variant of the protocol.
        protocol: crate::Protocol,
    },
    /// A target is neither `host:port` nor `unix:path`.
    #[error("management server {target:?}: {reason}")]
    Target {
        /// What was given.
        target: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// An open stream. Dropping it resets the stream.
pub struct Link<Req, Resp> {
    /// Takes requests; closed once the stream is.
    pub requests: mpsc::Sender<Req>,
    /// `None` once the server has accepted the stream, then its responses. Ends after its first
    /// error. Failing to open is such an error.
    pub responses: Pin<Box<dyn Stream<Item = Result<Option<Resp>, Status>> + Send>>,
}

/// Opens a stream to a method with bidirectional streams, be it one of discovery or not. `max_message_size` is of a response, in
/// bytes. Requests can be sent at once: a server may wait for the first of them before it
/// sends as much as response headers.
pub fn open<Req, Resp>(
    server: &Server,
    path: PathAndQuery,
    max_message_size: usize,
) -> Link<Req, Resp>
where
    Req: Message + 'static,
    Resp: Message + Default + 'static,
{
    let (sender, requests) = mpsc::channel(QUEUED_REQUESTS);
    // A concrete error: with a boxed one the compiler cannot prove the future to be `Send`.
    let service = BoxCloneSyncService::new(server.service.clone().map_err(Status::from_error));
    let mut grpc = tonic::client::Grpc::new(service).max_decoding_message_size(max_message_size);
    let mut request = Request::new(ReceiverStream::new(requests));
    *request.metadata_mut() = server.metadata.clone();
    let opened = async move {
        grpc.ready().await?;
        let codec = ProstCodec::<Req, Resp>::default();
        let responses = grpc.streaming(request, path, codec).await?.into_inner();
        Ok::<_, Status>(stream::iter([Ok(None)]).chain(responses.map_ok(Some)))
    };
    Link { requests: sender, responses: stream::once(opened).try_flatten().boxed() }
}
