//! HTTP filters: what looks at a request between the choice of its route and the router, and at its response on the way
//! back.
//!
//! A filter is one file (or folder) here and one line in `TABLE`: it translates its own configuration, is built once
//! for each connection manager that has it, and then sees requests top down ([`HttpFilter::decode`]) and responses bottom
//! up ([`HttpFilter::encode`]). A connection manager without filters pays one comparison a request for all this.

use std::any::Any as Anything;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use proto::google::protobuf::Any;

use crate::config::bootstrap::Runtime;
use crate::config::hcm;
use crate::config::http_filter::{HttpFilters, Opaque, RouteFilter};
use crate::config::matcher::{PseudoHeaders, RequestView};
use crate::config::route::Action;
use crate::config::{At, ConfigError, Context, any};
use crate::http::local_reply::LocalReply;
use crate::http::manager::Route;
use crate::http::request;
use crate::http::router::cluster::look_up;
use crate::http::service::{self, Routed};
use crate::http::stream::Stream;
use crate::io::Incoming;
use crate::telemetry::stats::{SharedStats, Store};
use crate::telemetry::stream_info::Protocol;
use crate::upstream::cluster::Cluster;

mod adaptive_concurrency;
mod admission_control;
mod buffer;
mod cors;
pub mod ext_authz;
mod fault;
mod header_mutation;
mod istio_alpn;
mod local_ratelimit;
mod match_delegate;
pub mod rbac;
mod set_filter_state;
mod stateful_session;

/// Every HTTP filter besides the router.
static TABLE: &[Registration] = &[
    adaptive_concurrency::FILTER,
    admission_control::FILTER,
    buffer::FILTER,
    cors::FILTER,
    ext_authz::FILTER,
    fault::FILTER,
    header_mutation::FILTER,
    istio_alpn::FILTER,
    local_ratelimit::FILTER,
    match_delegate::FILTER,
    rbac::FILTER,
    set_filter_state::FILTER,
    stateful_session::FILTER,
];

