//! A client's connection, HTTP/1.1 or HTTP/2, that shows how each exchange went.

use std::convert::Infallible;
use std::error::Error as _;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// The body of a request or of an upstream's response.
pub type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body that is there already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 in clear text with prior knowledge.
    Http2,
}

/// An open connection.
pub enum Connection {
    /// HTTP/1.1.
    Http1(http1::SendRequest<Body>),
    /// HTTP/2.
    Http2(http2::SendRequest<Body>),
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The trailers, if there were any.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// Reads the rest of a response.
    pub async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers })
    }

    /// Whether this was the connection's last exchange (HTTP/1.1).
    pub fn closes(&self) -> bool {
        self.headers.get(http::header::CONNECTION).is_some_and(|value| value == "close")
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The connection had been closed in order before the request left, so that the request can go out on another one.
    #[error("the connection was closed before")]
    NotSent,
    /// Everything else.
    #[error("{0:?}")]
    Broken(#[from] hyper::Error),
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr, protocol: Protocol) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        let broken = std::io::Error::other;
        match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(broken)?;
                tokio::spawn(connection.with_upgrades());
                Ok(Connection::Http1(sender))
            }
            Protocol::Http2 => {
                let handshake = http2::Builder::new(TokioExecutor::new()).handshake(io);
                let (sender, connection) = handshake.await.map_err(broken)?;
                tokio::spawn(connection);
                Ok(Connection::Http2(sender))
            }
        }
    }

    /// [`Connection::open`] for a test that needs it.
    pub async fn must_open(address: SocketAddr, protocol: Protocol) -> Connection {
        Self::open(address, protocol).await.unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// Sends a request to `path` and waits for the response's head.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder().method(method);
        request = match self {
            Connection::Http1(_) => request.uri(path).header("host", "test"),
            Connection::Http2(_) => request.uri(format!("http://test{path}")),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("tests write valid requests");
        let sent = match self {
            Connection::Http1(sender) => match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await,
                Err(_) => return Err(Failure::NotSent),
            },
            Connection::Http2(sender) => match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await,
                Err(_) => return Err(Failure::NotSent),
            },
        };
        sent.map_err(|mut error| match error.take_message() {
            Some(_) => Failure::NotSent,
            None if is_rejected_by_goaway(error.error()) => Failure::NotSent,
            None => Failure::Broken(error.into_error()),
        })
    }

    /// A GET with its whole answer.
    pub async fn get(&mut self, path: &str) -> Result<Answer, Failure> {
        Ok(Answer::read(self.send("GET", path, &[], empty()).await?).await?)
    }

    /// Whether the peer has closed the connection, or wants no more requests on it.
    pub fn is_closed(&self) -> bool {
        match self {
            Connection::Http1(sender) => sender.is_closed(),
            Connection::Http2(sender) => sender.is_closed(),
        }
    }
}

/// Whether the request came after the last one of a connection that ends in order, so that nobody has processed it
/// (RFC 9113 §6.8).
fn is_rejected_by_goaway(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_some_and(|error| {
        error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
    })
}
