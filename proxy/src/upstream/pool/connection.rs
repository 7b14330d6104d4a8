//! An HTTP connection: who is on it, whether more may come, and how it ends.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use h2::client::SendRequest;
use http::{Request, Response};
use hyper::client::conn::{self, TrySendError};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::host_pool::HostPool;
use super::http2;
use crate::io::{Address, Body, CodecError, Incoming};
use crate::telemetry::stream_info::{Protocol, TlsInfo};
use crate::upstream::connect::session_failure;
use crate::upstream::count::ConnectionCount;
use crate::upstream::written::Written;

/// A host does not close a connection so soon after it was used.
const BRIEF: Duration = Duration::from_millis(1);

/// What hands requests to a connection.
pub(super) enum Sender {
    Http1(conn::http1::SendRequest<Body>),
    Http2(SendRequest<Bytes>),
    /// No more: the connection closes when its requests are done.
    Closed,
}

/// A request got no response.
pub(super) struct Unanswered {
    pub error: CodecError,
    /// The request, if nothing of it was sent.
    pub unsent: Option<Box<Request<Body>>>,
}

impl From<TrySendError<Request<Body>>> for Unanswered {
    fn from(mut error: TrySendError<Request<Body>>) -> Self {
        let unsent = error.take_message().map(Box::new);
        Unanswered { error: error.into_error().into(), unsent }
    }
}

/// What moves a connection's bytes; ends with the connection.
type Driver = Pin<Box<dyn Future<Output = Result<(), CodecError>>>>;

/// A connection after its handshake, before anybody drives it.
pub(super) struct Established {
    pub sender: Sender,
    /// Moves the connection's bytes; ends with the connection.
    pub driver: Driver,
    /// How many requests the connection takes at once; HTTP/2 peers may change it.
    pub capacity: Rc<Cell<usize>>,
    /// Whether bytes came since this was last reset.
    pub has_read: Arc<AtomicBool>,
    /// Keeps what is written of a request, on HTTP/1.
    pub written: Option<Arc<Written>>,
}

/// What is known of both ends of a connection.
pub(super) struct Ends {
    /// Our address.
    pub(super) local: Option<Address>,
    /// The TLS session, if there is one.
    pub(super) tls: Option<Arc<TlsInfo>>,
}

/// A connection of a pool.
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) protocol: Protocol,
    pub(super) ends: Ends,
    pub(super) pool: Rc<HostPool>,
    sender: RefCell<Sender>,
    capacity: Rc<Cell<usize>>,
    has_read: Arc<AtomicBool>,
    written: Option<Arc<Written>>,
    active: Cell<usize>,
    served: Cell<u32>,
    pub(super) idle_since: Cell<Instant>,
    /// Whether the pool lists the connection as ready.
    pub(super) is_listed: Cell<bool>,
    /// No new requests; closes when the last one ends.
    is_draining: Cell<bool>,
    /// It carries another protocol now.
    is_upgraded: Cell<bool>,
    closed_by_us: Cell<bool>,
    /// It was given up with a request on it.
    is_aborted: Cell<bool>,
    driver: OnceCell<AbortHandle>,
    count: ConnectionCount,
}

impl Connection {
    /// Starts to drive an established connection of `pool`.
    pub(super) fn start(
        pool: &Rc<HostPool>,
        id: u64,
        ends: Ends,
        established: Established,
        count: ConnectionCount,
    ) -> Rc<Connection> {
        let protocol = match established.sender {
            Sender::Http2(_) => Protocol::Http2,
            _ => Protocol::Http11,
        };
        let connection = Rc::new(Connection {
            id,
            protocol,
            ends,
            pool: Rc::clone(pool),
            sender: RefCell::new(established.sender),
            capacity: established.capacity,
            has_read: established.has_read,
            written: established.written,
            active: Cell::default(),
            served: Cell::default(),
            idle_since: Cell::new(Instant::now()),
            is_listed: Cell::default(),
            is_draining: Cell::default(),
            is_upgraded: Cell::default(),
            closed_by_us: Cell::default(),
            is_aborted: Cell::default(),
            driver: OnceCell::new(),
            count,
        });
        let task =
            tokio::task::spawn_local(drive(Ending(Rc::clone(&connection)), established.driver));
        // The cell was made two statements ago, so it is empty.
        let _ = connection.driver.set(task.abort_handle());
        connection
    }

    /// Whether a request may be put on the connection now.
    pub(super) fn is_ready(&self) -> bool {
        let is_open = match &mut *self.sender.borrow_mut() {
            // hyper takes the first request before the connection is driven, and so before it says it is ready.
            Sender::Http1(sender) => {
                !sender.is_closed() && (sender.is_ready() || self.served.get() == 0)
            }
            Sender::Http2(sender) => http2::is_open(sender),
            Sender::Closed => false,
        };
        is_open && !self.is_draining.get() && self.has_capacity()
    }

    /// Whether there is room for one more request.
    pub(super) fn has_capacity(&self) -> bool {
        self.active.get() < self.capacity.get().max(1)
    }

