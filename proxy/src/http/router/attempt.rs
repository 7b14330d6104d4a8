//! One attempt at one host.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use http_body::Body as _;

use super::Plan;
use super::failure::Failed;
use super::rewrite::set_host;
use crate::config::route::HostRewrite;
use crate::http::body::RequestBody;
use crate::http::sanitize::names;
use crate::http::stream::{Shared, Stream};
use crate::io::{Body, Incoming};
use crate::telemetry::stream_info::{Metadata, Protocol};
use crate::upstream::cluster::{Cluster, Outcome, Picked};
use crate::upstream::pool::{AlpnOverrides, HttpLease, RequestNames, ResponseLease};

/// The request's body as it streams from the downstream.
pub fn request_body(stream: &Stream, parts: &Parts, body: Incoming) -> Body {
    if body.is_end_stream() {
        return Body::Empty;
    }
    let trailers =
        parts.version >= Version::HTTP_2 || stream.connection.manager.config.http1_trailers;
    Body::stream(RequestBody::new(body, Rc::clone(&stream.shared), trailers))
}

/// A response's head with the lease on the connection that its body comes over.
pub struct Answered {
    /// The head, and the body still to come.
    pub response: http::Response<Incoming>,
    /// Given back when the body has ended.
    pub lease: ResponseLease,
}

/// One attempt at one host: a connection, the request, the response's head.
pub fn attempt<'a>(
    stream: &Stream,
    plan: &'a Plan<'_>,
    picked: &'a Picked,
    parts: &'a mut Parts,
    body: Body,
) -> impl Future<Output = Result<Answered, Failed>> + 'a {
    let worker = Rc::clone(&stream.connection.worker);
    let shared = Rc::clone(&stream.shared);
    let downstream = stream.connection.protocol;
    let scheme = stream.scheme;
    let priority = usize::from(plan.action.high_priority);
    let source = stream.connection.info.source;
    let alpn = stream.alpn.clone();
    let replay = stream.connection.manager.router_runtime.replay;
    async move {
        shared.info.borrow_mut().upstream.attempts += 1;
        let (cluster, host) = (picked.owner(&plan.cluster), &picked.host);
        let names = request_names(alpn.as_deref(), downstream, cluster, &parts.headers);
        let pools = &worker.pools;
        let mut lease = pools.http(cluster, host, downstream, priority, source, names).await?;
        cluster.report(host, Outcome::Connected);
        let protocol = lease.protocol();
        let request = depart(&shared, plan, picked, parts, body, &lease, scheme);
        if replay && may_be_sent_twice(plan, &request) {
            lease.allow_replay();
        }
        let (response, lease) = lease.send(request).await?;
        Ok(arrive(plan, protocol, response, lease))
    }
}

/// Whether a cluster wants no protocols of Istio's: its servers are not of the mesh.
fn opts_out(metadata: Option<&Metadata>) -> bool {
    let wish = metadata.and_then(|metadata| metadata.get("istio")?.get("alpn_override"));
    wish.is_some_and(|wish| wish == "false")
}

/// What a connection for a request with these headers takes from it, and from a filter that has seen it.
pub fn request_names(
    alpn: Option<&AlpnOverrides>,
    downstream: Protocol,
    cluster: &Cluster,
    headers: &HeaderMap,
) -> Option<Arc<RequestNames>> {
    let config = cluster.config();
    let alpn = alpn.filter(|_| !opts_out(config.metadata.as_deref()));
    let alpn = alpn.and_then(|alpn| alpn.get(config.protocol, downstream));
    match (config.auto_names.as_deref(), alpn) {
        (None, alpn) => alpn.cloned(),
        (Some(auto), alpn) => {
            let mut names = RequestNames::of(auto, headers);
            if let Some(alpn) = alpn {
                names.alpn = Arc::clone(&alpn.alpn);
            }
            Some(Arc::new(names))
        }
    }
}

/// The request as it goes over this connection, and what the stream's facts tell of it.
pub fn depart(
    shared: &Shared,
    plan: &Plan<'_>,
    picked: &Picked,
    parts: &mut Parts,
    body: Body,
    lease: &HttpLease,
    scheme: &'static str,
) -> Request<Body> {
    if plan.route.virtual_host.include_attempt_count {
        let attempts = shared.info.borrow().upstream.attempts;
        parts.headers.insert(&names::X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(attempts));
    }
    if let (HostRewrite::Auto, Some(name)) = (&plan.action.host_rewrite, picked.host.hostname())
        && let Ok(name) = HeaderValue::from_str(name)
    {
        set_host(parts, name, plan.action.append_x_forwarded_host, false);
    }
    let mut request = upstream_request(parts, body, lease.protocol(), scheme);
    if let Some(upgrade) = &plan.upgrade {
        upgrade.shape_request(&mut request, lease.protocol());
    }
    let mut info = shared.info.borrow_mut();
    info.upstream.protocol = Some(lease.protocol());
    info.upstream.local = lease.local_address().cloned();
    info.upstream.tls = lease.tls().cloned();
    info.upstream.connection_id = Some(lease.connection_id());
    let elapsed = info.elapsed();
    info.upstream.pool_ready = Some(elapsed);
    info.upstream.first_tx = Some(elapsed);
    if matches!(request.body(), Body::Empty) {
        info.upstream.last_tx = Some(elapsed);
    }
    request
}

/// Whether a host that gets the request twice is as if it got it once (RFC 9110 §9.2.2), and nothing but the head is
/// needed for that.
pub fn may_be_sent_twice(plan: &Plan<'_>, request: &Request<Body>) -> bool {
    let idempotent =
        [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE];
    matches!(request.body(), Body::Empty)
        && plan.upgrade.is_none()
        && idempotent.contains(request.method())
}

/// The response as the rest of the proxy wants it, whatever protocol it came by.
pub fn arrive(
    plan: &Plan<'_>,
    protocol: Protocol,
    mut response: http::Response<Incoming>,
    lease: ResponseLease,
) -> Answered {
    if let Some(upgrade) = &plan.upgrade {
        upgrade.shape_response(&mut response, protocol);
    }
    Answered { response, lease }
}

/// The request in the form that the upstream's protocol wants.
pub fn upstream_request(
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
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        let known = uri.authority.take().filter(|known| Some(known.as_str()) == host_text(&host));
        uri.authority = known.or_else(|| Authority::try_from(host?.as_bytes()).ok());
        uri.scheme = Some(match scheme {
            "https" => Scheme::HTTPS,
            _ => Scheme::HTTP,
        });
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        return request;
    }
    if request.method() != Method::CONNECT && request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
    }
    if matches!(request.body(), Body::Empty) && may_have_body(request.method()) {
        // Says that there is none (RFC 9110 §8.6).
        let headers = request.headers_mut();
        headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    request
}

fn host_text(host: &Option<HeaderValue>) -> Option<&str> {
    host.as_ref()?.to_str().ok()
}

/// Whether a request of this method is expected to have a body.
fn may_have_body(method: &Method) -> bool {
    let bodiless = [Method::GET, Method::HEAD, Method::DELETE, Method::TRACE, Method::CONNECT];
    !bodiless.contains(method)
}
