//! The terminal filter (`envoy.filters.http.router`): sends a request to a host of the route's cluster.

use std::pin::pin;
use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;

use crate::config::route::{RouteAction, WeightedCluster};
use crate::http::local_reply::LocalReply;
use crate::http::manager::Route;
use crate::http::present::Present;
use crate::http::service::Answer;
use crate::http::stream::Stream;
use crate::http::upgrade::{self, Upgrade};
use crate::io::{Body, Incoming};
use crate::telemetry::response_flags::ResponseFlags;
use crate::upstream::cluster::Cluster;

mod affinity;
mod answer;
pub mod attempt;
mod attempts;
mod avoid;
mod back_off;
mod body_source;
pub mod cluster;
mod connect;
mod failure;
mod host;
mod outcome;
mod per_try;
mod recovery;
pub mod redirect;
mod replay;
mod retry;
mod retry_state;
mod rewrite;
mod running;
pub mod runtime;
mod shadow;
pub mod timeouts;

use affinity::Affinity;
use attempt::Answered;
use failure::{Failed, reply_to};
use recovery::Recovery;
use redirect::Redirects;
use timeouts::Timeouts;

/// How a request goes on: everything that is decided before a host is picked.
pub struct Plan<'a> {
    route: &'a Arc<Route>,
    action: &'a RouteAction,
    cluster: Arc<Cluster>,
    /// The entry of `weighted_clusters` that was chosen.
    weighted: Option<&'a WeightedCluster>,
    upgrade: Option<Upgrade>,
    timeouts: Timeouts,
    /// What the host is picked by, if anything but the cluster's policy.
    affinity: Option<Box<Affinity>>,
    /// What goes beyond one attempt, if anything does.
    recovery: Option<Box<Recovery<'a>>>,
}

/// Chooses the cluster and brings the request's head into the form in which it goes upstream.
///
/// # Errors
/// The proxy's own answer where the request cannot go on.
pub fn plan<'a>(
    stream: &Stream,
    route: &'a Arc<Route>,
    action: &'a RouteAction,
    parts: &mut Parts,
    present: Present,
    random: u64,
) -> Result<Plan<'a>, LocalReply> {
    let (cluster, weighted) = cluster::choose_cluster(stream, route, action, parts, random)?;
    let upgrade = upgrade::take(parts, present, stream, action)?;
    let recovery = Recovery::new(stream, (route, action), &cluster, parts, present, random);
    let mut timeouts = Timeouts::new(action, &mut parts.headers, present, stream);
    let recovery = timeouts.settle(recovery);
    let affinity = None;
    let mut plan = Plan { route, action, cluster, weighted, upgrade, timeouts, affinity, recovery };
    rewrite::rewrite(stream, &plan, parts, present);
    plan.affinity = Affinity::new(stream, action, weighted, &plan.cluster, parts);
    Ok(plan)
}

/// Forwards the request and waits for the response's head.
///
/// # Errors
/// The proxy's own answer where no host answers.
pub async fn forward(
    stream: &mut Stream,
    mut plan: Plan<'_>,
    parts: &mut Parts,
    body: Incoming,
) -> Result<Answer, LocalReply> {
    if plan.upgrade.as_ref().is_some_and(Upgrade::terminates) {
        return Box::pin(connect::terminate(stream, plan, &parts.headers)).await;
    }
    if let Some(recovery) = plan.recovery.take() {
        // In a box, so that plain requests do not carry the room for it.
        let body = attempt::request_body(stream, parts, body);
        let redirects = Redirects::default();
        return Box::pin(retry::forward(stream, plan, recovery, parts, body, redirects)).await;
    }
    let cluster = &plan.cluster;
    let picked = host::pick(stream, &plan, &parts.headers)?;
    let (owner, host) = (picked.owner(cluster), &picked.host);
    let body = attempt::request_body(stream, parts, body);
    let outcome = {
        let attempt = pin!(attempt::attempt(stream, &plan, &picked, parts, body));
        plan.timeouts.wait(stream, cluster, attempt).await
    };
    match outcome {
        Ok(Ok(answered)) if is_unsolicited_switch(&answered, &plan) => {
            let failed = Failed::protocol_error();
            outcome::failed(owner, host, failed.reason());
            Err(charged(stream, cluster, reply_to(failed, stream, false)))
        }
        Ok(Ok(answered)) => Ok(answer::answer(stream, plan, &picked, answered)),
        Ok(Err(failed)) => {
            outcome::failed(owner, host, failed.reason());
            Err(charged(stream, cluster, reply_to(failed, stream, false)))
        }
        Err(expired) => {
            if expired.flags.intersects(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT) {
                outcome::timed_out(owner, host);
            }
            Err(expired)
        }
    }
}

/// Forwards a request that an internal redirect has made of another one, whose body comes along.
///
/// # Errors
/// The proxy's own answer where no host answers.
pub async fn forward_again(
    stream: &mut Stream,
    mut plan: Plan<'_>,
    parts: &mut Parts,
    body: Body,
    redirects: Redirects,
) -> Result<Answer, LocalReply> {
    let recovery = plan.recovery.take().unwrap_or_default();
    retry::forward(stream, plan, recovery, parts, body, redirects).await
}

/// Whether the host leaves HTTP although nobody asked it to.
fn is_unsolicited_switch(answered: &Answered, plan: &Plan<'_>) -> bool {
    answered.response.status() == StatusCode::SWITCHING_PROTOCOLS && plan.upgrade.is_none()
}

/// Counts an answer of the proxy's own as one of the cluster.
fn charged(stream: &Stream, cluster: &Cluster, reply: LocalReply) -> LocalReply {
    cluster.traffic().charge(reply.status.as_u16(), stream.internal);
    reply
}
