//! `grpc_health_check`: the protocol `grpc.health.v1`.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use prost::Message;

use super::http::change;
use super::probe::{Found, Probe, authority};
use crate::config::cluster::GrpcProbe;
use crate::upstream::cluster::{Cluster, Host};

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `HealthCheckResponse.ServingStatus.SERVING`
const SERVING: i32 = 1;
/// A flag and a length stand before each message.
const PREFIX: usize = 5;
/// More than a health check response ever takes.
const MOST: usize = 16 * 1024;

/// Asks by gRPC.
pub async fn check(probe: &mut Probe, config: &GrpcProbe, cluster: &Cluster, host: &Host) -> Found {
    let authority = authority(&config.authority, cluster, host);
    let Some(request) = request(config, probe.timeout(), cluster, &authority) else {
        return Found::Unreachable;
    };
    let Some(sender) = probe.http2(cluster, host).await else { return Found::Unreachable };
    let Ok(response) = sender.send_request(request).await else { return Found::Unreachable };
    let (head, body) = response.into_parts();
    if head.status != http::StatusCode::OK {
        return Found::UNWELL;
    }
    let Ok(body) = http_body_util::Limited::new(body, MOST).collect().await else {
        return Found::Unreachable;
    };
    let succeeded = body.trailers().is_some_and(is_ok) || is_ok(&head.headers);
    let bytes = body.to_bytes();
    let message = bytes.get(PREFIX..).and_then(|message| HealthCheckResponse::decode(message).ok());
    match message {
        Some(message) if succeeded && message.status == SERVING => Found::WELL,
        _ => Found::UNWELL,
    }
}

fn is_ok(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| status == "0")
}

fn request(
    config: &GrpcProbe,
    timeout: Duration,
    cluster: &Cluster,
    authority: &str,
) -> Option<Request<Full<Bytes>>> {
    let message = HealthCheckRequest { service: config.service.clone() }.encode_to_vec();
    let mut body = BytesMut::with_capacity(PREFIX + message.len());
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).ok()?);
    body.put_slice(&message);
    let scheme = if cluster.config().tls.is_some() { "https" } else { "http" };
    let mut request = Request::new(Full::new(body.freeze()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query("/grpc.health.v1.Health/Check")
        .build()
        .ok()?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static("Envoy/HC"));
    headers
        .insert("grpc-timeout", HeaderValue::from_str(&format!("{}m", timeout.as_millis())).ok()?);
    change(headers, &config.headers);
    Some(request)
}
