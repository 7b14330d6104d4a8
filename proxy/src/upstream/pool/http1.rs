//! HTTP/1.1 connections.
//!
//! A connection has no task that moves its bytes: whoever sends a request writes it and reads its answer. While nobody does,
//! the connection's driver is woken by what comes, which can only be the host's end of it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use tokio::io::AsyncWrite;
use tokio::task::AbortHandle;

use super::connection::{Established, Sender, Unanswered};
use crate::config::cluster::Cluster as Config;
use crate::io::h1::wire::Meter;
use crate::io::h1::{self, Error, Link, Outgoing, Wire};
use crate::io::{Body, Incoming, Stream};
use crate::upstream::cluster::TrafficStats;
use crate::upstream::meter::Metered;

mod answer;
mod request;

use answer::{Answer, Answers, Limits};

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It waits for a request.
    Idle,
    /// A request is on it.
    Busy,
    /// A request is on it, and none may follow.
    Ending,
    /// It has ended.
    Closed,
}

/// An HTTP/1.1 connection to a host.
pub(super) struct Http1 {
    /// The connection, until it leaves HTTP.
    link: RefCell<Option<Rc<RefCell<Link>>>>,
    limits: Limits,
    /// Whether trailers go to the host.
    trailers: bool,
    state: Cell<State>,
    /// Whether a byte of the answer has come.
    has_begun: Cell<bool>,
    /// What still sends a request whose answer has begun.
    upload: RefCell<Option<AbortHandle>>,
    /// The driver.
    driver: RefCell<Option<Waker>>,
    stats: Arc<TrafficStats>,
}

/// Counts a connection's bytes in the cluster's statistics.
struct TrafficMeter(Arc<TrafficStats>);

impl Meter for TrafficMeter {
    fn received(&self, bytes: usize) {
        self.0.upstream_cx_rx_bytes_total.add(bytes as u64);
    }

    fn sent(&self, bytes: usize) {
        self.0.upstream_cx_tx_bytes_total.add(bytes as u64);
    }
}

/// Makes an HTTP/1.1 connection of a stream. Nothing is sent yet.
pub(super) fn establish(stream: Stream, config: &Config, stats: Arc<TrafficStats>) -> Established {
    let wire = Wire::metered(stream, Box::new(TrafficMeter(Arc::clone(&stats))));
    let http1 = Rc::new(Http1 {
        link: RefCell::new(Some(Rc::new(RefCell::new(Link::new(wire))))),
        limits: Limits::new(config),
        trailers: config.http1_trailers,
        state: Cell::new(State::Idle),
        has_begun: Cell::default(),
        upload: RefCell::default(),
        driver: RefCell::default(),
        stats,
    });
    let driven = Rc::clone(&http1);
    Established {
        sender: Sender::Http1(http1),
        driver: Box::pin(async move {
            poll_fn(|cx| driven.poll_end(cx)).await;
            Ok(())
        }),
        capacity: Rc::new(Cell::new(1)),
    }
}

impl Http1 {
    /// Whether a request may be put on the connection.
    pub(super) fn is_ready(&self) -> bool {
        self.state.get() == State::Idle
    }

