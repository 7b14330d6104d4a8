//! What the streams of one downstream HTTP connection share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, oneshot};

use crate::drain::DrainSignal;
use crate::http::h1::Refusal;
use crate::http::manager::ConnectionManager;
use crate::http::stream::Shared;
use crate::http::worker::Worker;
use crate::io::Stream;
use crate::io::deadline::Deadline;
use crate::telemetry::stream_info::{ConnectionInfo, Protocol};

/// What the head of an HTTP/1 request says beside what it asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdict {
    /// Why the request is refused, if it is.
    pub refusal: Option<Refusal>,
    /// Whether what follows may belong to a tunnel, so that no further request can be read.
    pub tunnel: bool,
}

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
    /// HTTP/1: what was found out about the latest request while its head was read.
    pub verdict: Cell<Verdict>,
    drain: DrainSignal,
    active: Cell<u32>,
    requests: Cell<u32>,
    idle_since: Cell<Instant>,
    closing: Cell<bool>,
    ending: Cell<bool>,
    left: Cell<bool>,
    /// HTTP/1: where the connection goes when it leaves HTTP.
    tunnel: RefCell<Option<oneshot::Sender<Stream>>>,
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
            verdict: Cell::default(),
            ending: Cell::new(false),
            left: Cell::new(false),
            tunnel: RefCell::default(),
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

    /// HTTP/1: no further request is read.
    pub fn end(&self) {
        self.ending.set(true);
    }

    /// HTTP/1: the client has left while an answer was due to it.
    pub fn note_left(&self) {
        self.left.set(true);
    }

    /// Whether requests are under way, or were when the client left.
    pub fn ends_busy(&self) -> bool {
        self.active() > 0 || self.left.get()
    }

    /// Whether no further request is read.
    pub fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// HTTP/1: the connection itself, once it has left HTTP.
    pub fn promise_tunnel(&self) -> oneshot::Receiver<Stream> {
        let (sender, receiver) = oneshot::channel();
        self.tunnel.replace(Some(sender));
        receiver
    }

    /// HTTP/1: the connection leaves HTTP, as [`promise_tunnel`](Self::promise_tunnel) has promised.
    pub fn hand_over(&self, stream: Stream) {
        if let Some(tunnel) = self.tunnel.take() {
            // A tunnel that has ended already wants it no more.
            let _ = tunnel.send(stream);
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
