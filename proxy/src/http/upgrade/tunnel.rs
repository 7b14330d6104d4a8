//! A tunnel between a client that has left HTTP and a host.

use std::sync::Arc;

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

/// Two sides that get joined once the response is out.
pub struct Tunnel {
    downstream: Option<oneshot::Receiver<Connection>>,
    upstream: UpstreamSide,
    limits: Limits,
}

impl Tunnel {
    /// Joins the downstream's side with the upstream's.
    pub fn new(downstream: Upgrade, upstream: UpstreamSide, limits: Limits) -> Self {
        Tunnel { downstream: downstream.downstream, upstream, limits }
    }

    /// Runs over the connection that the client's request came by, once it has left HTTP/1.
    pub async fn run(mut self, stream: Stream) {
        match self.downstream.take() {
            Some(downstream) => match downstream.await {
                Ok(client) => self.over(stream, client).await,
                Err(_) => stream.flag(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION),
            },
            None => stream.flag(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION),
        }
    }

    /// Relays until both sides have closed or the idle timeout passes. Owns the stream, which is recorded at the end.
    pub async fn over(self, mut stream: Stream, client: impl AsyncRead + AsyncWrite + Unpin) {
        // The lease is held until the end: only then is the upstream connection no longer in use.
        match self.upstream {
            UpstreamSide::Http1(Some(upstream), _lease) => {
                join(&mut stream, client, upstream, self.limits).await;
            }
            UpstreamSide::Http1(None, _) => {
                stream.flag(ResponseFlags::UPSTREAM_CONNECTION_TERMINATION);
            }
            UpstreamSide::Http2(upstream, _lease) => {
                join(&mut stream, client, upstream, self.limits).await;
            }
            UpstreamSide::Tcp(mut lease) => {
                join(&mut stream, client, &mut lease.stream, self.limits).await;
            }
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
