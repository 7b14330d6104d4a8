//! A small HTTP/1.1 client on one keep-alive connection.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No request of the demo takes longer unless something is wrong; the control plane's API waits 10 s at most.
const LIMIT: Duration = Duration::from_secs(12);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The connection cannot be opened.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    /// The connection broke, or what came over it is no HTTP.
    #[error("no whole answer from {0}: {1}")]
    Broken(SocketAddr, hyper::Error),
    /// Nothing came.
    #[error("no answer from {0} within {LIMIT:?}")]
    TimedOut(SocketAddr),
}

/// A client of one server.
pub struct HttpClient {
    address: SocketAddr,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl HttpClient {
    /// A client that connects on its first request, and again where the server has closed the connection.
    pub fn new(address: SocketAddr) -> Self {
        HttpClient { address, connection: None }
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn send(
        &mut self,
        method: Method,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response<Incoming>, HttpError> {
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().expect("the demo's own targets are right");
        let host = self.address.to_string();
        let host = host.parse().expect("an address is a header value");
        request.headers_mut().insert(header::HOST, host);
        let answer = async {
            let connection = self.connection().await?;
            let answer = connection.send_request(request).await;
            answer.map_err(|error| HttpError::Broken(self.address, error))
        };
        timeout(LIMIT, answer).await.unwrap_or(Err(HttpError::TimedOut(self.address)))
    }

    /// Reads an answer's body to its end.
    ///
    /// # Errors
    /// The body breaks off.
    pub async fn read(&self, body: Incoming) -> Result<String, HttpError> {
        let whole = timeout(LIMIT, body.collect()).await;
        let whole = whole.map_err(|_| HttpError::TimedOut(self.address))?;
        let bytes = whole.map_err(|error| HttpError::Broken(self.address, error))?.to_bytes();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn connection(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, HttpError> {
        let usable = match &mut self.connection {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            let address = self.address;
            let stream = TcpStream::connect(address).await;
            let stream = stream.map_err(|error| HttpError::Connect(address, error))?;
            let opened = handshake(TokioIo::new(stream)).await;
            let (connection, driver) = opened.map_err(|error| HttpError::Broken(address, error))?;
            tokio::spawn(driver);
            self.connection = Some(connection);
        }
        Ok(self.connection.as_mut().expect("it is open"))
    }
}
