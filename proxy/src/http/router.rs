//! The terminal filter (`envoy.filters.http.router`): sends a request to a host of the route's cluster.

use std::borrow::Cow;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};
use hyper::body::Incoming;

use crate::config::route::{HostRewrite, RouteAction, WeightedCluster};
use crate::http::body::{RequestBody, Source};
use crate::http::local_reply::LocalReply;
use crate::http::manager::{Route, Slot};
use crate::http::number;
use crate::http::present::Present;
use crate::http::request;
use crate::http::sanitize::{append_to_list, names};
use crate::http::service::Answer;
use crate::http::stream::Stream;
use crate::http::upgrade::{self, Tunnel, Upgrade};
use crate::io::Body;
use crate::route::RouteRequest;
use crate::route::action::{ClusterTarget, rewrite_host, rewrite_path};
use crate::telemetry::response_flags::ResponseFlags;
use crate::telemetry::stream_info::Protocol;
use crate::upstream::balance::PickContext;
use crate::upstream::cluster::{Cluster, Host, PickError};
use crate::upstream::pool::ResponseLease;

mod failure;
pub mod timeouts;

use failure::{Failed, reply_to};
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
    let (cluster, weighted) = choose_cluster(stream, route, action, parts, random)?;
    let upgrade = upgrade::take(parts, present, stream, action)?;
    let timeouts = Timeouts::new(action, &mut parts.headers, present, stream);
    let plan = Plan { route, action, cluster, weighted, upgrade, timeouts };
    rewrite(stream, &plan, parts, present);
    Ok(plan)
}

/// Forwards the request and waits for the response's head.
///
/// # Errors
/// The proxy's own answer where no host answers.
pub async fn forward(
    stream: &mut Stream,
    plan: Plan<'_>,
    parts: &mut Parts,
    body: Incoming,
) -> Result<Answer, LocalReply> {
    let cluster = &plan.cluster;
    let host = pick(stream, cluster)?;
    let body = request_body(stream, parts, body);
    let outcome = {
        let attempt = pin!(attempt(stream, &plan, &host, parts, body));
        plan.timeouts.wait(stream, cluster, attempt).await
    };
    match outcome {
        Ok(Ok(answered)) if is_unsolicited_switch(&answered, &plan) => {
            host.stats.rq_error.inc();
            Err(charged(stream, cluster, reply_to(Failed::protocol_error(), stream)))
        }
        Ok(Ok(answered)) => Ok(answer(stream, plan, &host, answered)),
        Ok(Err(failed)) => {
            host.stats.rq_error.inc();
            Err(charged(stream, cluster, reply_to(failed, stream)))
        }
        Err(expired) => Err(expired),
    }
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

/// The cluster of the request, or why there is none.
fn choose_cluster<'a>(
    stream: &Stream,
    route: &'a Route,
    action: &RouteAction,
    parts: &Parts,
    random: u64,
) -> Result<(Arc<Cluster>, Option<&'a WeightedCluster>), LocalReply> {
    let (cluster, weighted) = match route.only_cluster() {
        Some(slot) => (slot.get(), None),
        None => choose_by_request(stream, route, parts, random),
    };
    match cluster {
        Some(cluster) => {
            let mut info = stream.shared.info.borrow_mut();
            info.upstream.cluster = Some(Arc::clone(cluster.name()));
            Ok((cluster, weighted))
        }
        None => {
            stream.connection.manager.stats.no_cluster.inc();
            let status = action.cluster_not_found;
            let reply = LocalReply::new(status, "cluster_not_found", "");
            Err(reply.flag(ResponseFlags::NO_CLUSTER_FOUND))
        }
    }
}

