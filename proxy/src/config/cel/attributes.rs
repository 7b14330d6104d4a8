//! Envoy's attributes, as far as they are known when a request is decided on.

use std::borrow::Cow;

use super::value::{NoValue, Value};
use crate::config::matcher::MatchInput;
use crate::telemetry::stream_info::CertificateInfo;

/// An attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in Envoy's list of attributes")]
pub enum Attribute {
    RequestPath,
    RequestUrlPath,
    RequestQuery,
    RequestHost,
    RequestScheme,
    RequestMethod,
    RequestHeaders,
    RequestReferer,
    RequestUserAgent,
    RequestId,
    RequestProtocol,
    SourceAddress,
    SourcePort,
    DestinationAddress,
    DestinationPort,
    ConnectionId,
    ConnectionMtls,
    ConnectionServerName,
    ConnectionTlsVersion,
    ConnectionSubjectLocal,
    ConnectionSubjectPeer,
    ConnectionUriSanLocal,
    ConnectionUriSanPeer,
    ConnectionDnsSanLocal,
    ConnectionDnsSanPeer,
    Metadata,
}

/// Every attribute with its name.
const NAMES: &[(&str, Attribute)] = &[
    ("request.path", Attribute::RequestPath),
    ("request.url_path", Attribute::RequestUrlPath),
    ("request.query", Attribute::RequestQuery),
    ("request.host", Attribute::RequestHost),
    ("request.scheme", Attribute::RequestScheme),
    ("request.method", Attribute::RequestMethod),
    ("request.headers", Attribute::RequestHeaders),
    ("request.referer", Attribute::RequestReferer),
    ("request.useragent", Attribute::RequestUserAgent),
    ("request.id", Attribute::RequestId),
    ("request.protocol", Attribute::RequestProtocol),
    ("source.address", Attribute::SourceAddress),
    ("source.port", Attribute::SourcePort),
    ("destination.address", Attribute::DestinationAddress),
    ("destination.port", Attribute::DestinationPort),
    ("connection.id", Attribute::ConnectionId),
    ("connection.mtls", Attribute::ConnectionMtls),
    ("connection.requested_server_name", Attribute::ConnectionServerName),
    ("connection.tls_version", Attribute::ConnectionTlsVersion),
    ("connection.subject_local_certificate", Attribute::ConnectionSubjectLocal),
    ("connection.subject_peer_certificate", Attribute::ConnectionSubjectPeer),
    ("connection.uri_san_local_certificate", Attribute::ConnectionUriSanLocal),
    ("connection.uri_san_peer_certificate", Attribute::ConnectionUriSanPeer),
    ("connection.dns_san_local_certificate", Attribute::ConnectionDnsSanLocal),
    ("connection.dns_san_peer_certificate", Attribute::ConnectionDnsSanPeer),
    ("metadata", Attribute::Metadata),
];

impl Attribute {
    /// The attribute of this name.
    pub(super) fn named(name: &str) -> Option<Attribute> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, attribute)| *attribute)
    }

    /// Its value for this request.
    pub(super) fn value<'a>(self, input: &MatchInput<'a>) -> Result<Value<'a>, NoValue> {
        let text = |text: &'a str| Value::Text(Cow::Borrowed(text));
        let connection = &input.connection;
        let request = || input.request.ok_or(NoValue);
        let header = |name: &str| Value::Headers(request()?.headers).field(name).ok_or(NoValue);
        let tls = || connection.tls.ok_or(NoValue);
        let peer = || tls()?.peer.ok_or(NoValue);
        let local = || tls()?.local.ok_or(NoValue);
        let first = |names: &'a [Box<str>]| names.first().map(|name| text(name)).ok_or(NoValue);
        let path = || request().map(|request| request.pseudo.path);
        let split = |path: &'a str| path.split_once('?').unwrap_or((path, ""));
        Ok(match self {
            Attribute::RequestPath => text(path()?),
            Attribute::RequestUrlPath => text(split(path()?).0),
            Attribute::RequestQuery => text(split(path()?).1),
            Attribute::RequestHost => text(request()?.pseudo.authority),
            Attribute::RequestScheme => text(request()?.pseudo.scheme),
            Attribute::RequestMethod => text(request()?.pseudo.method),
            Attribute::RequestHeaders => Value::Headers(request()?.headers),
            Attribute::RequestReferer => header("referer")?,
            Attribute::RequestUserAgent => header("user-agent")?,
            Attribute::RequestId => header("x-request-id")?,
            Attribute::RequestProtocol => text(request()?.protocol),
            Attribute::SourceAddress => Value::Text(input.remote.to_string().into()),
            Attribute::SourcePort => port(input.remote.port())?,
            Attribute::DestinationAddress => Value::Text(connection.local.to_string().into()),
            Attribute::DestinationPort => port(connection.local.port())?,
            Attribute::ConnectionId => Value::Uint(connection.id),
            Attribute::ConnectionMtls => {
                Value::Bool(connection.tls.is_some_and(|tls| tls.peer.is_some()))
            }
            Attribute::ConnectionServerName if connection.server_name.is_empty() => {
                return Err(NoValue);
            }
            Attribute::ConnectionServerName => text(connection.server_name),
            Attribute::ConnectionTlsVersion => text(tls()?.version),
            Attribute::ConnectionSubjectLocal => text(subject(local()?)),
            Attribute::ConnectionSubjectPeer => text(subject(peer()?)),
            Attribute::ConnectionUriSanLocal => first(&local()?.uri_sans)?,
            Attribute::ConnectionUriSanPeer => first(&peer()?.uri_sans)?,
            Attribute::ConnectionDnsSanLocal => first(&local()?.dns_sans)?,
            Attribute::ConnectionDnsSanPeer => first(&peer()?.dns_sans)?,
            Attribute::Metadata => Value::Metadata(input.metadata),
        })
    }
}

fn subject(certificate: &CertificateInfo) -> &str {
    &certificate.subject
}

fn port(port: Option<u16>) -> Result<Value<'static>, NoValue> {
    port.map(|port| Value::Int(port.into())).ok_or(NoValue)
}
