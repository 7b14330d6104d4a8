//! One HTTP request with its response: its facts, and the one place where it is recorded when it ends.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::http::connection::Connection;
use crate::http::filters;
use crate::http::h1::Refusal;
use crate::http::manager::Route;
use crate::http::overdue::Limits;
use crate::http::request;
use crate::io::Address;
use crate::telemetry::log_format::{FormatContext, RequestHead};
use crate::telemetry::response_flags::ResponseFlags;
use crate::telemetry::stream_info::{Protocol, StreamInfo};
use crate::upstream::pool::AlpnOverrides;

/// What the stream and its two bodies share; all on one thread.
pub struct Shared {
    /// The stream's facts.
    pub info: RefCell<StreamInfo>,
    /// What holds for its response, once that has begun.
    pub limits: Cell<Limits>,
    activity: Cell<Instant>,
    request_complete: Cell<Option<Instant>>,
    broken: Cell<Option<Refusal>>,
    waiter: RefCell<Option<Waker>>,
}

impl Shared {
    /// A byte moved in some direction: the idle timeout starts anew.
    pub fn touch(&self) {
        self.activity.set(Instant::now());
    }

    /// When a byte last moved.
    pub fn last_activity(&self) -> Instant {
        self.activity.get()
    }

    /// The downstream's request has come in whole.
    pub fn complete_request(&self) {
        if self.request_complete.get().is_some() {
            return;
        }
        let now = Instant::now();
        self.request_complete.set(Some(now));
        let mut info = self.info.borrow_mut();
        info.request_complete = Some(now - info.start);
        // Whoever reads a request's body writes it upstream.
        info.upstream.last_tx = info.request_complete;
        if let Some(waiter) = self.waiter.borrow_mut().take() {
            waiter.wake();
        }
    }

    /// The request has no body, and was complete from the start.
    pub fn complete_without_body(&self) {
        let mut info = self.info.borrow_mut();
        self.request_complete.set(Some(info.start));
        info.request_complete = Some(Duration::ZERO);
    }

    /// The request's body turned out to be no good.
    pub fn note_broken(&self, refusal: Refusal) {
        self.broken.set(Some(refusal));
    }

    /// Why the request's body is no good, if so.
    pub fn broken(&self) -> Option<Refusal> {
        self.broken.get()
    }

    /// When the request was complete, if it is.
    pub fn request_completed_at(&self) -> Option<Instant> {
        self.request_complete.get()
    }

    /// Wakes this task when the request is complete.
    pub fn wake_on_complete(&self, waker: &Waker) {
        let mut waiter = self.waiter.borrow_mut();
        if !waiter.as_ref().is_some_and(|waiting| waiting.will_wake(waker)) {
            *waiter = Some(waker.clone());
        }
    }
}

/// The host that a session sticks to.
#[derive(Debug)]
pub struct WantedHost {
    /// Its address.
    pub address: Address,
    /// Where no other host will do, the status of the answer when this one cannot be used.
    pub strict: Option<StatusCode>,
}

/// One stream. Dropping it records it: statistics, then access log.
pub struct Stream {
    /// Shared with the bodies.
    pub shared: Rc<Shared>,
    /// The connection that carries it.
    pub connection: Rc<Connection>,
    /// The request, kept only where a log or formatter may ask for it.
    pub request: Option<Box<RequestHead>>,
    /// The response's headers, kept likewise.
    pub response: Option<Box<HeaderMap>>,
    /// The response's trailers, kept likewise.
    pub trailers: Option<Box<HeaderMap>>,
    /// `x-request-id`, where the response must carry it.
    pub request_id: Option<HeaderValue>,
    /// Whether the request's content type is gRPC.
    pub grpc: bool,
    /// Whether the client is inside the mesh.
    pub internal: bool,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The route and the chosen entry of its weighted clusters, as HTTP filters saw them; none without filters.
    pub filter_route: Option<(Arc<Route>, Option<usize>)>,
    /// The host that the first attempt goes to, where a filter wants one.
    pub wanted: Option<Box<WantedHost>>,
    /// What ALPN offers to hosts instead of what their TLS context says, if a filter says so.
    pub alpn: Option<Arc<AlpnOverrides>>,
    /// What HTTP filters keep, by the filter's position.
    pub filter_states: Vec<(usize, Box<dyn Any>)>,
    /// Whether the response has ended as it should.
    complete: bool,
}

impl Stream {
    /// A stream that starts now.
    pub fn start(connection: &Rc<Connection>, protocol: Protocol) -> Self {
        count_start(connection, Some(protocol));
        connection.stream_started();
        let info = StreamInfo::new(Rc::clone(&connection.info), Some(protocol));
        let shared = Rc::new(Shared {
            activity: Cell::new(info.start),
            info: RefCell::new(info),
            limits: Cell::default(),
            request_complete: Cell::new(None),
            broken: Cell::default(),
            waiter: RefCell::new(None),
        });
        if connection.protocol != Protocol::Http2 {
            connection.current.replace(Some(Rc::clone(&shared)));
        }
        Stream {
            shared,
            connection: Rc::clone(connection),
            request: None,
            response: None,
            trailers: None,
            request_id: None,
            grpc: false,
            internal: false,
            scheme: "http",
            filter_route: None,
            wanted: None,
            alpn: None,
            filter_states: Vec::new(),
            complete: false,
        }
    }

