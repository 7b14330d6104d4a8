//! One request through a program before it is measured: a wrong answer would make its figures worthless.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::Result;
use crate::program::Protocol;
use crate::upstream::GRPC_MESSAGE;

/// Asks `path` at `address` and checks status, a body, and for gRPC the status in the trailers.
pub fn check(address: SocketAddr, protocol: Protocol, path: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let io = TokioIo::new(TcpStream::connect(address).await?);
        match protocol {
            Protocol::Http1 | Protocol::Tcp => {
                let (mut sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                let request =
                    Request::get(path).header("host", "bench").body(Full::<Bytes>::default())?;
                judge(sender.send_request(request).await?, protocol).await
            }
            Protocol::Http2 | Protocol::Grpc => {
                let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                judge(sender.send_request(http2_request(address, protocol, path)?).await?, protocol)
                    .await
            }
        }
    })
}

fn http2_request(
    address: SocketAddr,
    protocol: Protocol,
    path: &str,
) -> Result<Request<Full<Bytes>>> {
    let uri = format!("http://{address}{path}");
    Ok(match protocol {
        Protocol::Grpc => Request::post(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from_static(GRPC_MESSAGE)))?,
        _ => Request::get(uri).body(Full::default())?,
    })
}

async fn judge(response: Response<Incoming>, protocol: Protocol) -> Result<()> {
    let status = response.status();
    let body = response.into_body().collect().await?;
    let grpc_status = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    let bytes = body.to_bytes();
    if status != 200 || bytes.is_empty() {
        return Err(
            format!("a request got {status} with: {}", String::from_utf8_lossy(&bytes)).into()
        );
    }
    if protocol == Protocol::Grpc && grpc_status.as_ref().is_none_or(|status| status != "0") {
        return Err(
            format!("a gRPC call ended with grpc-status {grpc_status:?} in the trailers").into()
        );
    }
    Ok(())
}