/// A filter's entry in `TABLE`.
pub struct Registration {
    /// The full name of the message in `HttpFilter.typed_config`.
    pub config: &'static str,
    /// Translates that message.
    pub translate: Translate,
    /// The message that it takes in `typed_per_filter_config`, and the translation to what [`Request::route_config`]
    /// gives.
    pub route: Option<(&'static str, TranslateRoute)>,
}

/// Translates a filter's configuration.
pub type Translate = fn(&Any, &At<'_>, &Context) -> Result<Box<dyn Blueprint>, ConfigError>;

/// Translates a filter's configuration for a route.
pub type TranslateRoute = fn(&Any, &At<'_>, &Context) -> Result<Opaque, ConfigError>;

/// A filter's configuration, of which filters are built.
pub trait Blueprint: fmt::Debug + Send + Sync {
    /// The filter of one connection manager.
    ///
    /// # Errors
    /// A part that cannot be made.
    fn build(&self, build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError>;
}

/// What filters are built with.
pub struct Build<'a> {
    /// `http.<stat_prefix>.`
    pub stat_prefix: &'a str,
    /// Where statistics are registered.
    pub store: &'a Arc<Store>,
    /// Statistics that survive an update.
    pub stats: &'a Arc<SharedStats>,
    /// Runtime values of the static layers.
    pub runtime: &'a Runtime,
    /// Where the connection manager stands, for errors.
    pub at: &'a At<'a>,
}

/// A filter of a connection manager. It is shared by all its streams; what belongs to one stream is kept by
/// [`Request::keep`].
pub trait HttpFilter: Send + Sync {
    /// Looks at a request, and may change it.
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a>;

    /// Looks at the head of a response, from a host or of the proxy's own, and may change it.
    fn encode(&self, _response: &mut Response<'_>) {}

    /// A stream of which the filter has kept something is over.
    fn end(&self, _end: &End<'_>) {}
}

/// What a filter says to a request.
pub enum Decoded<'a> {
    /// The next filter's turn.
    Continue,
    /// The filter answers.
    Reply(LocalReply),
    /// The filter waits for somebody else first.
    Later(Pin<Box<dyn Future<Output = Result<(), LocalReply>> + 'a>>),
}

/// A request as a filter sees it.
pub struct Request<'r> {
    /// The head; `:authority` is `host`.
    pub parts: &'r mut Parts,
    /// The stream.
    pub stream: &'r mut Stream,
    /// The route, if one was found.
    pub route: Option<&'r Arc<Route>>,
    /// What decides by chance; the same for all of the stream.
    pub random: u64,
    /// The body; none if it has been read before, and the request is sent again.
    body: Option<&'r mut Incoming>,
    /// What the route says to this filter.
    config: Option<Opaque>,
    /// The filter's position.
    index: usize,
    reroute: bool,
}

impl Request<'_> {
    /// The route's configuration for this filter, if it has one: of the most specific level.
    pub fn route_config<T: Anything>(&self) -> Option<&T> {
        self.config.as_ref()?.get()
    }

    /// The route is looked up again before the next filter (`clear_route_cache`).
    pub fn clear_route_cache(&mut self) {
        self.reroute = true;
    }

    /// The cluster that the request would go to as it is now.
    pub fn cluster(&self) -> Option<Arc<Cluster>> {
        let route = self.route?;
        let Action::Forward(action) = &route.config.action else { return None };
        look_up(self.stream, route, action, self.parts, self.random).0
    }

    /// Whether there is a body to come.
    pub fn has_body(&self) -> bool {
        self.body.as_ref().is_some_and(|body| !body.is_end_stream())
    }

    /// The body's first bytes, at least `most` of them unless there are fewer, and whether these are all. Whoever reads the
    /// body gets them again.
    pub async fn read_ahead(&mut self, most: usize) -> (Bytes, bool) {
        let Some(body) = self.body.as_deref_mut() else { return (Bytes::new(), true) };
        let is_whole = body.read_ahead(most).await;
        let shared = &self.stream.shared;
        shared.touch();
        if is_whole {
            shared.complete_request();
        }
        (body.ahead(), is_whole)
    }

    /// The body has been read ahead as a whole: its length is told, if it was not known from the start.
    pub fn tell_length(&mut self) {
        if let Some(Incoming::Ahead(ahead)) = self.body.as_deref_mut() {
            ahead.is_sized = true;
        }
    }

    /// Keeps something for the response, and at least until the stream ends.
    pub fn keep(&mut self, state: Box<dyn Anything>) {
        self.stream.filter_states.push((self.index, state));
    }
}

/// A response's head as a filter sees it.
pub struct Response<'r> {
    /// The head.
    pub head: &'r mut http::response::Parts,
    /// The stream.
    pub stream: &'r Stream,
    /// What the route says to this filter.
    config: Option<Opaque>,
    index: usize,
}

impl Response<'_> {
    /// The route's configuration for this filter, if it has one: of the most specific level.
    pub fn route_config<T: Anything>(&self) -> Option<&T> {
        self.config.as_ref()?.get()
    }

    /// What this filter kept of the request.
    pub fn kept<T: Anything>(&self) -> Option<&T> {
        let mut states = self.stream.filter_states.iter();
        states.find_map(|(index, state)| match *index == self.index {
            true => state.downcast_ref(),
            false => None,
        })
    }
}

/// The end of a stream as a filter sees it.
pub struct End<'r> {
    /// Whether the response was sent whole; else it was broken off, or there was none.
    pub complete: bool,
    /// The response's trailers, if there were any.
    pub trailers: Option<&'r HeaderMap>,
    /// What the filter has kept of the request.
    state: &'r dyn Anything,
}

impl End<'_> {
    /// What the filter has kept of the request, if it is a `T`.
    pub fn kept<T: Anything>(&self) -> Option<&T> {
        self.state.downcast_ref()
    }
}

/// A filter of a connection manager with its place in the configuration.
pub struct FilterEntry {
    /// `HttpFilter.name`: by it routes speak to the filter.
    name: Arc<str>,
    /// `HttpFilter.disabled`
    disabled: bool,
    filter: Arc<dyn HttpFilter>,
}

impl FilterEntry {
    /// Builds a filter.
    ///
    /// # Errors
    /// As of [`Blueprint::build`].
    pub fn build(config: &hcm::HttpFilter, build: &Build<'_>) -> Result<FilterEntry, ConfigError> {
        let blueprint = config.config.get::<Box<dyn Blueprint>>();
        let blueprint = blueprint.expect("the table below makes nothing else");
        let (name, disabled) = (Arc::clone(&config.name), config.disabled);
        Ok(FilterEntry { name, disabled, filter: blueprint.build(build)? })
    }

    /// Whether a stream of this route has the filter, and what the route says to it.
    fn on_route(&self, route: Option<&Arc<Route>>, entry: Option<usize>) -> OnRoute {
        match route.and_then(|route| route.filter(&self.name, entry)) {
            Some(RouteFilter::Disabled) => OnRoute::Absent,
            Some(RouteFilter::Config(config)) => OnRoute::Present(Some(config.clone())),
            None if self.disabled => OnRoute::Absent,
            None => OnRoute::Present(None),
        }
    }
}

