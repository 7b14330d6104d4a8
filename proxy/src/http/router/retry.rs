//! Requests that may need more than one attempt, or that go elsewhere too.

use std::pin::pin;

use http::HeaderValue;
use http::request::Parts;
use hyper::body::Incoming;

use super::attempts::{Attempts, Won};
use super::body_source::Source;
use super::recovery::Recovery;
use super::{Plan, answer, attempt, shadow};
use crate::http::local_reply::LocalReply;
use crate::http::sanitize::names;
use crate::http::service::Answer;
use crate::http::stream::Stream;
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
    body: Incoming,
) -> Result<Answer, LocalReply> {
    let body = attempt::request_body(stream, parts, body);
    let body = Source::new(body, &recovery, &plan);
    for shadow in &recovery.shadows {
        shadow::send(stream, &plan, shadow, parts, body.follower());
    }
    let idle = recovery.per_try.idle;
    let caller_retries = recovery.caller_retries;
    let (outcome, pushes_back) = {
        let mut attempts = Attempts::new(stream, &plan, &mut recovery, parts, body);
        let waited = plan.timeouts.wait(stream, &plan.cluster, pin!(attempts.run())).await;
        if let Err(expired) = &waited
            && expired.flags.intersects(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT)
        {
            attempts.time_out_all();
        }
        let outcome = waited.unwrap_or_else(Err);
        attempts.body.stop_keeping();
        (outcome, attempts.has_given_up && caller_retries)
    };
    let pushback = HeaderValue::from_static("true");
    match outcome {
        Ok(Won { answered, picked, facts }) => {
            stream.shared.info.borrow_mut().upstream = facts;
            let mut answer = answer::answer(stream, plan, &picked, answered);
            answer.limits.idle = answer.limits.idle.into_iter().chain(idle).min();
            if pushes_back {
                answer.head.headers.insert(&names::X_PILLION_RETRY_PUSHBACK, pushback);
            } else if !caller_retries {
                answer.head.headers.remove(&names::X_PILLION_RETRY_PUSHBACK);
            }
            Ok(answer)
        }
        Err(reply) if pushes_back => {
            Err(reply.header(names::X_PILLION_RETRY_PUSHBACK.clone(), pushback))
        }
        Err(reply) => Err(reply),
    }
}
