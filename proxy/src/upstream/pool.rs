//! Connections to hosts: a pool for each host, priority and protocol, all on one worker.
//!
//! Nothing here is `Send`: a worker has one [`Pools`] in an `Rc` inside its `LocalSet`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::config::cluster::UpstreamProtocol;
use crate::io::Source;
use crate::overload::{Overload, Point};
use crate::telemetry::stream_info::Protocol;
use crate::upstream::cluster::{Cluster, Host};

mod connection;
mod error;
mod host_pool;
mod http1;
pub(super) mod http2;
mod lease;
mod purpose;
mod tcp;

pub use error::{PoolError, ResetReason, SendError};
pub use lease::{HttpLease, ResponseLease};
pub use purpose::{AlpnOverrides, RequestNames};
pub use tcp::TcpLease;

pub use crate::upstream::meter::Metered;

use host_pool::HostPool;

/// Every pool of one worker.
#[derive(Default)]
pub struct Pools {
    overload: Arc<Overload>,
    pools: RefCell<HashMap<PoolKey, Rc<HostPool>, BuildHasherDefault<KeyHasher>>>,
    next_connection: Cell<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct PoolKey {
    host: u64,
    /// What the connections seem to come from.
    source: Option<Source>,
    priority: usize,
    protocol: Wire,
    /// What TLS connections take from their request.
    names: Option<Arc<RequestNames>>,
}

/// Hashes a [`PoolKey`], which nobody outside chooses: hosts are numbered as they come.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // An odd factor without a pattern in its bits; the table takes the upper ones as well as the lower ones.
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
}

/// The protocol that a pool's connections speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wire {
    Http1,
    Http2,
    /// By ALPN.
    Auto,
}

impl Wire {
    /// What ALPN offers to a host whose TLS context does not say.
    fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Wire::Http1 => &[b"http/1.1"],
            Wire::Http2 => &[b"h2"],
            Wire::Auto => &[b"h2", b"http/1.1"],
        }
    }

    fn new(configured: UpstreamProtocol, downstream: Protocol) -> Wire {
        match (configured, downstream) {
            (UpstreamProtocol::Http1, _) => Wire::Http1,
            (UpstreamProtocol::Http2, _) => Wire::Http2,
            (UpstreamProtocol::Auto, _) => Wire::Auto,
            (UpstreamProtocol::UseDownstream, Protocol::Http2) => Wire::Http2,
            (UpstreamProtocol::UseDownstream, _) => Wire::Http1,
        }
    }
}

impl Pools {
    /// No pools yet. They are made on use, and go when they have no connection for a while or their host goes.
    pub fn new(overload: Arc<Overload>) -> Rc<Self> {
        Rc::new(Pools { overload, ..Pools::default() })
    }

    /// A place for one request on a connection to the host. `downstream` decides the protocol of clusters that follow
    /// it; `priority` is the route's (0 default, 1 high) and chooses circuit breakers; connections seem to come from
    /// `source`, if there is one, and are made for `names`.
    ///
    /// A caller that stops waiting leaves the connection being made to others.
    ///
    /// # Errors
    /// No connection could be made, or a circuit breaker is open.
    pub async fn http(
        self: &Rc<Self>,
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
        downstream: Protocol,
        priority: usize,
        source: Option<Source>,
        names: Option<Arc<RequestNames>>,
    ) -> Result<HttpLease, PoolError> {
        let protocol = Wire::new(cluster.config().protocol, downstream);
        let key = PoolKey { host: host.id(), source, priority, protocol, names };
        let pool = self.host_pool(cluster, host, key);
        pool.lease().await
    }

    /// A connection of its own for a TCP session; it seems to come from `source`, if there is one.
    ///
    /// # Errors
    /// No connection could be made, or a circuit breaker is open.
    pub async fn tcp(
        &self,
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
        priority: usize,
        source: Option<Source>,
    ) -> Result<TcpLease, PoolError> {
        tcp::open(cluster, host, priority, source, self.next_connection_id()).await
    }

    /// How many pools there are.
    pub fn len(&self) -> usize {
        self.pools.borrow().len()
    }

    /// Whether there is no pool.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pool of a key. One that serves an older cluster or older connections is replaced and closes.
    fn host_pool(
        self: &Rc<Self>,
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
        key: PoolKey,
    ) -> Rc<HostPool> {
        if let Some(pool) = self.pools.borrow().get(&key).filter(|pool| pool.serves(cluster)) {
            return Rc::clone(pool);
        }
        let pool = HostPool::start(self, cluster, host, key.clone());
        let replaced = self.pools.borrow_mut().insert(key, Rc::clone(&pool));
        if let Some(replaced) = replaced {
            replaced.close();
        }
        pool
    }

    /// Takes a pool out, unless another has its place.
    fn forget(&self, pool: &Rc<HostPool>) {
        let mut pools = self.pools.borrow_mut();
        if pools.get(pool.key()).is_some_and(|present| Rc::ptr_eq(present, pool)) {
            pools.remove(pool.key());
        }
    }

    /// Whether the process is too busy for one more connection.
    fn sheds_connection(&self) -> bool {
        self.overload.sheds(Point::NewUpstreamConnection)
    }

    /// Connection ids count up within the worker, from 1 (`%UPSTREAM_CONNECTION_ID%`).
    fn next_connection_id(&self) -> u64 {
        let id = self.next_connection.get() + 1;
        self.next_connection.set(id);
        id
    }
}

/// Pools refer back to their home weakly, since it holds them.
type Home = Weak<Pools>;

#[cfg(test)]
mod tests;
