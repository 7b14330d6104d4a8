//! What answers have in common that a route gives by itself.

use http::header::LOCATION;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::http::local_reply::LocalReply;
use crate::http::manager::Route;
use crate::http::stream::Stream;
use crate::route::RouteRequest;

/// The `location` of a direct response that says where something is: where it was asked for.
pub fn own_location(wanted: &RouteRequest<'_>) -> Option<(HeaderName, HeaderValue)> {
    let location = format!("{}://{}{}", wanted.scheme, wanted.authority, wanted.path);
    Some((LOCATION, HeaderValue::from_str(&location).ok()?))
}

/// An answer that sends the client elsewhere.
pub fn redirect(status: StatusCode, location: &str) -> LocalReply {
    let reply = LocalReply::new(status, "direct_response", "");
    match HeaderValue::from_str(location) {
        Ok(location) => reply.header(LOCATION, location),
        Err(_) => LocalReply::new(StatusCode::BAD_REQUEST, "direct_response", ""),
    }
}

/// Adds what the route's levels say about response headers to an answer of the proxy's own.
pub fn with_route_headers(mut reply: LocalReply, route: &Route, stream: &Stream) -> LocalReply {
    let mut headers = HeaderMap::from_iter(reply.headers.drain(..));
    stream.with_format(|context| route.mutate_response(None, &mut headers, context));
    reply.headers.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    reply
}
