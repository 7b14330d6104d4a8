//! A tunnel between a client that has left HTTP and a host.

use std::sync::Arc;

use http::Version;
use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::Upgrade;
use crate::http::overdue::Limits;
use crate::http::stream::Stream;
use crate::io::Stream as Connection;
use crate::io::http2::Http2Tunnel;
use crate::io::relay::{Ended, relay};
use crate::telemetry::response_flags::ResponseFlags;
use crate::upstream::pool::{Metered, ResponseLease, TcpLease};

/// The host's side of a tunnel.
pub enum UpstreamSide {
    /// The connection has left HTTP too; none if it cannot.
    Http1(Option<Metered>, ResponseLease),
    /// It is a stream of HTTP/2.
    Http2(Http2Tunnel, ResponseLease),
    /// It never spoke HTTP: CONNECT ends at the proxy.
    Tcp(TcpLease),
}

/// The client's side of a tunnel.
pub enum Client {
    /// The connection, once the answer is out.
    Http1(oneshot::Receiver<Connection>),
    /// The HTTP/2 stream.
    Http2(OnUpgrade),
}

impl Client {
    /// What becomes of the client's side if its request is granted; none if it cannot become a tunnel.
    pub fn take(parts: &mut Parts, stream: &Stream) -> Option<Client> {
        match parts.version {
            Version::HTTP_2 => parts.extensions.remove().map(Client::Http2),
            Version::HTTP_11 => Some(Client::Http1(stream.connection.promise_tunnel())),
            // HTTP/1.0 knows no way out.
            _ => None,
        }
    }
}

/// Two sides that get joined once the response is out.
pub struct Tunnel {
    downstream: Client,
    upstream: UpstreamSide,
    limits: Limits,
}

impl Tunnel {
    /// Joins the downstream's side with the upstream's.
    pub fn new(downstream: Upgrade, upstream: UpstreamSide, limits: Limits) -> Self {
        Tunnel { downstream: downstream.downstream, upstream, limits }
    }

    /// Relays until both sides have closed or the idle timeout passes. Owns the stream, which is recorded at the end.
    pub async fn run(self, mut stream: Stream) {
        match self.downstream {
            Client::Http1(connection) => match connection.await {
                Ok(client) => join_upstream(&mut stream, client, self.upstream, self.limits).await,
                Err(_) => stream.flag(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION),
            },
            Client::Http2(upgrade) => match upgrade.await {
                Ok(client) => {
                    let client = TokioIo::new(client);
                    join_upstream(&mut stream, client, self.upstream, self.limits).await;
                }
                Err(_) => stream.flag(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION),
            },
        }
    }
}

async fn join_upstream(
    stream: &mut Stream,
    client: impl AsyncRead + AsyncWrite + Unpin,
    upstream: UpstreamSide,
    limits: Limits,
) {
    // The lease is held until the end: only then is the upstream connection no longer in use.
    match upstream {
        UpstreamSide::Http1(Some(upstream), _lease) => join(stream, client, upstream, limits).await,
        UpstreamSide::Http1(None, _) => {
            stream.flag(ResponseFlags::UPSTREAM_CONNECTION_TERMINATION);
        }
        UpstreamSide::Http2(upstream, _lease) => join(stream, client, upstream, limits).await,
        UpstreamSide::Tcp(mut lease) => {
            join(stream, client, &mut lease.stream, limits).await;
        }
    }
}

async fn join(
    stream: &mut Stream,
    mut downstream: impl AsyncRead + AsyncWrite + Unpin,
    mut upstream: impl AsyncRead + AsyncWrite + Unpin,
    limits: Limits,
) {
    let stats = Arc::clone(&stream.connection.manager.stats);
    stats.downstream_cx_upgrades_active.inc();
    let relayed = relay(&mut downstream, &mut upstream, limits.idle).await;
    stats.downstream_cx_upgrades_active.dec();
    let mut info = stream.shared.info.borrow_mut();
    info.bytes_received += relayed.to_upstream;
    info.bytes_sent += relayed.to_downstream;
    match relayed.ended {
        Ended::Idle => info.flags.insert(ResponseFlags::STREAM_IDLE_TIMEOUT),
        Ended::ClosedByDownstream | Ended::Downstream => {
            info.flags.insert(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
            info.details = Some("downstream_remote_disconnect".into());
        }
        Ended::ClosedByUpstream | Ended::Upstream => {}
    }
    drop(info);
    stream.complete();
}
