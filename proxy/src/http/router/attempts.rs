//! Attempts until one is good enough: retries after a back-off, and hedges beside an attempt that takes too long.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Request, StatusCode};
use tokio::time::Sleep;

use super::attempt::Answered;
use super::avoid::Tried;
use super::body_source::Source;
use super::failure::{Failed, reply_to};
use super::per_try::{Expired, PerTry};
use super::recovery::Recovery;
use super::retry_state::{Decision, RetryState};
use super::running::{self, Attempt, Ended, Running, Trouble};
use super::{Plan, charged, host, is_unsolicited_switch, outcome};
use crate::config::route::RetryPolicy;
use crate::http::local_reply::LocalReply;
use crate::http::sanitize::names;
use crate::http::stream::Stream;
use crate::io::deadline::Deadline;
use crate::telemetry::stream_info::UpstreamInfo;
use crate::upstream::balance::Avoid;
use crate::upstream::cluster::Picked;

/// The attempt whose response goes downstream.
pub struct Won {
    /// Its response.
    pub answered: Answered,
    /// The host that it went to.
    pub picked: Rc<Picked>,
    /// What the access log tells of it.
    pub facts: UpstreamInfo,
}

/// What happens next.
enum Event {
    Ended(usize, Box<Ended>),
    /// The back-off is over.
    BackedOff,
    /// The last attempt takes long enough for another one beside it.
    Slow,
    /// The body has outgrown what is kept while no attempt was there to read it.
    Outgrown,
}

/// The attempts of one request.
pub struct Attempts<'a, 'r> {
    stream: &'a Stream,
    plan: &'a Plan<'a>,
    retry: &'r mut Option<RetryState>,
    policy: Option<&'r RetryPolicy>,
    per_try: PerTry,
    /// An attempt that takes long goes on beside the next one.
    hedge: bool,
    /// The request's head as it goes upstream.
    parts: &'r mut Parts,
    body: &'r mut Source,
    running: Vec<Running<'a>>,
    /// The back-off before the next attempt.
    pending: Option<Pin<Box<Sleep>>>,
    alarm: Deadline,
    tried: Tried,
    is_timeout_retry: bool,
    /// An attempt was bad enough for another one, which could not be.
    pub has_given_up: bool,
}

impl<'a, 'r> Attempts<'a, 'r> {
    /// None is made yet.
    pub fn new(
        stream: &'a Stream,
        plan: &'a Plan<'a>,
        recovery: &'r mut Recovery<'_>,
        parts: &'r mut Parts,
        body: &'r mut Source,
    ) -> Self {
        Attempts {
            stream,
            plan,
            retry: &mut recovery.retry,
            policy: recovery.policy.as_deref(),
            per_try: recovery.per_try,
            hedge: recovery.hedge,
            parts,
            body,
            running: Vec::new(),
            pending: None,
            alarm: Deadline::default(),
            tried: Tried::default(),
            is_timeout_retry: false,
            has_given_up: false,
        }
    }

    /// Makes attempts until one is good enough or nothing more can be done.
    ///
    /// # Errors
    /// The answer that stands for the last attempt.
    pub async fn run(&mut self) -> Result<Won, LocalReply> {
        self.start()?;
        loop {
            self.plan.timeouts.set_in_flight(self.running.len());
            match poll_fn(|cx| self.poll_event(cx)).await {
                Event::Ended(index, ended) => {
                    if let Some(outcome) = self.ended(index, *ended) {
                        return outcome;
                    }
                }
                Event::BackedOff => {
                    self.pending = None;
                    self.retry.iter().for_each(RetryState::retries);
                    self.tell_retry();
                    self.start()?;
                }
                Event::Slow => self.hedge(),
                Event::Outgrown => return Err(outgrown()),
            }
        }
    }

