//! The path of one request through the connection manager: admit, sanitise, route, act, answer.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};

use crate::config::route::Action;
use crate::http::body::{ResponseBody, Source};
use crate::http::connection::Connection;
use crate::http::h1::Refusal;
use crate::http::local_reply::LocalReply;
use crate::http::manager::Route;
use crate::http::overdue::Limits;
use crate::http::present::Present;
use crate::http::router::redirect::Redirects;
use crate::http::router::{self, Plan};
use crate::http::sanitize::{asks_to_keep_alive, names};
use crate::http::stream::Stream;
use crate::http::upgrade::{self, Tunnel};
use crate::http::{filters, request, response, sanitize};
use crate::io::{Body, Incoming};
use crate::route::action::{redirect_location, tls_redirect_location};
use crate::route::request::{ClientCertificate, is_grpc};
use crate::route::{Found, RouteRequest};
use crate::telemetry::response_flags::ResponseFlags;
use crate::telemetry::stream_info::Protocol;

/// An answer on its way down: its head, where its body comes from, and the limits on it.
pub struct Answer {
    /// The head.
    pub head: http::response::Parts,
    /// The body.
    pub source: Source,
    /// Limits on the body.
    pub limits: Limits,
    /// What becomes of the connection when the answer is `101 Switching Protocols`.
    pub tunnel: Option<Box<Tunnel>>,
}

/// Serves one request of HTTP/1: what goes wrong is an answer, or breaks off the response's body. Boxed, so that a connection
/// that waits does not hold the room for it.
pub fn serve(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Pin<Box<impl Future<Output = Response<ResponseBody>>>> {
    let (mut parts, body) = request.into_parts();
    let mut stream = start(&connection, &parts, &body);
    Box::pin(async move {
        let answer = answer(&mut stream, &mut parts, body).await;
        respond(answer, stream)
    })
}

/// The stream of a request. It starts at once, so that a client that leaves before anybody asks for the answer is logged too.
pub fn start(connection: &Rc<Connection>, parts: &Parts, body: &Incoming) -> Stream {
    let stream = Stream::start(connection, protocol_of(parts.version));
    if http_body::Body::is_end_stream(body) {
        stream.shared.complete_without_body();
    }
    if parts.version < Version::HTTP_11 && !asks_to_keep_alive(&parts.headers) {
        connection.close_after_response();
    }
    stream
}

/// The answer to a request; [`finish`] completes its head.
pub async fn answer(stream: &mut Stream, parts: &mut Parts, body: Incoming) -> Answer {
    let head_only = parts.method == Method::HEAD;
    let answer = act(stream, parts, body).await;
    answer.unwrap_or_else(|reply| local_answer(reply, stream, head_only))
}

fn protocol_of(version: Version) -> Protocol {
    match version {
        Version::HTTP_2 => Protocol::Http2,
        Version::HTTP_11 => Protocol::Http11,
        _ => Protocol::Http10,
    }
}

/// Decides what becomes of the request and, if a host shall answer it, forwards it.
async fn act(
    stream: &mut Stream,
    parts: &mut Parts,
    mut body: Incoming,
) -> Result<Answer, LocalReply> {
    let connection = &stream.connection;
    if let Some(refusal) = connection.verdict.get().refusal {
        let reply = request::refused(refusal, connection);
        // In place of a head that is none there is nothing to tell of.
        if refusal == Refusal::FRAGMENT && connection.manager.keeps_heads {
            stream.keep_request(parts);
        }
        return Err(reply);
    }
    if connection.protocol == Protocol::Http2 {
        upgrade::from_http2(parts);
    }
    let mut present = Present::scan(&parts.headers);
    let random = fastrand::u64(..);
    let mut routed = prepare(parts, present, stream).map(|()| find_route(stream, parts, random));
    if let Ok(found) = &mut routed
        && !stream.connection.manager.filters.is_empty()
    {
        match filters::decode(stream, parts, found, random, Some(&mut body)).await {
            Ok(()) => present = Present::scan(&parts.headers),
            Err(reply) => routed = Err(reply),
        }
    }
    let routed = match routed {
        Ok(routed) => routed,
        Err(reply) => {
            keep_for_logs(stream, parts);
            return Err(reply);
        }
    };
    let plan = decide(stream, &routed, parts, present, random);
    // Only now do the headers stand as they go upstream, which is what access logs tell.
    keep_for_logs(stream, parts);
    router::forward(stream, plan?, parts, body).await
}

/// Takes a request again, from its route on, after an internal redirect.
///
/// # Errors
/// The proxy's own answer where no host answers.
pub fn act_again<'a>(
    stream: &'a mut Stream,
    parts: &'a mut Parts,
    mut routed: Routed,
    body: Body,
    redirects: Redirects,
) -> Pin<Box<dyn Future<Output = Result<Answer, LocalReply>> + 'a>> {
    Box::pin(async move {
        let random = fastrand::u64(..);
        if !stream.connection.manager.filters.is_empty()
            && let Err(reply) = filters::decode(stream, parts, &mut routed, random, None).await
        {
            keep_for_logs(stream, parts);
            return Err(reply);
        }
        let present = Present::scan(&parts.headers);
        let plan = decide(stream, &routed, parts, present, random);
        keep_for_logs(stream, parts);
        router::forward_again(stream, plan?, parts, body, redirects).await
    })
}

