//! The connections to one host, and the requests that wait for one.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep_until};

use super::connection::{Connection, Ends, Established};
use super::lease::{HttpLease, Stream};
use super::{Home, PoolError, PoolKey, Pools, Wire, http1, http2};
use crate::telemetry::stream_info::Protocol;
use crate::upstream::cluster::{Cluster, Host, Resource};
use crate::upstream::connect::{Purpose, connect_for};
use crate::upstream::count::{ConnectionCount, PendingCount};
use crate::upstream::meter::Metered;

type Answer = Result<Stream, PoolError>;

/// A request that waits for a connection.
struct Waiter {
    answer: oneshot::Sender<Answer>,
    /// It must be one that has carried no request yet.
    wants_new: bool,
}

/// A pool for one host, priority and protocol.
pub(super) struct HostPool {
    key: PoolKey,
    home: Home,
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    /// The generation of connections to the host that this pool keeps.
    epoch: u32,
    /// Connections with room, the last used one last: it is taken first, so that surplus ones become idle.
    ready: RefCell<Vec<Rc<Connection>>>,
    waiting: RefCell<VecDeque<Waiter>>,
    connecting: Cell<usize>,
    connected: Cell<usize>,
    /// How many requests a connection is expected to take at once.
    streams_per_connection: Cell<usize>,
    /// Serves who waits, and keeps nothing any more.
    is_closed: Cell<bool>,
    upkeep: OnceCell<AbortHandle>,
}

impl HostPool {
    /// An empty pool of `home`, with its upkeep running.
    pub(super) fn start(
        home: &Rc<Pools>,
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
        key: PoolKey,
    ) -> Rc<Self> {
        let streams = match key.protocol {
            Wire::Http1 => 1,
            Wire::Http2 | Wire::Auto => cluster.config().http2.max_concurrent_streams as usize,
        };
        let pool = Rc::new(HostPool {
            key,
            home: Rc::downgrade(home),
            cluster: Arc::clone(cluster),
            host: Arc::clone(host),
            epoch: host.epoch(),
            ready: RefCell::default(),
            waiting: RefCell::default(),
            connecting: Cell::default(),
            connected: Cell::default(),
            streams_per_connection: Cell::new(streams.max(1)),
            is_closed: Cell::default(),
            upkeep: OnceCell::new(),
        });
        let upkeep = spawn_local(Rc::clone(&pool).keep_up());
        // The cell was made above, so it is empty.
        let _ = pool.upkeep.set(upkeep.abort_handle());
        pool
    }

    pub(super) fn key(&self) -> &PoolKey {
        &self.key
    }

    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    pub(super) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    pub(super) fn priority(&self) -> usize {
        self.key.priority
    }

    /// Whether requests of `cluster` may use the pool's connections.
    pub(super) fn serves(&self, cluster: &Arc<Cluster>) -> bool {
        Arc::ptr_eq(&self.cluster, cluster)
            && self.epoch == self.host.epoch()
            && !self.is_closed.get()
    }

    /// A place on a connection: on one that is ready, else after a wait.
    pub(super) async fn lease(self: &Rc<Self>) -> Result<HttpLease, PoolError> {
        if let Some(connection) = self.take_ready() {
            let stream = Stream::start(&connection);
            if stream.is_err() {
                self.offer(&connection);
            }
            return stream.map(HttpLease::new);
        }
        self.wait(false).await.map(HttpLease::new)
    }

    /// A place on a connection that has carried no request yet.
    pub(super) async fn new_connection(self: &Rc<Self>) -> Answer {
        self.wait(true).await
    }

    async fn wait(self: &Rc<Self>, wants_new: bool) -> Answer {
        let pending = PendingCount::start(&self.cluster, self.priority())?;
        let (answer, answered) = oneshot::channel();
        self.waiting.borrow_mut().push_back(Waiter { answer, wants_new });
        self.connect_for_waiting();
        let answer = answered.await.unwrap_or_else(|_| Err(PoolError::abandoned()));
        pending.answered();
        answer
    }

