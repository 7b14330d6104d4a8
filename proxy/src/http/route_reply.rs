//! What answers have in common that a route gives by itself.

use http::HeaderMap;

use crate::http::local_reply::LocalReply;
use crate::http::manager::Route;
use crate::http::stream::Stream;

/// Adds what the route's levels say about response headers to an answer of the proxy's own.
pub fn with_route_headers(mut reply: LocalReply, route: &Route, stream: &Stream) -> LocalReply {
    let mut headers = HeaderMap::from_iter(reply.headers.drain(..));
    stream.with_format(|context| route.mutate_response(None, &mut headers, context));
    reply.headers.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    reply
}