/// The cluster where it depends on the request: on a weighted choice or on a header.
fn choose_by_request<'a>(
    stream: &Stream,
    route: &'a Route,
    parts: &Parts,
    random: u64,
) -> (Option<Arc<Cluster>>, Option<&'a WeightedCluster>) {
    let wanted = RouteRequest {
        method: &parts.method,
        scheme: stream.scheme,
        authority: request::authority(&parts.headers),
        path: request::path(&parts.uri),
        headers: &parts.headers,
        random,
    };
    let choice = route.choose_cluster(&wanted);
    let cluster = match choice.target {
        ClusterTarget::Known(slot) => Slot::get(slot),
        ClusterTarget::Named(name) => stream.connection.worker.registry.get(name),
        ClusterTarget::Missing => None,
    };
    (cluster, choice.weighted)
}

/// Changes the request's headers, host and path on their way upstream.
fn rewrite(stream: &Stream, plan: &Plan<'_>, parts: &mut Parts, present: Present) {
    if present.has(Present::X_ENVOY) {
        parts.headers.remove(&names::X_ENVOY_UPSTREAM_ALT_STAT_NAME);
    }
    let Plan { route, action, weighted, timeouts, .. } = plan;
    let suppress = stream.connection.manager.config.router.suppress_envoy_headers;
    if let (Some(expected), false) = (timeouts.expected(), suppress) {
        parts.headers.insert(&names::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, number::value(expected));
    }
    stream.with_format(|context| {
        route.mutate_request(*weighted, &mut parts.headers, context);
    });
    let path = request::path(&parts.uri);
    let host = rewrite_host(action, *weighted, &parts.headers, path);
    let host = host.and_then(|host: Cow<'_, str>| HeaderValue::from_str(&host).ok());
    if let Some(new) = rewrite_path(&action.path_rewrite, &route.config.matches, path) {
        let original = HeaderValue::from_str(path).ok();
        if let Ok(uri) = Uri::try_from(new) {
            if let (Some(original), false) = (original, suppress) {
                parts.headers.insert(&names::X_ENVOY_ORIGINAL_PATH, original);
            }
            parts.uri = uri;
        }
    }
    match (host, &action.host_rewrite) {
        // A weighted cluster's host is no rewrite that anybody is told of.
        (Some(host), HostRewrite::None | HostRewrite::Auto) => {
            parts.headers.insert(HOST, host);
        }
        (Some(host), _) => set_host(parts, host, action.append_x_forwarded_host, suppress),
        (None, _) => {}
    }
}

/// Puts a new host in, and says what the old one was.
fn set_host(parts: &mut Parts, host: HeaderValue, append: bool, suppress: bool) {
    let Some(original) = parts.headers.insert(HOST, host) else { return };
    if !suppress {
        parts.headers.insert(&names::X_ENVOY_ORIGINAL_HOST, original.clone());
    }
    if append {
        append_to_list(&mut parts.headers, &names::X_FORWARDED_HOST, &original, ",");
    }
}

fn pick(stream: &Stream, cluster: &Arc<Cluster>) -> Result<Arc<Host>, LocalReply> {
    let connection = &stream.connection;
    let context =
        PickContext { original_dst: connection.info.local.ip(), ..PickContext::default() };
    let host = cluster.pick(&context);
    let host = host.map_err(|error| charged(stream, cluster, not_picked(error)))?;
    let mut info = stream.shared.info.borrow_mut();
    info.upstream.host = Some(host.address().clone());
    info.upstream.hostname = host.hostname().cloned();
    Ok(host)
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

fn request_body(stream: &Stream, parts: &Parts, body: Incoming) -> Body {
    if stream.shared.request_completed_at().is_some() {
        return Body::Empty;
    }
    let trailers =
        parts.version >= Version::HTTP_2 || stream.connection.manager.config.http1_trailers;
    Body::stream(RequestBody::new(body, Rc::clone(&stream.shared), trailers))
}

/// A response's head with the lease on the connection that its body comes over.
struct Answered {
    response: http::Response<Incoming>,
    lease: ResponseLease,
}

/// One attempt at one host: a connection, the request, the response's head.
fn attempt<'a>(
    stream: &Stream,
    plan: &'a Plan<'_>,
    host: &'a Arc<Host>,
    parts: &'a mut Parts,
    body: Body,
) -> impl Future<Output = Result<Answered, Failed>> + 'a {
    let worker = Rc::clone(&stream.connection.worker);
    let shared = Rc::clone(&stream.shared);
    let downstream = stream.connection.protocol;
    let scheme = stream.scheme;
    let priority = usize::from(plan.action.high_priority);
    async move {
        shared.info.borrow_mut().upstream.attempts += 1;
        let lease = worker.pools.http(&plan.cluster, host, downstream, priority).await?;
        if plan.upgrade.is_some() && lease.protocol() == Protocol::Http2 {
            // It would have to be an extended CONNECT, which hosts need not know.
            return Err(Failed::protocol_error());
        }
        if plan.route.virtual_host.include_attempt_count {
            let attempts = shared.info.borrow().upstream.attempts;
            parts.headers.insert(&names::X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(attempts));
        }
        if let (HostRewrite::Auto, Some(name)) = (&plan.action.host_rewrite, host.hostname())
            && let Ok(name) = HeaderValue::from_str(name)
        {
            set_host(parts, name, plan.action.append_x_forwarded_host, false);
        }
        let request = upstream_request(parts, body, lease.protocol(), scheme);
        {
            let mut info = shared.info.borrow_mut();
            info.upstream.protocol = Some(lease.protocol());
            info.upstream.local = lease.local_address().cloned();
            info.upstream.connection_id = Some(lease.connection_id());
            let elapsed = info.elapsed();
            info.upstream.pool_ready = Some(elapsed);
            info.upstream.first_tx = Some(elapsed);
            if matches!(request.body(), Body::Empty) {
                info.upstream.last_tx = Some(elapsed);
            }
        }
        let (response, lease) = lease.send(request).await?;
        Ok(Answered { response, lease })
    }
}