    /// Whether no more requests may come, though some may still be on it.
    pub(super) fn is_ending(&self) -> bool {
        let is_closed = match &mut *self.sender.borrow_mut() {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => !http2::is_open(sender),
            Sender::Closed => true,
        };
        is_closed || self.is_draining.get()
    }

    /// Whether nothing about its place in the pool has to change when a request has left it.
    pub(super) fn stays_listed(&self) -> bool {
        self.is_listed.get() && !self.is_draining.get() && !self.is_idle()
    }

    /// What the host has ended the TLS session with, if it has.
    pub(super) fn transport_failure(&self) -> Option<Arc<str>> {
        session_failure(self.ends.tls.as_deref(), self.pool.cluster(), self.pool.host())
    }

    /// Whether no request is on it.
    pub(super) fn is_idle(&self) -> bool {
        self.active.get() == 0
    }

    /// Whether it has carried a request before the one on it.
    pub(super) fn is_reused(&self) -> bool {
        self.served.get() > 1
    }

    /// Counts one more request on the connection.
    pub(super) fn begin_stream(&self) {
        self.active.set(self.active.get() + 1);
        let served = self.served.get().saturating_add(1);
        self.served.set(served);
        let config = self.pool.cluster().config();
        if config.http.max_requests_per_connection.is_some_and(|max| served >= max) {
            self.pool.cluster().stats().upstream_cx_max_requests.inc();
            self.is_draining.set(true);
        }
    }

    /// A request has left the connection.
    pub(super) fn end_stream(self: &Rc<Self>) {
        self.active.set(self.active.get() - 1);
        self.pool.released(self);
    }

    /// Puts a request on the connection, and keeps it on HTTP/1 if `keep` says so.
    pub(super) fn send(
        &self,
        request: Request<Body>,
        keep: bool,
    ) -> impl Future<Output = Result<Response<Incoming>, Unanswered>> + use<> {
        self.has_read.store(false, Relaxed);
        if let Some(written) = &self.written {
            written.begin(keep);
        }
        let sent = match &mut *self.sender.borrow_mut() {
            Sender::Http1(sender) => Some(Either::Left(sender.try_send_request(request))),
            Sender::Http2(sender) => Some(Either::Right(http2::send(sender, request))),
            Sender::Closed => None,
        };
        let sent = sent.expect("only a connection without requests is given up, and it has one");
        async move {
            match sent {
                Either::Left(response) => Ok(response.await?.map(Incoming::from)),
                Either::Right(sent) => sent?.answer().await,
            }
        }
    }

    /// Whether a part of the response to the request on an HTTP/1 connection has come.
    pub(super) fn has_begun_response(&self) -> bool {
        self.protocol != Protocol::Http2 && self.has_read.load(Relaxed)
    }

    /// The request on an HTTP/1 connection, if it was kept.
    pub(super) fn kept_request(&self) -> Option<Request<Body>> {
        self.written.as_ref()?.request()
    }

    /// Whether the request that has just been put on the connection found it idle for so long that the host may have been
    /// about to close it.
    pub(super) fn was_idle(&self) -> bool {
        self.is_reused() && self.active.get() == 1 && self.idle_since.get().elapsed() >= BRIEF
    }

    /// Whether no request has been on it yet.
    pub(super) fn is_new(&self) -> bool {
        self.served.get() == 0
    }

    /// No new requests; closes now if there is none on it, else after the last one.
    pub(super) fn drain(&self) {
        self.is_draining.set(true);
        if self.is_idle() {
            self.close();
        }
    }

    /// Lets the connection close in good order, since nothing more will be sent.
    pub(super) fn close(&self) {
        self.closed_by_us.set(true);
        *self.sender.borrow_mut() = Sender::Closed;
    }

    /// Closes the connection at once, whatever is on it.
    pub(super) fn abort(&self) {
        self.is_aborted.set(!self.is_idle());
        self.close();
        if let Some(driver) = self.driver.get() {
            driver.abort();
        }
    }

    /// The connection now carries another protocol and is lost to the pool.
    pub(super) fn upgraded(&self) {
        self.is_upgraded.set(true);
        self.is_draining.set(true);
    }
}

/// Ends the books of a connection when its driver ends or is dropped.
struct Ending(Rc<Connection>);

impl Drop for Ending {
    fn drop(&mut self) {
        let connection = &self.0;
        if !connection.is_upgraded.get() {
            let with_requests = !connection.is_idle() || connection.is_aborted.get();
            connection.count.ended(!connection.closed_by_us.get(), with_requests);
        }
        connection.pool.ended(connection);
    }
}

/// Drives a connection to its end; after `max_connection_duration` it drains.
async fn drive(ending: Ending, mut driver: Driver) {
    let connection = &ending.0;
    let cluster = connection.pool.cluster();
    if let Some(limit) = cluster.config().http.max_connection_duration {
        if tokio::time::timeout(limit, &mut driver).await.is_ok() {
            return;
        }
        cluster.stats().upstream_cx_max_duration_reached.inc();
        connection.drain();
    }
    // Requests on the connection are told the error by the codec; nobody else needs to know it.
    if let Err(error) = driver.await {
        tracing::debug!(cluster = %cluster.name(), %error, "upstream connection ended");
    }
}
