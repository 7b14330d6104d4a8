//! What an overloaded process does to HTTP: requests that it refuses, and connections that it ends.

use http::{HeaderName, HeaderValue, StatusCode};

use crate::http::connection::Connection;
use crate::http::local_reply::LocalReply;
use crate::http::stream::Stream;
use crate::overload::Point;
use crate::telemetry::response_flags::ResponseFlags;
use crate::telemetry::stream_info::Protocol;

const DETAILS: &str = "overload";
const BODY: &str = "envoy overloaded";

/// The answer to a request that the process is too busy for.
pub fn refusal(stream: &Stream) -> Option<LocalReply> {
    let connection = &stream.connection;
    let overload = &connection.worker.overload;
    if !overload.is_engaged() {
        return None;
    }
    let stats = &connection.manager.stats;
    if connection.protocol != Protocol::Http2 && overload.sheds(Point::Http1AbortDispatch) {
        stats.downstream_rq_overload_close.inc();
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let reply = LocalReply::new(status, DETAILS, "Internal Server Error");
        return Some(reply.flag(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR).close());
    }
    let busy = LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, DETAILS, BODY);
    if connection.protocol == Protocol::Http2 {
        if overload.sheds(Point::Http2GoAwayAndClose) {
            return Some(busy.close());
        }
        if overload.sheds(Point::Http2GoAway) {
            connection.close_after_response();
        }
    }
    if overload.sheds(Point::DecodeHeaders) || overload.stop_accepting_requests.hits() {
        stats.downstream_rq_overload_close.inc();
        let told = connection.manager.config.append_local_overload;
        let header = HeaderName::from_static("x-envoy-local-overloaded");
        return Some(match told {
            true => busy.header(header, HeaderValue::from_static("true")),
            false => busy,
        });
    }
    overload.sheds(Point::FilterCheck).then_some(busy)
}

/// Lets the connection end with the response under way, if the process is too busy to keep it.
pub fn end_connection(connection: &Connection) {
    let overload = &connection.worker.overload;
    if overload.is_engaged() && !connection.must_close() && overload.disable_http_keepalive.hits() {
        connection.manager.stats.downstream_cx_overload_disable_keepalive.inc();
        connection.close_after_response();
    }
}
