//! What the streams of one downstream HTTP connection share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use crate::drain::DrainSignal;
use crate::http::guard::Verdicts;
use crate::http::manager::ConnectionManager;
use crate::http::stream::Shared;
use crate::http::worker::Worker;
use crate::io::deadline::Deadline;
use crate::telemetry::stream_info::{ConnectionInfo, Protocol};

/// A downstream HTTP connection.
pub struct Connection {
    /// The connection manager that serves it.
    pub manager: Arc<ConnectionManager>,
    /// The worker that it lives on.
    pub worker: Rc<Worker>,
    /// Its facts.
    pub info: Rc<ConnectionInfo>,
    /// HTTP/1.1 or HTTP/2; HTTP/1.0 is told by the request.
    pub protocol: Protocol,
    /// What was found out about its HTTP/1 requests while they were read.
    pub verdicts: Arc<Verdicts>,
    drain: DrainSignal,
    active: Cell<u32>,
    requests: Cell<u32>,
    idle_since: Cell<Instant>,
    closing: Cell<bool>,
    deadlines: RefCell<Vec<Deadline>>,
    /// HTTP/1: the stream under way.
    pub current: RefCell<Option<Rc<Shared>>>,
    /// Told when the connection must be shut down gracefully at once.
    pub shutdown: Notify,
}

impl Connection {
    /// A connection that starts now.
    pub fn new(
        manager: Arc<ConnectionManager>,
        worker: Rc<Worker>,
        info: Rc<ConnectionInfo>,
        protocol: Protocol,
        drain: DrainSignal,
    ) -> Self {
        Connection {
            manager,
            worker,
            info,
            protocol,
            verdicts: Arc::default(),
            drain,
            active: Cell::new(0),
            requests: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            closing: Cell::new(false),
            deadlines: RefCell::default(),
            current: RefCell::default(),
            shutdown: Notify::new(),
        }
    }

    /// A stream starts.
    pub fn stream_started(&self) {
        self.active.set(self.active.get() + 1);
        self.requests.set(self.requests.get() + 1);
        let reached = self.manager.config.max_requests_per_connection == Some(self.requests.get());
        if reached {
            self.manager.stats.downstream_cx_max_requests_reached.inc();
            self.close_after_response();
        }
    }

    /// A stream has ended, at this time.
    pub fn stream_ended(&self, now: Instant) {
        self.active.set(self.active.get() - 1);
        self.idle_since.set(now);
        if self.protocol != Protocol::Http2 {
            self.current.take();
        }
    }

    /// A timer for a stream. It may have been another's before, which saves making it.
    pub fn take_deadline(&self) -> Deadline {
        self.deadlines.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a timer for the next stream.
    pub fn keep_deadline(&self, deadline: Deadline) {
        self.deadlines.borrow_mut().push(deadline);
    }

    /// How many streams have started; the number of the latest.
    pub fn requests(&self) -> u32 {
        self.requests.get()
    }

    /// How many streams are active.
    pub fn active(&self) -> u32 {
        self.active.get()
    }

    /// Since when no stream has been active; meaningless while one is.
    pub fn idle_since(&self) -> Instant {
        self.idle_since.get()
    }

    /// The connection ends once the response under way has been sent.
    pub fn close_after_response(&self) {
        self.closing.set(true);
        if self.protocol == Protocol::Http2 {
            self.shutdown.notify_one();
        }
    }

    /// A response is about to be sent: if the listener drains and wants it so, it is the connection's last.
    pub fn follow_drain(&self) {
        if !self.closing.get() && self.drain.closes() {
            self.manager.stats.downstream_cx_drain_close.inc();
            self.close_after_response();
        }
    }

    /// Whether the next HTTP/1 response must say `connection: close`.
    pub fn must_close(&self) -> bool {
        self.closing.get()
    }
}
