//! What an authorization server is told over gRPC (`CheckRequest`).

use std::collections::HashMap;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use proto::envoy::config::core::v3 as core;
use proto::envoy::config::core::v3::socket_address::PortSpecifier;
use proto::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request, TlsSession};
use proto::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use proto::google::protobuf::Timestamp;

use super::PARTIAL_BODY;
use super::config::{BodySettings, HeaderChoice};
use crate::http::request;
use crate::http::sanitize::names;
use crate::io::Address;
use crate::telemetry::certificate::url_encoded_pem;
use crate::telemetry::stream_info::{CertificateInfo, ConnectionInfo, Metadata, StreamInfo};

/// Which of a connection's facts are told.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The peer's certificate.
    pub certificate: bool,
    /// The TLS session's server name.
    pub session: bool,
}

/// A request's body as far as the server is told of it.
pub struct ToldBody {
    /// The bytes.
    pub bytes: Bytes,
    /// How many bytes are known.
    pub length: usize,
    /// Whether there are more.
    pub is_partial: bool,
    /// How they are told.
    pub settings: BodySettings,
}

/// What is told of a connection: who speaks to whom.
pub fn of_connection(connection: &ConnectionInfo, remote: &Address, told: Told) -> CheckRequest {
    let tls = connection.tls.as_ref();
    let peer = tls.and_then(|tls| tls.peer.as_deref());
    let local = tls.and_then(|tls| tls.local.as_deref());
    let certificate = tls.and_then(|tls| tls.peer_certificates.first());
    let certificate = certificate.filter(|_| told.certificate).map(|der| url_encoded_pem(der));
    let source = Peer {
        address: Some(address(remote)),
        principal: principal(peer),
        certificate: certificate.unwrap_or_default(),
        ..Peer::default()
    };
    let destination = Peer {
        address: Some(address(&connection.local)),
        principal: principal(local),
        ..Peer::default()
    };
    let sni = connection.requested_server_name.as_deref().unwrap_or_default();
    let session = TlsSession { sni: sni.to_owned() };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(source),
            destination: Some(destination),
            metadata_context: Some(core::Metadata::default()),
            tls_session: told.session.then_some(session),
            ..AttributeContext::default()
        }),
    }
}

/// What is told of a request.
pub fn of_request(
    parts: &Parts,
    scheme: &str,
    info: &StreamInfo,
    choice: &HeaderChoice,
    raw: bool,
    body: Option<&ToldBody>,
) -> Request {
    let path = request::path(&parts.uri);
    let host = request::authority(&parts.headers);
    let mut headers: Vec<(&str, HeaderValue)> = Vec::with_capacity(parts.headers.len() + 5);
    let pseudo = [
        (":authority", host),
        (":method", parts.method.as_str()),
        (":path", path),
        (":scheme", scheme),
    ];
    for (name, value) in pseudo {
        headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
    }
    let rest = parts.headers.iter().filter(|(name, _)| *name != http::header::HOST);
    headers.extend(rest.map(|(name, value)| (name.as_str(), value.clone())));
    headers.retain(|(name, _)| choice.has(name));
    if let Some(body) = body {
        let partial = if body.is_partial { "true" } else { "false" };
        headers.push((PARTIAL_BODY, HeaderValue::from_static(partial)));
    }
    let (text, bytes) = match body {
        Some(body) if body.settings.as_bytes => (String::new(), body.bytes.to_vec()),
        Some(body) => (String::from_utf8_lossy(&body.bytes).into_owned(), Vec::new()),
        None => Default::default(),
    };
    let since = info.start_time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Request {
        time: Some(Timestamp {
            seconds: since.as_secs() as i64,
            nanos: since.subsec_nanos() as i32,
        }),
        http: Some(HttpRequest {
            id: fastrand::u64(..).to_string(),
            method: parts.method.as_str().to_owned(),
            path: path.to_owned(),
            host: host.to_owned(),
            scheme: scheme.to_owned(),
            size: body.map_or(0, |body| body.length as i64),
            protocol: info.protocol.map_or("", |protocol| protocol.as_str()).to_owned(),
            body: text,
            raw_body: bytes,
            headers: if raw { HashMap::new() } else { joined(&headers) },
            header_map: raw.then(|| core::HeaderMap { headers: one_by_one(&headers) }),
            ..HttpRequest::default()
        }),
    }
}

/// The service that the request says it comes from.
pub fn service(headers: &HeaderMap) -> String {
    let service = headers.get(&names::X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER);
    service.and_then(|service| service.to_str().ok()).unwrap_or_default().to_owned()
}

/// Some namespaces of metadata.
pub fn metadata(metadata: Option<&Metadata>, namespaces: &[Box<str>]) -> core::Metadata {
    let found = namespaces.iter().filter_map(|namespace| {
        let fields = metadata?.get(&**namespace)?.as_object()?;
        Some((namespace.to_string(), proto::convert::json_to_struct(fields)))
    });
    core::Metadata { filter_metadata: found.collect(), ..core::Metadata::default() }
}

/// Values of one name in one text, as HTTP lists them.
fn joined(headers: &[(&str, HeaderValue)]) -> HashMap<String, String> {
    let mut map = HashMap::<String, String>::with_capacity(headers.len());
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        match map.get_mut(*name) {
            Some(list) => {
                list.push(',');
                list.push_str(&value);
            }
            None => drop(map.insert((*name).to_owned(), value.into_owned())),
        }
    }
    map
}

fn one_by_one(headers: &[(&str, HeaderValue)]) -> Vec<core::HeaderValue> {
    let headers = headers.iter().map(|(name, value)| core::HeaderValue {
        key: (*name).to_owned(),
        raw_value: value.as_bytes().to_vec(),
        ..core::HeaderValue::default()
    });
    headers.collect()
}

/// Whom a certificate is for: its first URI, else its first DNS name, else its subject.
fn principal(certificate: Option<&CertificateInfo>) -> String {
    let Some(certificate) = certificate else { return String::new() };
    let name = certificate.uri_sans.first().or(certificate.dns_sans.first());
    name.unwrap_or(&certificate.subject).to_string()
}

fn address(address: &Address) -> core::Address {
    use core::address::Address::{Pipe, SocketAddress};
    let address = match address {
        Address::Ip(ip) => SocketAddress(core::SocketAddress {
            address: ip.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(ip.port().into())),
            ..core::SocketAddress::default()
        }),
        Address::Pipe(path) => {
            Pipe(core::Pipe { path: path.display().to_string(), ..core::Pipe::default() })
        }
    };
    core::Address { address: Some(address) }
}