    /// Adds response flags.
    pub fn flag(&self, flags: ResponseFlags) {
        self.shared.info.borrow_mut().flags.insert(flags);
    }

    /// The response has been sent whole.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// Calls `f` with what a formatter may read.
    pub fn with_format<R>(&self, f: impl FnOnce(&FormatContext<'_>) -> R) -> R {
        f(&FormatContext {
            info: &self.shared.info.borrow(),
            request: self.request.as_deref(),
            response: self.response.as_deref(),
            trailers: self.trailers.as_deref(),
            // Envoy's access log does not know it either.
            local_reply_body: None,
        })
    }

    /// Keeps the request's head as it is now for formatters and the access log.
    pub fn keep_request(&mut self, parts: &Parts) {
        self.request = Some(Box::new(self.head_of(parts)));
    }

    /// A copy of the request's head as it is now.
    pub fn head_of(&self, parts: &Parts) -> RequestHead {
        RequestHead {
            method: parts.method.clone(),
            scheme: self.scheme.into(),
            authority: request::authority(&parts.headers).into(),
            path: request::path(&parts.uri).into(),
            headers: parts.headers.clone(),
        }
    }

    /// A response begins: its code counts from now on.
    pub fn respond(&mut self, code: u16) {
        let manager = &self.connection.manager;
        manager.stats.downstream_rq.record_class(code);
        manager.listener_stats.downstream_rq.record_class(code);
        let mut info = self.shared.info.borrow_mut();
        info.response_code = code;
        info.response_started = info.upstream.first_rx.or_else(|| Some(info.elapsed()));
    }

    /// The request goes on as another one, `parts`, since the host's answer with this code said so: what it was so far is
    /// recorded by itself.
    pub fn start_again(&mut self, code: u16, parts: &Parts) {
        if self.connection.manager.keeps_heads {
            self.keep_request(parts);
        }
        {
            let mut info = self.shared.info.borrow_mut();
            info.response_code = code;
            info.details = Some("internal_redirect".into());
        }
        self.shared.touch();
        self.complete = true;
        self.record();
        self.complete = false;
        (self.filter_route, self.response, self.wanted) = (None, None, None);
        self.filter_states.clear();
        let mut info = self.shared.info.borrow_mut();
        let mut new = StreamInfo::new(Rc::clone(&self.connection.info), info.protocol);
        new.forwarded_for = info.forwarded_for.take();
        new.request_complete = Some(Duration::ZERO);
        self.shared.request_complete.set(Some(new.start));
        count_start(&self.connection, new.protocol);
        *info = new;
    }

    /// Counts the stream and logs it; tells when it ended.
    fn record(&mut self) -> Instant {
        if !self.filter_states.is_empty() {
            filters::end(self, self.complete);
        }
        let manager = &self.connection.manager;
        let stats = &manager.stats;
        let mut info = self.shared.info.borrow_mut();
        // The last byte of a response that is complete moved at its end.
        let now = if self.complete { self.shared.last_activity() } else { Instant::now() };
        let duration = now - info.start;
        info.duration = Some(duration);
        if !self.complete {
            // Nobody else ended it, so the downstream went away, or reset the stream.
            stats.downstream_rq_rx_reset.inc();
            if info.flags.is_empty() {
                let (flag, details) = match self.connection.protocol {
                    Protocol::Http2 => {
                        (ResponseFlags::DOWNSTREAM_REMOTE_RESET, "http2.remote_reset")
                    }
                    _ => (
                        ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION,
                        "downstream_remote_disconnect",
                    ),
                };
                info.flags.insert(flag);
                info.details = Some(details.into());
            }
        }
        stats.downstream_rq_time.record(duration.as_millis() as u64);
        stats.downstream_rq_active.dec();
        drop(info);
        if !manager.access_logs.is_empty() {
            self.with_format(|context| {
                for log in &manager.access_logs {
                    log.log(context);
                }
            });
        }
        now
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let ended = self.record();
        self.connection.stream_ended(ended);
    }
}

/// Counts a stream that starts.
fn count_start(connection: &Connection, protocol: Option<Protocol>) {
    let stats = &connection.manager.stats;
    stats.downstream_rq_total.inc();
    stats.downstream_rq_active.inc();
    match protocol {
        Some(Protocol::Http2) => stats.downstream_rq_http2_total.inc(),
        _ => stats.downstream_rq_http1_total.inc(),
    }
}