fn keep_for_logs(stream: &mut Stream, parts: &Parts) {
    if stream.connection.manager.keeps_heads {
        stream.keep_request(parts);
    }
}

/// Checks and cleans the request's head.
fn prepare(parts: &mut Parts, present: Present, stream: &mut Stream) -> Result<(), LocalReply> {
    let connection = Rc::clone(&stream.connection);
    stream.grpc = present.has(Present::CONTENT_TYPE) && is_grpc(&parts.headers);
    let admitted = request::admit(parts, present, &connection);
    if admitted.is_ok() {
        let upgrade = present.has(Present::UPGRADE) && upgrade::requested(parts).is_some();
        let client = sanitize::sanitize(&mut parts.headers, present, &connection, upgrade);
        stream.internal = client.internal;
        stream.scheme = client.scheme;
        if client.forwarded_for.is_some() {
            stream.shared.info.borrow_mut().forwarded_for = client.forwarded_for;
        }
    }
    if connection.manager.config.always_set_request_id_in_response {
        stream.request_id = parts.headers.get(&names::X_REQUEST_ID).cloned();
    }
    admitted
}

/// What the route table says to a request.
pub enum Routed {
    /// This route takes it.
    Route(Arc<Route>),
    /// The virtual host wants TLS.
    TlsRequired,
    /// No route takes it, for this reason (response code details).
    Nothing(&'static str),
}

impl Routed {
    /// The route, if there is one.
    pub fn route(&self) -> Option<&Arc<Route>> {
        match self {
            Routed::Route(route) => Some(route),
            _ => None,
        }
    }
}

/// Finds the route of an admitted request.
pub fn find_route(stream: &mut Stream, parts: &mut Parts, random: u64) -> Routed {
    let Some(table) = stream.connection.manager.routes.load_full() else {
        return Routed::Nothing("route_configuration_not_found");
    };
    let internal_only = &table.config().internal_only_headers;
    if !internal_only.is_empty() && !stream.internal {
        for name in internal_only {
            parts.headers.remove(name);
        }
    }
    let found = {
        let info = stream.shared.info.borrow();
        let wanted = route_request(parts, stream, random);
        match table.find(&RouteRequest { info: Some(&info), ..wanted }) {
            Found::Route(route) => Arc::clone(route),
            Found::TlsRequired => return Routed::TlsRequired,
            Found::Nothing => return Routed::Nothing("route_not_found"),
        }
    };
    note_route(stream, &found);
    Routed::Route(found)
}

/// What becomes of the request by its route: how it goes on, or the answer to it.
fn decide<'a>(
    stream: &mut Stream,
    routed: &'a Routed,
    parts: &mut Parts,
    present: Present,
    random: u64,
) -> Result<Plan<'a>, LocalReply> {
    stream.connection.manager.stats.rq_total.inc();
    match routed {
        Routed::Route(route) => take(stream, route, parts, present, random),
        Routed::TlsRequired => {
            let location = tls_redirect_location(&route_request(parts, stream, random));
            Err(redirect(StatusCode::MOVED_PERMANENTLY, &location))
        }
        Routed::Nothing(details) => Err(no_route(stream, details)),
    }
}

/// What the route says: how the request goes on, or the answer to it.
fn take<'a>(
    stream: &mut Stream,
    route: &'a Arc<Route>,
    parts: &mut Parts,
    present: Present,
    random: u64,
) -> Result<Plan<'a>, LocalReply> {
    if route.reads_heads {
        stream.keep_request(parts);
    }
    match &route.config.action {
        Action::Redirect(action) => {
            let wanted = route_request(parts, stream, random);
            let location = redirect_location(action, &route.config.matches, &wanted);
            let reply = redirect(action.code, &location);
            Err(with_route_headers(reply, route, stream))
        }
        Action::Direct(direct) => {
            stream.connection.manager.stats.rq_direct_response.inc();
            let mut reply = LocalReply::new(direct.status, "direct_response", direct.body.clone());
            if direct.status == StatusCode::CREATED || direct.status.is_redirection() {
                reply.headers.extend(own_location(&route_request(parts, stream, random)));
            }
            if !direct.body.is_empty() {
                // So that the route can replace it.
                reply.headers.push((CONTENT_TYPE, HeaderValue::from_static("text/plain")));
            }
            Err(with_route_headers(reply, route, stream))
        }
        Action::Forward(action) => router::plan(stream, route, action, parts, present, random),
    }
}