    /// Starts an attempt.
    fn start(&mut self) -> Result<(), LocalReply> {
        let policy = self.policy;
        let is_first = self.stream.shared.info.borrow().upstream.attempts == 0;
        let picked = {
            let is_avoided = |host: &_| policy.is_some_and(|p| self.tried.is_avoided(host, p));
            let attempts = policy.map_or(0, |policy| policy.host_attempts);
            let avoid = Avoid { attempts, is_avoided: &is_avoided };
            let avoid = (!is_first && attempts > 0).then_some(avoid);
            host::pick_beside(
                self.stream,
                self.plan,
                &self.parts.headers,
                avoid,
                self.tried.priorities(),
            )?
        };
        self.tried.add(&picked.host, policy);
        let picked = Rc::new(picked);
        let sent = Rc::new(Cell::new(None));
        // An attempt that goes on beside others has no timer of its own.
        let timers = (!self.hedge).then_some(self.per_try);
        let mut parts = Request::new(()).into_parts().0;
        parts.method = self.parts.method.clone();
        parts.uri = self.parts.uri.clone();
        parts.headers = self.parts.headers.clone();
        let future = Box::pin(running::run(Attempt {
            stream: self.stream,
            plan: self.plan,
            picked: Rc::clone(&picked),
            parts,
            body: self.body.next(),
            timers,
            sent: Rc::clone(&sent),
        }));
        self.running.push(Running { picked, future, sent, is_hedged: false });
        Ok(())
    }

