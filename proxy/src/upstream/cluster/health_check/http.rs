//! `http_health_check`.

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::probe::{Found, Probe, authority};
use crate::config::cluster::{HttpProbe, ProbeHeaders};
use crate::config::headers::AppendAction;
use crate::upstream::cluster::{Cluster, Host};
use crate::upstream::connect::Connected;
use crate::upstream::pool::http2 as pool_http2;

/// An HTTP/1.1 connection that is kept.
pub type Http1 = http1::SendRequest<Full<Bytes>>;
/// An HTTP/2 connection that is kept.
pub type Http2 = http2::SendRequest<Full<Bytes>>;

/// Speaks HTTP/1.1 on a new connection.
pub async fn open_http1(connected: Connected) -> Option<Http1> {
    let (sender, connection) = http1::handshake(TokioIo::new(connected.stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

/// Speaks HTTP/2 on a new connection.
pub async fn open_http2(connected: Connected, cluster: &Cluster) -> Option<Http2> {
    let builder = pool_http2::builder(TokioExecutor::new(), cluster.config());
    let (sender, connection) = builder.handshake(TokioIo::new(connected.stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

/// Asks by HTTP.
pub async fn check(probe: &mut Probe, config: &HttpProbe, cluster: &Cluster, host: &Host) -> Found {
    let authority = authority(&config.host, cluster, host);
    let Some(request) = request(config, cluster, &authority) else { return Found::Unreachable };
    let response = match config.http2 {
        false => match probe.http1(cluster, host).await {
            Some(sender) => sender.send_request(request).await,
            None => return Found::Unreachable,
        },
        true => match probe.http2(cluster, host).await {
            Some(sender) => sender.send_request(request).await,
            None => return Found::Unreachable,
        },
    };
    match response {
        Ok(response) => judge(config, response).await,
        Err(_) => Found::Unreachable,
    }
}

fn request(config: &HttpProbe, cluster: &Cluster, authority: &str) -> Option<Request<Full<Bytes>>> {
    let mut request = Request::new(Full::from(config.send.clone()));
    *request.method_mut() = config.method.clone();
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static("Envoy/HC"));
    change(headers, &config.headers);
    *request.uri_mut() = if config.http2 {
        let scheme = if cluster.config().tls.is_some() { "https" } else { "http" };
        let uri = Uri::builder().scheme(scheme).authority(authority);
        uri.path_and_query(config.path.clone()).build().ok()?
    } else {
        headers.insert(HOST, HeaderValue::from_str(authority).ok()?);
        Uri::from(config.path.clone())
    };
    Some(request)
}

/// Changes a check's headers as configured.
pub fn change(headers: &mut HeaderMap, changes: &ProbeHeaders) {
    for name in &changes.remove {
        headers.remove(name);
    }
    for (name, value, action) in &changes.add {
        let exists = headers.contains_key(name);
        match (action, exists) {
            (AppendAction::Append, _) => {
                headers.append(name, value.clone());
            }
            (AppendAction::AddIfAbsent, true) | (AppendAction::OverwriteIfExists, false) => {}
            _ => {
                headers.insert(name, value.clone());
            }
        }
    }
}

async fn judge(config: &HttpProbe, response: Response<Incoming>) -> Found {
    let (head, body) = response.into_parts();
    let status = i64::from(head.status.as_u16());
    let within =
        |ranges: &[(i64, i64)]| ranges.iter().any(|(start, end)| (*start..*end).contains(&status));
    let Some(body) = read(body, config.response_buffer).await else { return Found::Unreachable };
    let at_once = head.headers.contains_key("x-envoy-immediate-health-check-fail");
    if !within(&config.expected) {
        return Found::Unwell { retriable: within(&config.retriable), at_once };
    }
    if !holds(&body, &config.receive) || at_once {
        return Found::Unwell { retriable: false, at_once };
    }
    if let Some(service) = &config.service {
        let named = head.headers.get("x-envoy-upstream-healthchecked-cluster");
        let named = named.and_then(|name| name.to_str().ok());
        if !named.is_some_and(|name| service.matches(name)) {
            return Found::OtherService;
        }
    }
    Found::Well { degraded: head.headers.contains_key("x-envoy-degraded") }
}

/// The start of a body, whose rest is read and thrown away so that the connection can be used again.
async fn read(mut body: Incoming, most: usize) -> Option<Vec<u8>> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.ok()?;
        let Some(data) = frame.data_ref() else { continue };
        let room = most.saturating_sub(kept.len()).min(data.len());
        kept.extend_from_slice(&data[..room]);
    }
    Some(kept)
}

/// Whether the blocks appear in this order.
pub fn holds(bytes: &[u8], blocks: &[Vec<u8>]) -> bool {
    let mut rest = bytes;
    blocks.iter().all(|block| match memchr::memmem::find(rest, block) {
        Some(at) => {
            rest = &rest[at + block.len()..];
            true
        }
        None => false,
    })
}
