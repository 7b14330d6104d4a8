//! Upgrades (WebSocket and others) and CONNECT: the connection, or the HTTP/2 stream, leaves HTTP and becomes a tunnel.
//!
//! Between [`from_http2`] and [`Upgrade::shape_request`] an upgrade has the form of HTTP/1.1, whatever the two sides speak,
//! so that routes and logs see it in one form only.

use h2::ext::Protocol as ExtendedConnect;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use tokio::sync::oneshot;

use crate::config::route::RouteAction;
use crate::http::local_reply::LocalReply;
use crate::http::present::Present;
use crate::http::stream::Stream;
use crate::io::Stream as Connection;
use crate::telemetry::stream_info::Protocol;

mod tunnel;

pub use tunnel::{Tunnel, UpstreamSide};

/// The `upgrade_type` of CONNECT, in lower case.
const CONNECT_TYPE: &str = "connect";

/// Brings an extended CONNECT (RFC 8441) into the form of an HTTP/1.1 upgrade.
pub fn from_http2(parts: &mut Parts) {
    if parts.method != Method::CONNECT {
        return;
    }
    let Some(protocol) = parts.extensions.remove::<ExtendedConnect>() else { return };
    let Ok(protocol) = HeaderValue::from_str(protocol.as_str()) else { return };
    parts.method = Method::GET;
    parts.headers.insert(UPGRADE, protocol);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// The protocol that a request wants to upgrade to.
pub fn requested(parts: &Parts) -> Option<&str> {
    let connection = parts.headers.get(CONNECTION)?.to_str().ok()?;
    let asks = connection.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let protocol = parts.headers.get(UPGRADE)?.to_str().ok()?;
    // HTTP/2 in clear text is spoken with prior knowledge only; the header means nothing here.
    (asks && !protocol.eq_ignore_ascii_case("h2c")).then_some(protocol)
}

/// An upgrade that is allowed.
pub struct Upgrade {
    /// Where the client's side comes from; on HTTP/2 it is the stream that the request came by.
    downstream: Option<oneshot::Receiver<Connection>>,
    /// The type, in lower case.
    protocol: Box<str>,
    /// `connect_config`: the tunnel goes on as plain TCP.
    terminates: bool,
}

/// Takes the downstream's side out of the request, if it asks for an upgrade.
///
/// # Errors
/// 403 if neither route nor connection manager allow this one.
pub fn take(
    parts: &mut Parts,
    present: Present,
    stream: &Stream,
    action: &RouteAction,
) -> Result<Option<Upgrade>, LocalReply> {
    let asked = match &parts.method {
        &Method::CONNECT => Some(CONNECT_TYPE),
        _ if present.has(Present::UPGRADE) => requested(parts),
        _ => None,
    };
    let Some(protocol) = asked.map(str::to_ascii_lowercase) else { return Ok(None) };
    let of = |list: &[(Box<str>, bool)]| {
        let entry = list.iter().find(|(name, _)| **name == protocol);
        entry.map(|(_, enabled)| *enabled)
    };
    let config = &stream.connection.manager.config;
    let allowed = of(&action.upgrades).or_else(|| of(&config.upgrades)).unwrap_or(false);
    let terminates = protocol == CONNECT_TYPE && action.terminates_connect;
    // HTTP/1.0 knows no way out.
    if !allowed || parts.version < Version::HTTP_11 {
        return Err(refused(stream));
    }
    stream.connection.manager.stats.downstream_cx_upgrades_total.inc();
    let is_http1 = stream.connection.protocol != Protocol::Http2;
    let downstream = is_http1.then(|| stream.connection.promise_tunnel());
    Ok(Some(Upgrade { downstream, protocol: protocol.into(), terminates }))
}

fn refused(stream: &Stream) -> LocalReply {
    stream.connection.manager.stats.downstream_rq_ws_on_non_ws_route.inc();
    LocalReply::new(StatusCode::FORBIDDEN, "upgrade_failed", "").close()
}

impl Upgrade {
    /// Whether the tunnel leaves HTTP here and goes on to the host as plain TCP.
    pub fn terminates(&self) -> bool {
        self.terminates
    }

    fn is_connect(&self) -> bool {
        &*self.protocol == CONNECT_TYPE
    }

    /// Whether a response with this status makes the tunnel.
    pub fn is_accepted(&self, status: StatusCode) -> bool {
        match self.is_connect() {
            true => status.is_success(),
            false => status == StatusCode::SWITCHING_PROTOCOLS,
        }
    }

    /// Brings the request into the form that the upstream's protocol has for it.
    pub fn shape_request<B>(&self, request: &mut Request<B>, upstream: Protocol) {
        if upstream != Protocol::Http2 {
            return;
        }
        if self.is_connect() {
            // No scheme and no path (RFC 9113 §8.5).
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.scheme = None;
            parts.path_and_query = None;
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
            return;
        }
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(ExtendedConnect::from(&*self.protocol));
        request.headers_mut().remove(UPGRADE);
        request.headers_mut().remove(CONNECTION);
    }

    /// Brings the host's answer back into the form of HTTP/1.1.
    pub fn shape_response<B>(&self, response: &mut Response<B>, upstream: Protocol) {
        let accepted = response.status() == StatusCode::OK;
        if self.is_connect() && response.status().is_success() {
            // What follows is no body, whatever is said of its length (RFC 9110 §9.3.6).
            response.headers_mut().remove(CONTENT_LENGTH);
            response.headers_mut().remove(TRANSFER_ENCODING);
        }
        if upstream != Protocol::Http2 || self.is_connect() || !accepted {
            return;
        }
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let protocol = HeaderValue::from_str(&self.protocol).expect("it came as a header's value");
        response.headers_mut().insert(UPGRADE, protocol);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Brings the answer that makes a tunnel into the form of HTTP/2.
pub fn to_http2(head: &mut http::response::Parts) {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        head.status = StatusCode::OK;
    }
    head.headers.remove(UPGRADE);
    head.headers.remove(CONNECTION);
}
