//! Requests that may need more than one attempt, or that go elsewhere too.

use std::pin::pin;

use http::request::Parts;
use http::{HeaderValue, StatusCode};

use super::attempts::{Attempts, Won};
use super::body_source::Source;
use super::recovery::Recovery;
use super::redirect::{self, Redirects};
use super::{Plan, answer, outcome, shadow};
use crate::config::route::InternalRedirect;
use crate::http::local_reply::LocalReply;
use crate::http::sanitize::names;
use crate::http::service::{self, Answer, Routed};
use crate::http::stream::Stream;
use crate::io::Body;
use crate::telemetry::response_flags::ResponseFlags;

/// Forwards a request that may need more than one attempt, or that goes elsewhere too.
///
/// # Errors
/// The proxy's own answer where no attempt has one.
pub async fn forward(
    stream: &mut Stream,
    plan: Plan<'_>,
    mut recovery: Box<Recovery<'_>>,
    parts: &mut Parts,
    body: Body,
    mut redirects: Redirects,
) -> Result<Answer, LocalReply> {
    let mut body = Source::new(body, &recovery, &plan);
    for shadow in &recovery.shadows {
        shadow::send(stream, &plan, shadow, parts, body.follower());
    }
    let (idle, caller_retries) = (recovery.per_try.idle, recovery.caller_retries);
    let redirect = recovery.redirect;
    let (outcome, has_given_up) = {
        let mut attempts = Attempts::new(stream, &plan, &mut recovery, parts, &mut body);
        let waited = plan.timeouts.wait(stream, &plan.cluster, pin!(attempts.run())).await;
        if let Err(expired) = &waited
            && expired.flags.intersects(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT)
        {
            attempts.time_out_all();
        }
        (waited.unwrap_or_else(Err), attempts.has_given_up)
    };
    let pushback = HeaderValue::from_static("true");
    let pushes_back = has_given_up && caller_retries;
    let won = match outcome {
        Ok(won) => won,
        Err(reply) if pushes_back => {
            return Err(reply.header(names::X_PILLION_RETRY_PUSHBACK.clone(), pushback));
        }
        Err(reply) => return Err(reply),
    };
    if let Some(policy) = redirect
        && let Some(routed) = follow(stream, (&plan, policy), &mut redirects, parts, &body, &won)
    {
        let status = won.answered.response.status();
        let body = if status == StatusCode::SEE_OTHER { Body::Empty } else { body.next() };
        leave(stream, &plan, won, parts);
        return service::act_again(stream, parts, routed, body, redirects).await;
    }
    body.stop_keeping();
    stream.shared.info.borrow_mut().upstream = won.facts;
    let mut answer = answer::answer(stream, plan, &won.picked, won.answered);
    answer.limits.idle = answer.limits.idle.into_iter().chain(idle).min();
    if pushes_back {
        answer.head.headers.insert(&names::X_PILLION_RETRY_PUSHBACK, pushback);
    } else if !caller_retries {
        answer.head.headers.remove(&names::X_PILLION_RETRY_PUSHBACK);
    }
    Ok(answer)
}

/// Follows a response that redirects, if it does and the request may be sent elsewhere: its body must be here as a whole.
fn follow(
    stream: &mut Stream,
    (plan, policy): (&Plan<'_>, &InternalRedirect),
    redirects: &mut Redirects,
    parts: &mut Parts,
    body: &Source,
    won: &Won,
) -> Option<Routed> {
    let response = &won.answered.response;
    if !redirect::is_redirect(policy, response.status()) || plan.upgrade.is_some() {
        return None;
    }
    let is_whole = body.is_kept() && stream.shared.request_completed_at().is_some();
    let answer = (response.status(), response.headers());
    let followed = match is_whole {
        true => redirect::follow(stream, (policy, plan.route), redirects, parts, answer),
        false => None,
    };
    let stats = plan.cluster.stats();
    match followed {
        Some(_) => stats.upstream_internal_redirect_succeeded_total.inc(),
        None => stats.upstream_internal_redirect_failed_total.inc(),
    }
    followed
}

/// Leaves a response that was followed, and tells of it as of one that went downstream.
fn leave(stream: &mut Stream, plan: &Plan<'_>, won: Won, parts: &Parts) {
    let Won { answered, picked, facts } = won;
    let (status, headers) = (answered.response.status(), answered.response.headers());
    outcome::answered(picked.owner(&plan.cluster), &picked.host, stream.grpc, status, headers);
    if http_body::Body::is_end_stream(answered.response.body()) {
        answered.lease.finish();
    }
    stream.shared.info.borrow_mut().upstream = facts;
    stream.start_again(status.as_u16(), parts);
}
