//! One attempt of several, which may run beside others.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Instant;

use http::request::Parts;

use super::Plan;
use super::attempt::{Answered, arrive, depart, may_be_sent_twice, request_names};
use super::failure::Failed;
use super::per_try::{Expired, PerTry};
use crate::http::stream::Stream;
use crate::io::Body;
use crate::telemetry::stream_info::UpstreamInfo;
use crate::upstream::cluster::{Outcome, Picked};

/// Why an attempt has no response.
pub enum Trouble {
    /// It failed.
    Failed(Failed),
    /// A timer of its own expired.
    Expired(Expired),
}

impl<E: Into<Failed>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Trouble::Failed(error.into())
    }
}

/// What comes of an attempt: its response, with what the access log tells of it.
pub type Ended = Result<(Answered, UpstreamInfo), Trouble>;

/// An attempt under way.
pub struct Running<'a> {
    /// The host that it goes to.
    pub picked: Rc<Picked>,
    /// Ends with the attempt.
    pub future: Pin<Box<dyn Future<Output = Ended> + 'a>>,
    /// When the request was put on a connection.
    pub sent: Rc<Cell<Option<Instant>>>,
    /// Another attempt was started beside it.
    pub is_hedged: bool,
}

/// What one attempt needs.
pub struct Attempt<'a> {
    /// The stream.
    pub stream: &'a Stream,
    /// How the request goes on.
    pub plan: &'a Plan<'a>,
    /// Where it goes.
    pub picked: Rc<Picked>,
    /// The request's head.
    pub parts: Parts,
    /// Its body.
    pub body: Body,
    /// The timers that end it.
    pub timers: Option<PerTry>,
    /// Told when the request is put on a connection.
    pub sent: Rc<Cell<Option<Instant>>>,
}

/// Makes the attempt.
pub async fn run(attempt: Attempt<'_>) -> Ended {
    let Attempt { stream, plan, picked, mut parts, body, timers, sent } = attempt;
    let shared = &stream.shared;
    shared.info.borrow_mut().upstream.attempts += 1;
    let pools = &stream.connection.worker.pools;
    let downstream = stream.connection.protocol;
    let priority = usize::from(plan.action.high_priority);
    let owner = picked.owner(&plan.cluster);
    let source = stream.connection.info.source;
    let names = request_names(stream.alpn.as_deref(), downstream, owner, &parts.headers);
    let mut lease = pools.http(owner, &picked.host, downstream, priority, source, names).await?;
    owner.report(&picked.host, Outcome::Connected);
    let protocol = lease.protocol();
    let request = depart(shared, plan, &picked, &mut parts, body, &lease, stream.scheme);
    if stream.connection.manager.router_runtime.replay && may_be_sent_twice(plan, &request) {
        lease.allow_replay();
    }
    sent.set(Some(Instant::now()));
    // A later attempt writes its own facts over these.
    let mut facts = shared.info.borrow().upstream.clone();
    let response = pin!(lease.send(request));
    let response = match timers {
        Some(timers) => timers.wait(stream, response).await.map_err(Trouble::Expired)?,
        None => response.await,
    };
    let (response, lease) = response?;
    let info = shared.info.borrow();
    facts.attempts = info.upstream.attempts;
    facts.last_tx = info.upstream.last_tx;
    Ok((arrive(plan, protocol, response, lease), facts))
}