    /// What the host of a retry is told.
    fn tell_retry(&mut self) {
        let headers = &mut self.parts.headers;
        if self.plan.route.virtual_host.include_is_timeout_retry {
            let value = if self.is_timeout_retry { "true" } else { "false" };
            headers.insert(&names::X_ENVOY_IS_TIMEOUT_RETRY, HeaderValue::from_static(value));
        }
        let complete = self.stream.shared.request_completed_at();
        let elapsed = complete.map_or(Duration::ZERO, |complete| complete.elapsed());
        let suppress = self.stream.connection.manager.config.router.suppress_envoy_headers;
        self.plan.timeouts.tell(headers, elapsed, suppress);
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        for (index, running) in self.running.iter_mut().enumerate() {
            if let Poll::Ready(ended) = running.future.as_mut().poll(cx) {
                return Poll::Ready(Event::Ended(index, Box::new(ended)));
            }
        }
        if let Some(pending) = &mut self.pending {
            if pending.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::BackedOff);
            }
            if self.running.is_empty() && self.body.poll_outgrown(cx).is_ready() {
                return Poll::Ready(Event::Outgrown);
            }
        }
        self.poll_slow(cx).map(|()| Event::Slow)
    }

    /// Ready when the last attempt has taken longer than its timer says and no other was started since.
    fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let last = self.running.last().filter(|last| self.hedge && !last.is_hedged);
        let Some(sent) = last.and_then(|last| last.sent.get()) else { return Poll::Pending };
        ready!(self.per_try.poll(sent, self.stream, &mut self.alarm, cx));
        Poll::Ready(())
    }

    /// Another attempt beside the last one, if that may be.
    fn hedge(&mut self) {
        let Some(last) = self.running.last_mut() else { return };
        last.is_hedged = true;
        outcome::slow(last.picked.owner(&self.plan.cluster), &last.picked.host);
        if self.can_retry() {
            let decision = self.decide(|state| state.on_slow_attempt());
            self.schedule(decision, true);
        }
    }

    /// Whether a decision for another attempt could be carried out.
    fn can_retry(&self) -> bool {
        self.retry.is_some() && self.body.is_kept()
    }

    fn decide(&mut self, ask: impl FnOnce(&mut RetryState) -> Decision) -> Decision {
        let is_kept = self.body.is_kept();
        let state = self.retry.as_mut().filter(|_| is_kept);
        let decision = state.map_or(Decision::No, ask);
        self.has_given_up |= decision.is_refusal();
        self.stream.flag(decision.flag());
        decision
    }

    /// Whether there will be another attempt.
    fn schedule(&mut self, decision: Decision, is_timeout: bool) -> bool {
        let Decision::Retry(wait) = decision else { return false };
        self.is_timeout_retry = is_timeout;
        self.pending = Some(Box::pin(tokio::time::sleep(wait)));
        true
    }

    /// Whether an answer may still come from elsewhere.
    fn is_open(&self) -> bool {
        self.pending.is_some() || !self.running.is_empty()
    }

    /// What comes of an attempt that has ended; none if others go on.
    fn ended(&mut self, index: usize, ended: Ended) -> Option<Result<Won, LocalReply>> {
        let attempt = self.running.remove(index);
        match ended {
            Ok((answered, _)) if is_unsolicited_switch(&answered, self.plan) => {
                self.failed(attempt, Failed::protocol_error())
            }
            Ok((answered, facts)) => self.answered(attempt, answered, facts),
            Err(Trouble::Failed(failed)) => self.failed(attempt, failed),
            Err(Trouble::Expired(expired)) => self.expired(attempt, expired),
        }
    }

    fn answered(
        &mut self,
        attempt: Running<'a>,
        answered: Answered,
        facts: UpstreamInfo,
    ) -> Option<Result<Won, LocalReply>> {
        let (status, headers) = (answered.response.status(), answered.response.headers());
        let is_bad = match attempt.is_hedged {
            false => {
                let decision = self.decide(|state| state.on_response(status, headers));
                if self.schedule(decision, false) {
                    self.plan.cluster.traffic().charge_retried(status.as_u16());
                    self.give_up(&attempt.picked, answered);
                    return None;
                }
                decision.is_refusal()
            }
            // It was repeated already.
            true => {
                let state = self.retry.as_ref();
                state.is_some_and(|state| state.is_retriable(status, headers))
            }
        };
        if is_bad && self.is_open() {
            self.give_up(&attempt.picked, answered);
            return None;
        }
        Some(Ok(Won { answered, picked: attempt.picked, facts }))
    }

    fn failed(&mut self, attempt: Running<'a>, failed: Failed) -> Option<Result<Won, LocalReply>> {
        let picked = &attempt.picked;
        outcome::failed(picked.owner(&self.plan.cluster), &picked.host, failed.reason());
        let is_broken = self.stream.shared.broken().is_some();
        if !attempt.is_hedged && !is_broken {
            let decision = self.decide(|state| state.on_reset(&failed));
            if self.schedule(decision, false) {
                return None;
            }
        }
        let is_retry = self.stream.shared.info.borrow().upstream.attempts > 1;
        let reply =
            charged(self.stream, &self.plan.cluster, reply_to(failed, self.stream, is_retry));
        (!self.is_open()).then_some(Err(reply))
    }

    /// A response that nobody wants any more: its connection stays only if nothing more comes over it.
    fn give_up(&self, picked: &Picked, answered: Answered) {
        let (owner, response) = (picked.owner(&self.plan.cluster), &answered.response);
        let (status, headers) = (response.status(), response.headers());
        outcome::repeated(owner, &picked.host, self.stream.grpc, status, headers);
        if http_body::Body::is_end_stream(response.body()) {
            answered.lease.finish();
        }
    }

    /// The time of the whole is over: what it tells of the hosts that have not answered.
    pub fn time_out_all(&self) {
        self.running.iter().for_each(|attempt| self.time_out(attempt));
    }

    fn time_out(&self, attempt: &Running<'_>) {
        outcome::timed_out(attempt.picked.owner(&self.plan.cluster), &attempt.picked.host);
    }

    fn expired(
        &mut self,
        attempt: Running<'a>,
        expired: Expired,
    ) -> Option<Result<Won, LocalReply>> {
        self.time_out(&attempt);
        let stats = self.plan.cluster.stats();
        let details = match expired {
            Expired::Timeout => {
                stats.upstream_rq_per_try_timeout.inc();
                "upstream_per_try_timeout"
            }
            Expired::Idle => {
                stats.upstream_rq_per_try_idle_timeout.inc();
                "upstream_per_try_idle_timeout"
            }
        };
        // An attempt that is given up counts as reset by this side.
        drop(attempt.future);
        let decision = self.decide(|state| state.on_reset(&Failed::given_up()));
        if self.schedule(decision, true) {
            return None;
        }
        let reply = self.plan.timeouts.gave_up(details);
        Some(Err(charged(self.stream, &self.plan.cluster, reply)))
    }
}

/// The answer when the body is too large to be kept for an attempt that is still to come.
fn outgrown() -> LocalReply {
    LocalReply::new(
        StatusCode::INSUFFICIENT_STORAGE,
        "request_payload_exceeded_retry_buffer_limit",
        "exceeded request buffer limit while retrying upstream",
    )
}