    /// Whether no request may follow.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state.get(), State::Ending | State::Closed)
    }

    /// Whether the host has ended the connection.
    pub(super) fn has_host_left(&self) -> bool {
        self.link().is_some_and(|link| link.borrow().wire.is_over())
    }

    /// Whether a byte of the answer to the latest request has come.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// Closes the connection in good order, if no request is on it.
    pub(super) fn close(&self) {
        self.state.set(State::Closed);
        if let Some(upload) = self.upload.take() {
            upload.abort();
        }
        self.wake_driver();
    }

    /// The connection itself, after it has left HTTP.
    pub(super) fn take(&self) -> Option<Metered> {
        self.wake_driver();
        let link = Rc::into_inner(self.link.take()?)?;
        let stream = link.into_inner().wire.into_stream();
        Some(Metered::new(stream, Arc::clone(&self.stats)))
    }

    /// The answer has ended: the connection waits for the next request, if all that belongs to this one is over.
    pub(super) fn release(&self) {
        if self.state.get() != State::Busy || self.upload.borrow().is_some() {
            return;
        }
        let Some(link) = self.link() else { return };
        let mut link = link.borrow_mut();
        if !link.is_complete() || !link.wire.ahead.is_empty() || !link.wire.out.is_empty() {
            return;
        }
        self.state.set(State::Idle);
        // The driver is to be woken by what comes from now on, and need not run for that.
        if let Some(driver) = &*self.driver.borrow()
            && link.wire.poll_read(&mut Context::from_waker(driver), 0).is_ready()
        {
            self.state.set(State::Closed);
            driver.wake_by_ref();
        }
    }

    fn link(&self) -> Option<Rc<RefCell<Link>>> {
        self.link.borrow().clone()
    }

    fn wake_driver(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }

    /// Ready once the connection has ended, by us or by the host.
    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(link) = self.link() else { return Poll::Ready(()) };
        let mut link = link.borrow_mut();
        match self.state.get() {
            State::Closed => {
                // Nobody is left to tell of an error.
                let _ = ready!(Pin::new(link.wire.stream()).poll_shutdown(cx));
                return Poll::Ready(());
            }
            // Between requests a host has nothing to say but that it closes.
            State::Idle if link.wire.poll_read(cx, 0).is_ready() => {
                self.state.set(State::Closed);
                return Poll::Ready(());
            }
            _ => {}
        }
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Sends a request and waits for the head of its answer. A request without a body is given back if `keep` says so and no
    /// answer has come.
    pub(super) async fn send(
        self: &Rc<Self>,
        request: Request<Body>,
        keep: bool,
    ) -> Result<Response<Incoming>, Unanswered> {
        let Some(link) = self.link().filter(|_| self.is_ready()) else {
            return Err(Unanswered {
                error: Error::Cut.into(),
                unsent: Some(Box::new(request)),
                kept: None,
            });
        };
        // A host that has closed since may say so only now; if not, this task is woken when it answers.
        let lost = poll_fn(|cx| Poll::Ready(link.borrow_mut().wire.poll_read(cx, 0).is_ready()));
        if lost.await {
            self.close();
            return Err(Unanswered {
                error: Error::Cut.into(),
                unsent: Some(Box::new(request)),
                kept: None,
            });
        }
        self.state.set(State::Busy);
        self.has_begun.set(false);
        let (parts, body) = request.into_parts();
        let encoder = request::write(&parts, &body, link.borrow_mut().wire.out.text());
        let mut sending = Some(Outgoing::new(body, encoder, self.trailers));
        match self.answer(&link, &mut sending, &parts.method).await {
            Ok(answer) => Ok(self.arrive(&link, answer, sending)),
            Err(error) => Err(Unanswered {
                error: error.into(),
                unsent: None,
                kept: keep.then(|| Box::new(again(parts))),
            }),
        }
    }

    /// Sends the rest of a request and waits for the head of its answer.
    async fn answer(
        &self,
        link: &RefCell<Link>,
        sending: &mut Option<Outgoing<Body>>,
        method: &Method,
    ) -> Result<Answer, Error> {
        let mut answers = Answers::new(self.limits, method);
        let mut is_first = true;
        let answer = poll_fn(|cx| {
            match sending.as_mut().map(|sending| sending.poll(link, cx)) {
                Some(Poll::Ready(Err(error @ Error::Body(_)))) => return Poll::Ready(Err(error)),
                Some(Poll::Ready(sent)) => {
                    *sending = None;
                    // A host that reads no more may have answered all the same.
                    if sent.is_err() {
                        self.state.set(State::Ending);
                    }
                }
                Some(Poll::Pending) | None => {}
            }
            if std::mem::take(&mut is_first) {
                return Poll::Pending;
            }
            answers.poll_next(&mut link.borrow_mut().wire, &self.has_begun, cx)
        });
        answer.await
    }

    /// The answer, whose body is still to come. What is left of the request goes on beside it.
    fn arrive(
        self: &Rc<Self>,
        link: &Rc<RefCell<Link>>,
        answer: Answer,
        sending: Option<Outgoing<Body>>,
    ) -> Response<Incoming> {
        let Answer { parts, framing, closes } = answer;
        if closes {
            self.state.set(State::Ending);
        }
        if let Some(sending) = sending {
            let upload =
                tokio::task::spawn_local(upload(Rc::clone(self), Rc::clone(link), sending));
            self.upload.replace(Some(upload.abort_handle()));
        }
        Response::from_parts(parts, Incoming::Http1(h1::Incoming::begin(link, framing, b"")))
    }
}

async fn upload(http1: Rc<Http1>, link: Rc<RefCell<Link>>, mut sending: Outgoing<Body>) {
    if poll_fn(|cx| sending.poll(&link, cx)).await.is_err() {
        http1.state.set(State::Ending);
    }
    http1.upload.take();
}

/// A request without a body, as it was.
fn again(parts: Parts) -> Request<Body> {
    Request::from_parts(parts, Body::Empty)
}

/// Whether an answer turns the connection into a tunnel.
pub(super) fn is_tunnel(status: StatusCode, is_connect: bool) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (is_connect && status.is_success())
}