/// Whether a filter takes part in a stream.
enum OnRoute {
    Absent,
    /// It does, with the route's configuration for it.
    Present(Option<Opaque>),
}

/// Lets the filters of the stream's connection manager look at a request.
///
/// # Errors
/// A filter's answer.
pub async fn decode(
    stream: &mut Stream,
    parts: &mut Parts,
    routed: &mut Routed,
    random: u64,
    mut body: Option<&mut Incoming>,
) -> Result<(), LocalReply> {
    let manager = Arc::clone(&stream.connection.manager);
    note_route(stream, parts, routed, random);
    for (index, entry) in manager.filters.iter().enumerate() {
        let chosen = stream.filter_route.as_ref().and_then(|(_, chosen)| *chosen);
        let route = routed.route();
        let OnRoute::Present(config) = entry.on_route(route, chosen) else { continue };
        let body = body.as_deref_mut();
        let mut request =
            Request { parts, stream, route, random, body, config, index, reroute: false };
        match entry.filter.decode(&mut request) {
            Decoded::Continue => {}
            Decoded::Reply(reply) => return Err(reply),
            Decoded::Later(later) => later.await?,
        }
        if request.reroute {
            *routed = service::find_route(stream, parts, random);
            note_route(stream, parts, routed, random);
        }
    }
    Ok(())
}

/// Keeps the route, and the weighted cluster that will be chosen, where filters on the way back find them.
fn note_route(stream: &mut Stream, parts: &Parts, routed: &Routed, random: u64) {
    stream.filter_route = routed.route().map(|route| {
        let wanted = service::route_request(parts, stream, random);
        (Arc::clone(route), route.speaking_entry(&wanted))
    });
}

/// Lets the filters look at the head of the stream's response.
pub fn encode(head: &mut http::response::Parts, stream: &Stream) {
    let (route, chosen) = match &stream.filter_route {
        Some((route, chosen)) => (Some(route), *chosen),
        None => (None, None),
    };
    for (index, entry) in stream.connection.manager.filters.iter().enumerate().rev() {
        if let OnRoute::Present(config) = entry.on_route(route, chosen) {
            entry.filter.encode(&mut Response { head, stream, config, index });
        }
    }
}

/// Tells the filters that have kept something of the stream that it is over.
pub fn end(stream: &Stream, complete: bool) {
    let trailers = stream.trailers.as_deref();
    for (index, state) in &stream.filter_states {
        let filter = &stream.connection.manager.filters[*index].filter;
        filter.end(&End { complete, trailers, state: &**state });
    }
}

/// The answer to a request whose body is longer than a filter keeps.
fn too_large(request: &Request<'_>) -> LocalReply {
    request.stream.connection.manager.stats.downstream_rq_too_large.inc();
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    LocalReply::new(status, "request_payload_too_large", "Payload Too Large").close()
}

/// Whether a request falls within a share, given as numerator and denominator.
fn falls_within((numerator, denominator): (u32, u32)) -> bool {
    numerator >= denominator || fastrand::u32(..denominator) < numerator
}

/// A request's head as matchers see it.
fn view<'a>(parts: &'a Parts, scheme: &'a str, protocol: Option<Protocol>) -> RequestView<'a> {
    RequestView {
        pseudo: PseudoHeaders {
            method: parts.method.as_str(),
            scheme,
            authority: request::authority(&parts.headers),
            path: request::path(&parts.uri),
        },
        headers: &parts.headers,
        protocol: protocol.map_or("", Protocol::as_str),
    }
}

/// `TABLE`, as the translation of connection managers and routes sees it.
pub struct Table;

impl HttpFilters for Table {
    fn filter(
        &self,
        config: &Any,
        at: &At<'_>,
        context: &Context,
    ) -> Option<Result<Opaque, ConfigError>> {
        let name = any::type_name(Some(config));
        let found = TABLE.iter().find(|registration| registration.config == name)?;
        Some((found.translate)(config, at, context).map(Opaque::new))
    }

    fn route(
        &self,
        config: &Any,
        at: &At<'_>,
        context: &Context,
    ) -> Option<Result<Opaque, ConfigError>> {
        let name = any::type_name(Some(config));
        let routes = TABLE.iter().filter_map(|registration| registration.route);
        let (_, translate) = routes.into_iter().find(|(route, _)| *route == name)?;
        Some(translate(config, at, context))
    }
}
