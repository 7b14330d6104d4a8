//! Counts connections and requests while they live, in the cluster's and the host's statistics and circuit breakers.

use std::cell::Cell;
use std::sync::Arc;

use tokio::time::Instant;

use super::pool::{PoolError, ResetReason};
use crate::upstream::cluster::{Cluster, Host, Permit, Resource};

/// Counts a connection from the attempt on until dropped.
pub(in crate::upstream) struct ConnectionCount {
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    /// When the attempt began; from `connected` on, when the connection was there.
    since: Cell<Instant>,
    is_connected: Cell<bool>,
    _permit: Permit,
}

impl ConnectionCount {
    /// Whose connection it is.
    pub(in crate::upstream) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The host at its other end.
    pub(in crate::upstream) fn host(&self) -> &Host {
        &self.host
    }

    /// An attempt begins, even above `max_connections`.
    pub(in crate::upstream) fn start(
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
        priority: usize,
    ) -> Self {
        let stats = cluster.stats();
        stats.upstream_cx_total.inc();
        stats.upstream_cx_active.inc();
        host.stats.cx_total.inc();
        host.stats.cx_active.inc();
        ConnectionCount {
            cluster: Arc::clone(cluster),
            host: Arc::clone(host),
            since: Cell::new(Instant::now()),
            is_connected: Cell::default(),
            _permit: cluster.breaker(priority).acquire(Resource::Connections),
        }
    }

    /// The attempt succeeded.
    pub(in crate::upstream) fn connected(&self) {
        let took = self.since.replace(Instant::now()).elapsed();
        self.cluster.stats().upstream_cx_connect_ms.record(took.as_millis() as u64);
        self.is_connected.set(true);
    }

    /// The attempt failed.
    pub(in crate::upstream) fn failed(&self, error: &PoolError) {
        let stats = self.cluster.stats();
        stats.upstream_cx_connect_fail.inc();
        self.host.stats.cx_connect_fail.inc();
        if error.reason == ResetReason::ConnectionTimeout {
            stats.upstream_cx_connect_timeout.inc();
        }
    }

    /// The connection ends: by us or by the host, with requests on it or without.
    pub(in crate::upstream) fn ended(&self, by_host: bool, with_requests: bool) {
        let stats = self.cluster.stats();
        let (side, side_with_requests) = if by_host {
            (&stats.upstream_cx_destroy_remote, &stats.upstream_cx_destroy_remote_with_active_rq)
        } else {
            (&stats.upstream_cx_destroy_local, &stats.upstream_cx_destroy_local_with_active_rq)
        };
        side.inc();
        if with_requests {
            side_with_requests.inc();
            stats.upstream_cx_destroy_with_active_rq.inc();
        }
    }
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        let stats = self.cluster.stats();
        stats.upstream_cx_active.dec();
        self.host.stats.cx_active.dec();
        if self.is_connected.get() {
            stats.upstream_cx_destroy.inc();
            let lived = self.since.get().elapsed();
            stats.upstream_cx_length_ms.record(lived.as_millis() as u64);
        }
    }
}

/// Counts a request that has a connection, until dropped.
pub(in crate::upstream) struct RequestCount {
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    _permit: Permit,
}

impl RequestCount {
    /// # Errors
    /// `max_requests` is reached.
    pub(in crate::upstream) fn start(
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
        priority: usize,
    ) -> Result<Self, PoolError> {
        let stats = cluster.stats();
        let Some(permit) = cluster.breaker(priority).try_acquire(Resource::Requests) else {
            stats.upstream_rq_active_overflow.inc();
            return Err(PoolError::overflow());
        };
        stats.upstream_rq_total.inc();
        stats.upstream_rq_active.inc();
        host.stats.rq_total.inc();
        host.stats.rq_active.inc();
        let (cluster, host) = (Arc::clone(cluster), Arc::clone(host));
        Ok(RequestCount { cluster, host, _permit: permit })
    }
}

impl Drop for RequestCount {
    fn drop(&mut self) {
        self.cluster.stats().upstream_rq_active.dec();
        self.host.stats.rq_active.dec();
    }
}

/// Counts a request that waits for a connection, until dropped. Dropped before it was answered, it counts as cancelled.
pub(in crate::upstream) struct PendingCount {
    cluster: Arc<Cluster>,
    is_answered: bool,
    _permit: Permit,
}

impl PendingCount {
    /// # Errors
    /// `max_pending_requests` is reached.
    pub(in crate::upstream) fn start(
        cluster: &Arc<Cluster>,
        priority: usize,
    ) -> Result<Self, PoolError> {
        let stats = cluster.stats();
        let Some(permit) = cluster.breaker(priority).try_acquire(Resource::PendingRequests) else {
            stats.upstream_rq_pending_overflow.inc();
            return Err(PoolError::overflow());
        };
        stats.upstream_rq_pending_total.inc();
        stats.upstream_rq_pending_active.inc();
        Ok(PendingCount { cluster: Arc::clone(cluster), is_answered: false, _permit: permit })
    }

    /// The wait is over, for better or worse.
    pub(in crate::upstream) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for PendingCount {
    fn drop(&mut self) {
        let stats = self.cluster.stats();
        stats.upstream_rq_pending_active.dec();
        if !self.is_answered {
            stats.upstream_rq_cancelled.inc();
        }
    }
}
