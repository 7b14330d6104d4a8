//! tonic's client and server with two sidecars between them.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};

use futures_util::{StreamExt, stream};
use pillion_tests::scenario::{Protocol, Sidecar};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, BoxStream, Service, http};
use tonic::metadata::MetadataValue;
use tonic::server::NamedService;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// `google.protobuf.BytesValue`
type Message = Vec<u8>;
type Codec = ProstCodec<Message, Message>;

/// Messages may be this large.
const LARGE: usize = 8 << 20;

/// Echoes messages. A message `fail` ends a call with an error that carries metadata.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc =
                tonic::server::Grpc::new(Codec::default()).max_decoding_message_size(2 * LARGE);
            Ok(match request.uri().path() {
                "/test.Echo/Unary" => grpc.unary(service_fn(unary), request).await,
                "/test.Echo/Repeat" => grpc.server_streaming(service_fn(repeat), request).await,
                "/test.Echo/Sum" => grpc.client_streaming(service_fn(sum), request).await,
                "/test.Echo/Chat" => grpc.streaming(service_fn(chat), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

fn failure() -> Status {
    let mut status = Status::failed_precondition("as you wish");
    status.metadata_mut().insert("x-reason", MetadataValue::from_static("asked for"));
    status
}

fn checked(message: Message) -> Result<Message, Status> {
    if message == b"fail" { Err(failure()) } else { Ok(message) }
}

async fn unary(request: Request<Message>) -> Result<Response<Message>, Status> {
    checked(request.into_inner()).map(Response::new)
}

/// Sends the message three times; `fail` is sent twice and ends with an error.
async fn repeat(request: Request<Message>) -> Result<Response<BoxStream<Message>>, Status> {
    let message = request.into_inner();
    let last = checked(message.clone());
    let messages = stream::iter([Ok(message.clone()), Ok(message), last]);
    Ok(Response::new(Box::pin(messages)))
}

/// Adds up the lengths of the messages.
async fn sum(request: Request<Streaming<Message>>) -> Result<Response<Message>, Status> {
    let mut messages = request.into_inner();
    let mut total = 0;
    while let Some(message) = messages.message().await? {
        total += checked(message)?.len();
    }
    Ok(Response::new(total.to_string().into_bytes()))
}

async fn chat(
    request: Request<Streaming<Message>>,
) -> Result<Response<BoxStream<Message>>, Status> {
    let answers = request.into_inner().map(|message| message.and_then(checked));
    Ok(Response::new(Box::pin(answers)))
}

/// Two sidecars in a chain before the server, and a client before them.
struct Scene {
    _sidecars: [Sidecar; 2],
    client: tonic::client::Grpc<Channel>,
}

impl Scene {
    async fn start() -> Scene {
        let server = serve().await;
        let (inbound, address) = super::sidecar(server, Protocol::Http2, &json!({}));
        let (outbound, address) = super::sidecar(address, Protocol::Http2, &json!({}));
        let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
        let channel = channel.connect().await.expect("a listener");
        let client = tonic::client::Grpc::new(channel).max_decoding_message_size(2 * LARGE);
        Scene { _sidecars: [inbound, outbound], client }
    }

    async fn unary(&mut self, message: Message) -> Result<Message, Status> {
        self.client.ready().await.expect("an open channel");
        let path = http::uri::PathAndQuery::from_static("/test.Echo/Unary");
        let answer = self.client.unary(Request::new(message), path, Codec::default()).await;
        answer.map(Response::into_inner)
    }

    async fn repeat(&mut self, message: &[u8]) -> Result<Streaming<Message>, Status> {
        self.client.ready().await.expect("an open channel");
        let path = http::uri::PathAndQuery::from_static("/test.Echo/Repeat");
        let request = Request::new(message.to_vec());
        let answer = self.client.server_streaming(request, path, Codec::default()).await;
        answer.map(Response::into_inner)
    }
}

async fn serve() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = Server::builder().add_service(Echo);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn assert_failure(status: &Status) {
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert_eq!(status.message(), "as you wish");
    assert_eq!(status.metadata().get("x-reason").expect("metadata"), "asked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unary_calls_pass_with_messages_of_all_sizes_and_errors() {
    let mut scene = Scene::start().await;
    for length in [0, 1, 100_000, LARGE] {
        let message = vec![7; length];
        assert!(scene.unary(message.clone()).await.expect("an answer") == message, "{length}");
    }
    assert_failure(&scene.unary(b"fail".to_vec()).await.expect_err("an error"));
    scene.client.ready().await.expect("an open channel");
    let path = http::uri::PathAndQuery::from_static("/test.Echo/None");
    let unknown = scene.client.unary(Request::new(Message::new()), path, Codec::default()).await;
    assert_eq!(unknown.expect_err("an error").code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_streams_and_ends_well_or_with_an_error() {
    let mut scene = Scene::start().await;
    let messages = scene.repeat(b"hello").await.expect("a stream");
    let all: Vec<_> = messages.map(|message| message.expect("a message")).collect().await;
    assert_eq!(all, vec![b"hello".to_vec(); 3]);
    let mut messages = scene.repeat(b"fail").await.expect("a stream");
    for _ in 0..2 {
        assert_eq!(messages.message().await.expect("a message").expect("not the end"), b"fail");
    }
    assert_failure(&messages.message().await.expect_err("an error"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_streams() {
    let mut scene = Scene::start().await;
    for (message, wanted) in [(vec![1; 1_000], Some("200000")), (b"fail".to_vec(), None)] {
        scene.client.ready().await.expect("an open channel");
        let path = http::uri::PathAndQuery::from_static("/test.Echo/Sum");
        let request = Request::new(stream::iter(vec![message; 200]));
        let answer = scene.client.client_streaming(request, path, Codec::default()).await;
        match wanted {
            Some(wanted) => assert_eq!(answer.expect("an answer").into_inner(), wanted.as_bytes()),
            None => assert_failure(&answer.map(|_: Response<Message>| ()).expect_err("an error")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_talk_in_turn() {
    let mut scene = Scene::start().await;
    let (say, said) = tokio::sync::mpsc::channel::<Message>(1);
    scene.client.ready().await.expect("an open channel");
    let path = http::uri::PathAndQuery::from_static("/test.Echo/Chat");
    let request = Request::new(tokio_stream::wrappers::ReceiverStream::new(said));
    let answers = scene.client.streaming(request, path, Codec::default()).await;
    let mut answers: Streaming<Message> = answers.expect("a stream").into_inner();
    for turn in 0..100_u32 {
        let message = turn.to_string().into_bytes();
        say.send(message.clone()).await.expect("an open stream");
        assert_eq!(answers.message().await.expect("a message"), Some(message));
    }
    say.send(b"fail".to_vec()).await.expect("an open stream");
    assert_failure(&answers.message().await.expect_err("an error"));
}