/// The request in the form that the upstream's protocol wants.
fn upstream_request(
    parts: &mut Parts,
    body: Body,
    protocol: Protocol,
    scheme: &'static str,
) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = std::mem::take(&mut parts.method);
    *request.headers_mut() = std::mem::take(&mut parts.headers);
    *request.uri_mut() = std::mem::take(&mut parts.uri);
    if protocol == Protocol::Http2 {
        let host = request.headers_mut().remove(HOST);
        let authority = host.and_then(|host| http::uri::Authority::try_from(host.as_bytes()).ok());
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.authority = authority;
        uri.scheme = Some(match scheme {
            "https" => http::uri::Scheme::HTTPS,
            _ => http::uri::Scheme::HTTP,
        });
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
    } else if matches!(request.body(), Body::Empty) && may_have_body(request.method()) {
        // Says that there is none (RFC 9110 §8.6).
        let headers = request.headers_mut();
        headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    request
}

/// Whether a request of this method is expected to have a body.
fn may_have_body(method: &Method) -> bool {
    let bodiless = [Method::GET, Method::HEAD, Method::DELETE, Method::TRACE, Method::CONNECT];
    !bodiless.contains(method)
}

/// Counts the response and brings its head into the form that goes downstream.
fn answer(stream: &mut Stream, plan: Plan<'_>, host: &Host, answered: Answered) -> Answer {
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
    let failed = head.status.is_server_error();
    if failed {
        host.stats.rq_error.inc()
    } else {
        host.stats.rq_success.inc()
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
    let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
    stream.with_format(|context| {
        plan.route.mutate_response(plan.weighted, &mut head.headers, context);
    });
    let limits = plan.timeouts.for_response(stream);
    let refused_upgrade = plan.upgrade.is_some() && !switching;
    if let (true, Some(upgrade)) = (switching, plan.upgrade) {
        let tunnel = Tunnel::new(upgrade, upstream, lease, limits);
        let source = Source::Local(bytes::Bytes::new());
        return Answer { head, source, limits, tunnel: Some(tunnel) };
    }
    if refused_upgrade {
        // The host may have taken what followed the request for something else than the proxy did.
        lease.retire();
    }
    let trailers = protocol == Some(Protocol::Http2) || plan.cluster.config().http1_trailers;
    let source = Source::Upstream { body, lease: Some(lease), trailers };
    Answer { head, source, limits, tunnel: None }
}
