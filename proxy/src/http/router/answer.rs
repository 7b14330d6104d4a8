//! A host's answer on its way downstream.

use http::{HeaderValue, Version};

use super::attempt::Answered;
use super::{Plan, outcome};
use crate::http::body::Source;
use crate::http::number;
use crate::http::sanitize::names;
use crate::http::service::Answer;
use crate::http::stream::Stream;
use crate::http::upgrade::{Tunnel, UpstreamSide};
use crate::telemetry::stream_info::Protocol;
use crate::upstream::cluster::Picked;

/// Counts the response and brings its head into the form that goes downstream.
pub fn answer(stream: &mut Stream, plan: Plan<'_>, picked: &Picked, answered: Answered) -> Answer {
    let Answered { mut response, lease } = answered;
    let upstream = hyper::upgrade::on(&mut response);
    let (mut head, body) = response.into_parts();
    // What the host spoke is no matter of the downstream.
    head.version = Version::HTTP_11;
    let (elapsed, protocol) = {
        let mut info = stream.shared.info.borrow_mut();
        let elapsed = info.elapsed();
        info.upstream.first_rx = Some(elapsed);
        info.details = Some("via_upstream".into());
        info.response_code = head.status.as_u16();
        (elapsed - info.upstream.first_tx.unwrap_or_default(), info.upstream.protocol)
    };
    let millis = elapsed.as_millis() as u64;
    plan.cluster.traffic().charge(head.status.as_u16(), stream.internal);
    plan.cluster.stats().upstream_rq_time.record(millis);
    let owner = picked.owner(&plan.cluster);
    outcome::answered(owner, &picked.host, stream.grpc, head.status, &head.headers);
    owner.note_response(&picked.host, &head.headers, elapsed);
    if let Some(affinity) = &plan.affinity {
        affinity.set_cookie(&mut head.headers);
    }
    if plan.route.virtual_host.include_attempt_count_in_response {
        let attempts = stream.shared.info.borrow().upstream.attempts;
        head.headers.insert(&names::X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(attempts));
    }
    // How long the host took is known only if it had the whole request.
    let timed = plan.upgrade.is_none() && stream.shared.request_completed_at().is_some();
    if timed && !stream.connection.manager.config.router.suppress_envoy_headers {
        head.headers.insert(&names::X_ENVOY_UPSTREAM_SERVICE_TIME, number::value(millis));
    }
    stream.with_format(|context| {
        plan.route.mutate_response(plan.weighted, &mut head.headers, context);
    });
    let limits = plan.timeouts.for_response(stream);
    match plan.upgrade {
        Some(upgrade) if upgrade.is_accepted(head.status) => {
            let upstream = match body.into_tunnel() {
                Some(stream) => UpstreamSide::Http2(stream, lease),
                None => UpstreamSide::Upgraded(upstream, lease),
            };
            let tunnel = Some(Box::new(Tunnel::new(upgrade, upstream, limits)));
            let source = Source::Local(bytes::Bytes::new());
            return Answer { head, source, limits, tunnel };
        }
        // The host may have taken what followed the request for something else than the proxy did.
        Some(_) => lease.retire(),
        None => {}
    }
    let trailers = protocol == Some(Protocol::Http2) || owner.config().http1_trailers;
    let source = Source::Upstream { body, lease: Some(lease), trailers };
    Answer { head, source, limits, tunnel: None }
}
