//! Listener filters: what the first bytes of a connection tell, before its filter chain is chosen.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;

use crate::config::listener::ListenerFilter;
use crate::downstream::filter_chain::Facts;
use crate::io::{Address, Stream};

mod http;
mod proxy_protocol;
mod tls;

/// A filter looks at the bytes so far and says.
enum Step<T> {
    /// It needs more bytes.
    More,
    /// It is done, with what it found.
    Done(T),
    /// The connection must close, for this reason.
    Refuse(&'static str),
}

/// Why listener filters ended a connection.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The peer closed or broke the connection before it said enough.
    #[error("the peer closed the connection before the listener filters were done")]
    Closed,
    /// A filter refused it.
    #[error("{0}")]
    Refused(&'static str),
}

/// Runs the filters in order. Bytes that were read and that the connection still has to see stand in `ahead` afterwards,
/// also when the future is dropped before its end.
///
/// # Errors
/// The peer left, or a filter refused the connection.
pub async fn run(
    stream: &mut Stream,
    ahead: &mut BytesMut,
    filters: &[ListenerFilter],
    facts: &mut Facts,
) -> Result<(), InspectError> {
    for filter in filters {
        match filter {
            ListenerFilter::OriginalDst => {
                if let Some(original) = stream.tcp().and_then(original_destination) {
                    facts.local = original;
                }
            }
            ListenerFilter::ProxyProtocol { optional, disallowed } => {
                let look = |bytes: &[u8]| proxy_protocol::look(bytes, *optional, *disallowed);
                let header = until_done(stream, ahead, look).await?;
                ahead.advance(header.length);
                if let Some((source, destination)) = header.addresses {
                    facts.remote = Address::Ip(source);
                    facts.local = Address::Ip(destination);
                }
            }
            ListenerFilter::TlsInspector => {
                if let Some(hello) = until_done(stream, ahead, tls::look).await? {
                    facts.transport_protocol = "tls";
                    facts.server_name = Arc::from(hello.server_name);
                    facts.application_protocols = hello.alpn;
                }
            }
            ListenerFilter::HttpInspector if facts.transport_protocol == "raw_buffer" => {
                if let Some(version) = until_done(stream, ahead, http::look).await? {
                    facts.application_protocols = vec![version.to_owned()];
                }
            }
            ListenerFilter::HttpInspector => {}
        }
    }
    Ok(())
}

/// Reads until the filter has seen enough.
async fn until_done<T>(
    stream: &mut Stream,
    ahead: &mut BytesMut,
    look: impl Fn(&[u8]) -> Step<T>,
) -> Result<T, InspectError> {
    loop {
        if !ahead.is_empty() {
            match look(ahead) {
                Step::Done(found) => return Ok(found),
                Step::Refuse(reason) => return Err(InspectError::Refused(reason)),
                Step::More => {}
            }
        }
        match stream.read_buf(ahead).await {
            Ok(0) | Err(_) => return Err(InspectError::Closed),
            Ok(_) => {}
        }
    }
}

/// The destination that the connection had before the kernel redirected it (`SO_ORIGINAL_DST`).
fn original_destination(socket: &tokio::net::TcpStream) -> Option<Address> {
    let local = socket.local_addr().ok()?;
    let socket = socket2::SockRef::from(socket);
    let original = match local {
        std::net::SocketAddr::V4(_) => socket.original_dst_v4(),
        std::net::SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    original.ok()?.as_socket().map(Address::Ip)
}
