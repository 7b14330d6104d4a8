//! The request's body, as far as attempts and mirrors need it.

use std::task::{Context, Poll};

use super::Plan;
use super::recovery::Recovery;
use super::replay::Replay;
use crate::io::Body;

/// Where attempts get the request's body from.
pub enum Source {
    /// There is none.
    Empty,
    /// There will be only one attempt.
    Once(Option<Body>),
    /// It is kept.
    Kept(Replay),
}

impl Source {
    /// The body of a request; kept if `recovery` wants that.
    pub fn new(body: Body, recovery: &Recovery<'_>, plan: &Plan<'_>) -> Source {
        match body {
            Body::Empty => Source::Empty,
            body if recovery.keeps_body() => {
                let stats = &plan.cluster.traffic().stats;
                let is_kept = recovery.needs_whole_body();
                Source::Kept(Replay::new(body, is_kept, recovery.buffer_limit, stats))
            }
            body => Source::Once(Some(body)),
        }
    }

    /// The body for the next attempt.
    pub fn next(&mut self) -> Body {
        match self {
            Source::Empty => Body::Empty,
            Source::Once(body) => body.take().unwrap_or_default(),
            Source::Kept(replay) => replay.leader(),
        }
    }

    /// The body for a mirror.
    pub fn follower(&self) -> Body {
        match self {
            Source::Kept(replay) => replay.follower(),
            Source::Empty | Source::Once(_) => Body::Empty,
        }
    }

    /// Whether another attempt can have the whole body.
    pub fn is_kept(&self) -> bool {
        match self {
            Source::Empty => true,
            Source::Once(_) => false,
            Source::Kept(replay) => replay.is_kept(),
        }
    }

    /// There will be no more attempts.
    pub fn stop_keeping(&self) {
        if let Source::Kept(replay) = self {
            replay.stop_keeping();
        }
    }

    /// Reads while no attempt does. Ready once the body has outgrown what is kept.
    pub fn poll_outgrown(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Source::Kept(replay) => replay.poll_outgrown(cx),
            Source::Empty | Source::Once(_) => Poll::Pending,
        }
    }
}
