//! The server behind the programs: one thread, cheap answers, so that the programs in front of it are what is measured.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

use crate::Result;
use crate::program::Protocol;

/// The plain answer: a small JSON document's size.
const SMALL: [u8; 102] = [b'x'; 102];
/// The answer to [`LARGE_PATH`]: 1 MB.
pub const LARGE: usize = 1 << 20;
/// Ask here for the large answer.
pub const LARGE_PATH: &str = "/large";
/// A gRPC message: not compressed, 16 bytes. The request that goes in and the reply that comes out.
pub const GRPC_MESSAGE: &[u8] = b"\0\0\0\0\x10xxxxxxxxxxxxxxxx";

/// Starts a server for `protocol` on a thread that lives as long as this program.
pub fn start(protocol: Protocol) -> Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    thread::Builder::new()
        .name("upstream".to_owned())
        .spawn(move || runtime.block_on(accept(listener, protocol)))?;
    Ok(address)
}

async fn accept(listener: TcpListener, protocol: Protocol) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, protocol));
    }
}

async fn serve(stream: TcpStream, protocol: Protocol) {
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(stream);
    // How a connection ends is the programs' business; lost requests show in the load generator.
    let _ = match protocol {
        Protocol::Http1 | Protocol::Tcp => {
            http1::Builder::new().serve_connection(io, service_fn(answer)).await
        }
        Protocol::Http2 | Protocol::Grpc => {
            http2::Builder::new(TokioExecutor::new()).serve_connection(io, service_fn(answer)).await
        }
    };
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>) -> std::result::Result<Response<Body>, hyper::Error> {
    let (head, mut body) = request.into_parts();
    while !body.is_end_stream() {
        if let Some(frame) = body.frame().await {
            frame?;
        }
    }
    if head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/grpc") {
        return Ok(grpc_reply());
    }
    let bytes = if head.uri.path() == LARGE_PATH {
        static BODY: [u8; LARGE] = [b'x'; LARGE];
        Bytes::from_static(&BODY)
    } else {
        Bytes::from_static(&SMALL)
    };
    Ok(Response::new(Full::new(bytes).boxed_unsync()))
}

fn grpc_reply() -> Response<Body> {
    let trailers = HeaderMap::from_iter([(
        "grpc-status".parse().expect("a valid name"),
        HeaderValue::from_static("0"),
    )]);
    let body =
        Full::new(Bytes::from_static(GRPC_MESSAGE)).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