    /// A connection with room, if there is one; it stays listed if it has room for more.
    fn take_ready(&self) -> Option<Rc<Connection>> {
        let mut ready = self.ready.borrow_mut();
        loop {
            let connection = Rc::clone(ready.last()?);
            let is_ready = connection.is_ready();
            if !is_ready || connection.protocol != Protocol::Http2 {
                ready.pop();
                connection.is_listed.set(false);
            }
            if is_ready {
                return Some(connection);
            }
        }
    }

    /// Starts as many connections as those who wait need and circuit breakers allow.
    fn connect_for_waiting(self: &Rc<Self>) {
        self.waiting.borrow_mut().retain(|waiter| !waiter.answer.is_closed());
        let waiting = self.waiting.borrow().len();
        while self.connecting.get() * self.streams_per_connection.get() < waiting {
            let breaker = self.cluster.breaker(self.priority());
            if !breaker.has_room(Resource::Connections)
                || !breaker.host_has_room(self.host.stats.cx_active.get())
            {
                self.cluster.stats().upstream_cx_overflow.inc();
                // A pool without any connection may have one even so, or its requests would wait for nothing.
                if self.connecting.get() + self.connected.get() > 0 {
                    return;
                }
            }
            self.connecting.set(self.connecting.get() + 1);
            let count = ConnectionCount::start(&self.cluster, &self.host, self.priority());
            spawn_local(Rc::clone(self).connect(count));
        }
    }

    /// Makes a connection, for whoever waits when it is there.
    async fn connect(self: Rc<Self>, count: ConnectionCount) {
        let established = self.establish().await;
        self.connecting.set(self.connecting.get() - 1);
        match established {
            Ok((established, ends)) => {
                count.connected();
                self.connected.set(self.connected.get() + 1);
                let id = self.home.upgrade().map_or(0, |pools| pools.next_connection_id());
                let connection = Connection::start(&self, id, ends, established, count);
                self.note_protocol(connection.protocol);
                self.offer(&connection);
                self.connect_for_waiting();
            }
            Err(error) => {
                count.failed(&error);
                drop(count);
                self.fail_waiting(&error);
            }
        }
    }

    async fn establish(&self) -> Result<(Established, Ends), PoolError> {
        let purpose = Purpose {
            source: self.key.source,
            names: self.key.names.as_deref(),
            alpn: self.key.protocol.alpn(),
        };
        let connected = connect_for(&self.cluster, &self.host, purpose).await?;
        let stats = Arc::clone(&self.cluster.traffic().stats);
        let is_h2 = connected.is_h2();
        let stream = Metered::new(connected.stream, stats);
        let config = self.cluster.config();
        let is_h2 = match self.key.protocol {
            Wire::Http1 => false,
            Wire::Http2 => true,
            Wire::Auto => is_h2,
        };
        let established = if is_h2 {
            http2::handshake(stream, config).await
        } else {
            http1::handshake(stream, config).await
        };
        let established = established.map_err(PoolError::handshake)?;
        Ok((established, Ends { local: connected.local, tls: connected.tls }))
    }

    fn note_protocol(&self, protocol: Protocol) {
        let stats = self.cluster.stats();
        if protocol == Protocol::Http2 {
            stats.upstream_cx_http2_total.inc();
        } else {
            stats.upstream_cx_http1_total.inc();
            self.streams_per_connection.set(1);
        }
    }

    /// Nobody that waits gets a connection: the host is not likely to answer the others either.
    fn fail_waiting(&self, error: &PoolError) {
        for waiter in self.waiting.take() {
            if waiter.answer.send(Err(error.clone())).is_ok() {
                self.cluster.stats().upstream_rq_pending_failure_eject.inc();
            }
        }
    }

