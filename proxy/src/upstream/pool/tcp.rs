//! TCP sessions: each has a connection of its own.

use std::sync::Arc;

use super::PoolError;
use crate::io::{Address, Source, Stream};
use crate::telemetry::stream_info::TlsInfo;
use crate::upstream::cluster::{Cluster, Host, Resource};
use crate::upstream::connect::{Purpose, connect_for, session_failure};
use crate::upstream::count::{ConnectionCount, PendingCount, RequestCount};

/// A connection for a TCP session, counted until dropped.
pub struct TcpLease {
    /// The bytes. Whoever copies them adds them to `upstream_cx_rx_bytes_total` and `upstream_cx_tx_bytes_total`.
    pub stream: Stream,
    local: Option<Address>,
    tls: Option<Arc<TlsInfo>>,
    id: u64,
    closed_by_host: bool,
    connection: ConnectionCount,
    _session: RequestCount,
}

impl TcpLease {
    /// Our end of the connection.
    pub fn local_address(&self) -> Option<&Address> {
        self.local.as_ref()
    }

    /// The TLS session with the host, if there is one.
    pub fn tls(&self) -> Option<&Arc<TlsInfo>> {
        self.tls.as_ref()
    }

    /// The connection's number within the worker.
    pub fn connection_id(&self) -> u64 {
        self.id
    }

    /// What the host has ended the TLS session with, if it has (`%UPSTREAM_TRANSPORT_FAILURE_REASON%`).
    pub fn transport_failure(&self) -> Option<Arc<str>> {
        session_failure(self.tls.as_deref(), self.connection.cluster(), self.connection.host())
    }

    /// Notes that the host has closed the connection, for the statistics.
    pub fn closed_by_host(&mut self) {
        self.closed_by_host = true;
    }
}

impl Drop for TcpLease {
    fn drop(&mut self) {
        self.connection.ended(self.closed_by_host, true);
    }
}

pub(super) async fn open(
    cluster: &Arc<Cluster>,
    host: &Arc<Host>,
    priority: usize,
    source: Option<Source>,
    id: u64,
) -> Result<TcpLease, PoolError> {
    let stats = cluster.stats();
    if !cluster.breaker(priority).has_room(Resource::Connections) {
        stats.upstream_cx_overflow.inc();
        return Err(PoolError::overflow());
    }
    let pending = PendingCount::start(cluster, priority)?;
    let connection = ConnectionCount::start(cluster, host, priority);
    let connected = connect_for(cluster, host, Purpose { source, ..Purpose::default() })
        .await
        .map_err(PoolError::from);
    pending.answered();
    match connected {
        Ok(connected) => {
            connection.connected();
            let session = RequestCount::start(cluster, host, priority)?;
            Ok(TcpLease {
                stream: connected.stream,
                local: connected.local,
                tls: connected.tls,
                id,
                closed_by_host: false,
                connection,
                _session: session,
            })
        }
        Err(error) => {
            connection.failed(&error);
            stats.upstream_rq_pending_failure_eject.inc();
            Err(error)
        }
    }
}
