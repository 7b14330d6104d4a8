//! The host of an attempt.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Plan, charged};
use crate::http::local_reply::LocalReply;
use crate::http::stream::Stream;
use crate::telemetry::response_flags::ResponseFlags;
use crate::upstream::balance::{Avoid, PickContext, Wanted};
use crate::upstream::cluster::{Cluster, PickError, Picked};

/// Picks a host of the plan's cluster.
///
/// # Errors
/// The answer that says why there is none.
pub fn pick(stream: &Stream, plan: &Plan<'_>, headers: &HeaderMap) -> Result<Picked, LocalReply> {
    pick_beside(stream, plan, headers, None, &[])
}

/// Picks a host that is none of those to avoid, and not of these priorities, as far as there is such a host.
///
/// # Errors
/// The answer that says why there is none.
pub fn pick_beside(
    stream: &Stream,
    plan: &Plan<'_>,
    headers: &HeaderMap,
    avoid: Option<Avoid<'_>>,
    avoid_priorities: &[u32],
) -> Result<Picked, LocalReply> {
    let cluster = &plan.cluster;
    let affinity = plan.affinity.as_ref();
    let is_first = stream.shared.info.borrow().upstream.attempts == 0;
    let wanted = stream.wanted.as_deref().filter(|_| is_first);
    let context = PickContext {
        original_dst: original_dst(stream, cluster, headers),
        wanted: wanted.map(|w| Wanted { address: &w.address, strict: w.strict.is_some() }),
        avoid,
        avoid_priorities,
        ..affinity.map(|affinity| affinity.context()).unwrap_or_default()
    };
    let picked = cluster.pick(&context);
    let picked = picked.map_err(|error| {
        let mut reply = not_picked(error);
        if let (PickError::NoHealthyUpstream, Some(status)) =
            (error, wanted.and_then(|wanted| wanted.strict))
        {
            reply.status = status;
        }
        charged(stream, cluster, reply)
    })?;
    let mut info = stream.shared.info.borrow_mut();
    info.upstream.host = Some(picked.host.address().clone());
    info.upstream.hostname = picked.host.hostname().cloned();
    Ok(picked)
}

/// Where the request wants to go, which only `ORIGINAL_DST` clusters look at: what their header says, else where the
/// connection went before it was redirected.
fn original_dst(stream: &Stream, cluster: &Cluster, headers: &HeaderMap) -> Option<SocketAddr> {
    if let Some(value) = cluster.original_dst_header().and_then(|name| headers.get(name)) {
        let address = value.to_str().ok().and_then(|value| value.parse().ok());
        if address.is_some() {
            return address;
        }
        cluster.stats().original_dst_host_invalid.inc();
    }
    stream.connection.info.original_dst()
}

/// The answer when no host could be picked.
fn not_picked(error: PickError) -> LocalReply {
    let drop = |details: &'static str, flag| {
        let header = http::HeaderName::from_static(match error {
            PickError::UnconditionalDropOverload => "x-envoy-unconditional-drop-overload",
            _ => "x-envoy-drop-overload",
        });
        LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, details, details.replace('_', " "))
            .flag(flag)
            .header(header, HeaderValue::from_static("true"))
    };
    match error {
        PickError::NoHealthyUpstream => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            LocalReply::new(status, "no_healthy_upstream", "no healthy upstream")
                .flag(ResponseFlags::NO_HEALTHY_UPSTREAM)
        }
        PickError::DropOverload => drop("drop_overload", ResponseFlags::DROP_OVERLOAD),
        PickError::UnconditionalDropOverload => {
            drop("unconditional_drop_overload", ResponseFlags::UNCONDITIONAL_DROP_OVERLOAD)
        }
    }
}