/// A request as routing sees it.
pub fn route_request<'a>(parts: &'a Parts, stream: &Stream, random: u64) -> RouteRequest<'a> {
    let tls = stream.connection.info.tls.as_ref();
    RouteRequest {
        method: &parts.method,
        authority: request::authority(&parts.headers),
        path: request::path(&parts.uri),
        scheme: stream.scheme,
        headers: &parts.headers,
        certificate: ClientCertificate {
            presented: tls.is_some_and(|tls| tls.peer.is_some()),
            validated: tls.is_some_and(|tls| tls.validated),
        },
        info: None,
        random,
    }
}

fn note_route(stream: &Stream, route: &Route) {
    let mut info = stream.shared.info.borrow_mut();
    if !route.config.name.is_empty() {
        info.route_name = Some(Arc::clone(&route.config.name));
    }
    info.virtual_host = Some(Arc::clone(&route.virtual_host.name));
}

fn no_route(stream: &Stream, details: &'static str) -> LocalReply {
    stream.connection.manager.stats.no_route.inc();
    LocalReply::new(StatusCode::NOT_FOUND, details, "").flag(ResponseFlags::NO_ROUTE_FOUND)
}

/// The `location` of a direct response that says where something is: where it was asked for.
fn own_location(wanted: &RouteRequest<'_>) -> Option<(HeaderName, HeaderValue)> {
    let location = format!("{}://{}{}", wanted.scheme, wanted.authority, wanted.path);
    Some((LOCATION, HeaderValue::from_str(&location).ok()?))
}

fn redirect(status: StatusCode, location: &str) -> LocalReply {
    let reply = LocalReply::new(status, "direct_response", "");
    match HeaderValue::from_str(location) {
        Ok(location) => reply.header(LOCATION, location),
        Err(_) => LocalReply::new(StatusCode::BAD_REQUEST, "direct_response", ""),
    }
}

/// Adds what the route's levels say about response headers to an answer of the proxy's own.
fn with_route_headers(mut reply: LocalReply, route: &Route, stream: &Stream) -> LocalReply {
    let mut headers = HeaderMap::from_iter(reply.headers.drain(..));
    stream.with_format(|context| route.mutate_response(None, &mut headers, context));
    reply.headers.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    reply
}

fn local_answer(reply: LocalReply, stream: &mut Stream, head_only: bool) -> Answer {
    {
        let mut info = stream.shared.info.borrow_mut();
        info.flags.insert(reply.flags);
        info.details = Some(reply.details.clone());
    }
    if reply.close {
        stream.connection.close_after_response();
    }
    let (head, body) = reply.response(stream.grpc, head_only).into_parts();
    Answer { head, source: Source::Local(body), limits: Limits::default(), tunnel: None }
}

/// Whether no further request can follow on an HTTP/1 connection: the rest of this one, or what was meant for a tunnel,
/// would be taken for it; and HTTP/1.0 tells the end of a body without a length by closing.
fn ends_http1(answer: &Answer, stream: &Stream) -> bool {
    let shared = &stream.shared;
    let connection = &stream.connection;
    let stays = answer.tunnel.is_none();
    let unread = stays && shared.request_completed_at().is_none();
    let after_tunnel = stays && connection.verdict.get().tunnel;
    let endless = || match &answer.source {
        Source::Local(_) => false,
        Source::Upstream { body, .. } => {
            http_body::Body::size_hint(body).exact().is_none()
                && !answer.head.headers.contains_key(CONTENT_LENGTH)
        }
    };
    let http10 = || shared.info.borrow().protocol == Some(Protocol::Http10);
    unread || after_tunnel || (http10() && endless())
}

/// Finishes the head of an answer, which counts from now on.
pub fn finish(answer: &mut Answer, stream: &mut Stream) {
    let connection = Rc::clone(&stream.connection);
    let manager = &connection.manager;
    if !manager.filters.is_empty() {
        stream.shared.info.borrow_mut().response_code = answer.head.status.as_u16();
        filters::encode(&mut answer.head, stream);
    }
    if stream.shared.request_completed_at().is_none() {
        manager.stats.downstream_rq_response_before_rq_complete.inc();
    }
    if let Some(id) = stream.request_id.take() {
        answer.head.headers.insert(&names::X_REQUEST_ID, id);
    }
    connection.follow_drain();
    if connection.protocol != Protocol::Http2 && ends_http1(answer, stream) {
        connection.close_after_response();
    }
    response::finish(&mut answer.head.headers, answer.tunnel.is_some(), &connection);
    stream.respond(answer.head.status.as_u16());
    if manager.keeps_heads {
        stream.response = Some(Box::new(answer.head.headers.clone()));
    }
    if answer.tunnel.is_some() && connection.protocol == Protocol::Http2 {
        upgrade::to_http2(&mut answer.head);
    }
}

/// Finishes the head and hands the stream over to the body.
fn respond(mut answer: Answer, mut stream: Stream) -> Response<ResponseBody> {
    finish(&mut answer, &mut stream);
    let body = match answer.tunnel {
        Some(tunnel) => {
            tokio::task::spawn_local(tunnel.run(stream));
            ResponseBody::Detached
        }
        None => ResponseBody::new(answer.source, stream, answer.limits),
    };
    Response::from_parts(answer.head, body)
}