    /// A request has left a connection, which may take another.
    pub(super) fn released(self: &Rc<Self>, connection: &Rc<Connection>) {
        // The frequent case: it is listed, others are on it, and nobody waits.
        if connection.stays_listed() && self.waiting.borrow().is_empty() {
            return;
        }
        if connection.is_ending() {
            if connection.is_idle() {
                connection.close();
            }
        } else if connection.protocol == Protocol::Http2 || connection.is_ready() {
            self.offer(connection);
        } else {
            spawn_local(Rc::clone(self).settle(Rc::clone(connection)));
        }
    }

    /// Gives an HTTP/1 connection the chance to finish what it is at. If it still is not ready for the next request,
    /// the request on it goes on although its response has ended: then the connection is of no more use.
    async fn settle(self: Rc<Self>, connection: Rc<Connection>) {
        tokio::task::yield_now().await;
        if connection.is_ready() {
            self.offer(&connection);
        } else {
            connection.abort();
        }
    }

    /// Serves who waits with a connection that has room, and lists it if room is left.
    fn offer(self: &Rc<Self>, connection: &Rc<Connection>) {
        while connection.is_ready() {
            let Some(answer) = self.next_waiting(connection.is_new()) else { break };
            // The receiver is on this thread and was there just now, so that the answer arrives.
            let _ = answer.send(Stream::start(connection));
        }
        if self.is_closed.get() {
            connection.drain();
        } else if connection.is_ready() {
            if connection.is_idle() {
                connection.idle_since.set(Instant::now());
            }
            if !connection.is_listed.replace(true) {
                self.ready.borrow_mut().push(Rc::clone(connection));
            }
        }
    }

    /// The first who still waits and may have this connection.
    fn next_waiting(&self, is_new: bool) -> Option<oneshot::Sender<Answer>> {
        let mut waiting = self.waiting.borrow_mut();
        let fits = |waiter: &Waiter| !waiter.answer.is_closed() && (is_new || !waiter.wants_new);
        let place = waiting.iter().position(fits)?;
        waiting.remove(place).map(|waiter| waiter.answer)
    }

    /// A connection has ended.
    pub(super) fn ended(self: &Rc<Self>, connection: &Rc<Connection>) {
        self.connected.set(self.connected.get() - 1);
        if connection.is_listed.replace(false) {
            self.ready.borrow_mut().retain(|listed| !Rc::ptr_eq(listed, connection));
        }
        self.connect_for_waiting();
    }

    /// Keeps no connection any more: idle ones close now, others after their requests.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        for connection in self.ready.take() {
            connection.is_listed.set(false);
            connection.drain();
        }
        if let Some(upkeep) = self.upkeep.get() {
            upkeep.abort();
        }
    }

    /// Closes idle connections in time, and the pool when its host drains or nobody has used it for long.
    async fn keep_up(self: Rc<Self>) {
        let idle_timeout = self.cluster.config().http.idle_timeout;
        let mut wake = idle_timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let timer = async {
                match wake {
                    Some(wake) => sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.host.drained(self.epoch) => break,
                () = timer => {}
            }
            let Some(timeout) = idle_timeout else { continue };
            wake = Some(self.close_idle(Instant::now(), timeout));
            if self.is_unused() {
                break;
            }
        }
        if let Some(home) = self.home.upgrade() {
            home.forget(&self);
        }
        self.close();
    }

    /// Closes connections that were idle for `timeout`; tells when to look again.
    fn close_idle(&self, now: Instant, timeout: std::time::Duration) -> Instant {
        let mut next = now + timeout;
        self.ready.borrow_mut().retain(|connection| {
            let expires = connection.idle_since.get() + timeout;
            if !connection.is_idle() || expires > now {
                next = if connection.is_idle() { next.min(expires) } else { next };
                return true;
            }
            self.cluster.stats().upstream_cx_idle_timeout.inc();
            connection.is_listed.set(false);
            connection.close();
            false
        });
        next
    }

    fn is_unused(&self) -> bool {
        self.connecting.get() == 0
            && self.waiting.borrow().is_empty()
            && (self.connected.get() == 0 || self.is_closed.get())
    }
}
