//! The operators without argument: one row each.

use std::io::Write;

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::FormatContext;
use super::grpc_status::GrpcStatusStyle;
use super::heads::{map_size, request_size, response_size};
use super::operators::Fact;
use super::target::without_port;
use super::value::Value;
use crate::telemetry::certificate::{fingerprint, url_encoded_pem};
use crate::telemetry::stream_info::{CertificateInfo, TlsInfo};

impl<'a> FormatContext<'a> {
    fn downstream_tls(self) -> Option<&'a TlsInfo> {
        self.info.connection.tls.as_ref()
    }

    fn upstream_tls(self) -> Option<&'a TlsInfo> {
        self.info.upstream.tls.as_deref()
    }

    /// The certificate that the downstream peer presented.
    pub(super) fn downstream_peer(self) -> Option<&'a CertificateInfo> {
        self.downstream_tls()?.peer.as_deref()
    }

    fn downstream_local(self) -> Option<&'a CertificateInfo> {
        self.downstream_tls()?.local.as_deref()
    }

    /// The certificate that the upstream host presented.
    pub(super) fn upstream_peer(self) -> Option<&'a CertificateInfo> {
        self.upstream_tls()?.peer.as_deref()
    }

    fn upstream_local(self) -> Option<&'a CertificateInfo> {
        self.upstream_tls()?.local.as_deref()
    }

    /// The upstream host's name; its address if it has none.
    fn upstream_host_name(self) -> Value<'a> {
        let upstream = &self.info.upstream;
        match upstream.hostname.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => Value::Text(name),
            None => Value::address(upstream.host.as_ref()),
        }
    }
}

/// One list of alternative names; none if the certificate has no such name.
fn names<'a>(
    certificate: Option<&'a CertificateInfo>,
    pick: fn(&CertificateInfo) -> &[Box<str>],
) -> Value<'a> {
    match certificate.map(pick) {
        None | Some([]) => Value::Missing,
        Some(names) => Value::List(names),
    }
}

/// One text of a certificate.
fn text<'a>(
    certificate: Option<&'a CertificateInfo>,
    pick: fn(&CertificateInfo) -> &str,
) -> Value<'a> {
    Value::text(certificate.map(pick))
}

/// A reason, with underscores for its blanks as Envoy prints it.
fn in_one_word(reason: Option<&str>) -> Value<'_> {
    match reason {
        Some(reason) if reason.contains(' ') => Value::Made(reason.replace(' ', "_")),
        reason => Value::text(reason),
    }
}

/// The certificate of the peer.
fn pem<'a>(tls: Option<&TlsInfo>) -> Value<'a> {
    match tls.and_then(|tls| tls.peer_certificates.first()) {
        Some(leaf) => Value::Made(url_encoded_pem(leaf)),
        None => Value::Missing,
    }
}

/// The digests of the certificates that the peer presented.
fn fingerprints<'a>(tls: Option<&TlsInfo>, algorithm: &'static Algorithm) -> Value<'a> {
    let chain = tls.map(|tls| &*tls.peer_certificates).unwrap_or_default();
    let digests: Vec<String> = chain.iter().map(|der| fingerprint(algorithm, der)).collect();
    if digests.is_empty() { Value::Missing } else { Value::Made(digests.join(",")) }
}

/// A random UUID of version 4 (RFC 9562 section 5.4).
fn unique_id() -> String {
    let bits = fastrand::u128(..);
    let bits = bits & !(0xf << 76) | (4 << 76);
    let bits = bits & !(0b11 << 62) | (0b10 << 62);
    let mut out = Vec::with_capacity(36);
    write!(
        out,
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        bits >> 96,
        bits >> 80 & 0xffff,
        bits >> 64 & 0xffff,
        bits >> 48 & 0xffff,
        bits & 0xffff_ffff_ffff
    )
    .expect("a vector takes every byte");
    String::from_utf8(out).expect("hexadecimal digits are text")
}

/// Facts of the stream and its connections.
pub(super) const FACTS: &[(&str, Fact)] = &[
    ("RESPONSE_CODE", |c| Value::Number(c.info.response_code.into())),
    ("RESPONSE_CODE_DETAILS", |c| Value::text(c.info.details.as_deref())),
    ("CONNECTION_TERMINATION_DETAILS", |c| Value::text(c.info.termination_details.as_deref())),
    ("RESPONSE_FLAGS", |c| Value::Flags(c.info.flags, false)),
    ("RESPONSE_FLAGS_LONG", |c| Value::Flags(c.info.flags, true)),
    ("PROTOCOL", |c| Value::text(c.info.protocol.map(|protocol| protocol.as_str()))),
    ("BYTES_RECEIVED", |c| Value::Number(c.info.bytes_received)),
    ("BYTES_SENT", |c| Value::Number(c.info.bytes_sent)),
    ("ROUTE_NAME", |c| Value::text(c.info.route_name.as_deref())),
    ("VIRTUAL_HOST_NAME", |c| Value::text(c.info.virtual_host.as_deref())),
    ("LOCAL_REPLY_BODY", |c| Value::Text(c.local_reply_body.unwrap_or(""))),
    // Only QUIC counts these.
    ("BYTES_RETRANSMITTED", |_| Value::Number(0)),
    ("PACKETS_RETRANSMITTED", |_| Value::Number(0)),
    // Filters of Envoy's may set some; there are none here that do.
    ("CUSTOM_FLAGS", |_| Value::Text("")),
    ("TRACE_ID", |c| Value::text(c.info.trace_id.as_deref())),
    ("UNIQUE_ID", |_| Value::Made(unique_id())),
    // Streams are recorded when they end, so these are the only two types there are.
    ("ACCESS_LOG_TYPE", |c| {
        Value::Text(if c.info.protocol.is_some() { "DownstreamEnd" } else { "TcpConnectionEnd" })
    }),
    // Durations, in milliseconds.
    ("DURATION", |c| Value::millis(c.info.duration)),
    ("REQUEST_DURATION", |c| Value::millis(c.info.request_complete)),
    ("REQUEST_TX_DURATION", |c| Value::millis(c.info.upstream.last_tx)),
    ("RESPONSE_DURATION", |c| Value::millis(c.info.upstream.first_rx)),
    ("RESPONSE_TX_DURATION", |c| match (c.info.upstream.first_rx, c.info.duration) {
        (Some(first), Some(end)) => Value::millis(end.checked_sub(first)),
        _ => Value::Missing,
    }),
    ("DOWNSTREAM_HANDSHAKE_DURATION", |c| {
        Value::millis(c.downstream_tls().and_then(|tls| tls.handshake))
    }),
    ("UPSTREAM_CONNECTION_POOL_READY_DURATION", |c| Value::millis(c.info.upstream.pool_ready)),
    // The downstream connection.
    ("CONNECTION_ID", |c| Value::Number(c.info.connection.id)),
    ("FILTER_CHAIN_NAME", |c| Value::text(Some(&c.info.connection.filter_chain_name))),
    ("DOWNSTREAM_REMOTE_ADDRESS", |c| Value::Address(c.info.remote())),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", |c| {
        Value::address_without_port(Some(c.info.remote()))
    }),
    ("DOWNSTREAM_REMOTE_PORT", |c| Value::port(Some(c.info.remote()))),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", |c| Value::Address(&c.info.connection.direct_remote)),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", |c| {
        Value::address_without_port(Some(&c.info.connection.direct_remote))
    }),
    ("DOWNSTREAM_DIRECT_REMOTE_PORT", |c| Value::port(Some(&c.info.connection.direct_remote))),
    ("DOWNSTREAM_LOCAL_ADDRESS", |c| Value::Address(&c.info.connection.local)),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", |c| {
        Value::address_without_port(Some(&c.info.connection.local))
    }),
    ("DOWNSTREAM_LOCAL_PORT", |c| Value::port(Some(&c.info.connection.local))),
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS", |c| Value::Address(&c.info.connection.direct_local)),
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", |c| {
        Value::address_without_port(Some(&c.info.connection.direct_local))
    }),
    ("DOWNSTREAM_DIRECT_LOCAL_PORT", |c| Value::port(Some(&c.info.connection.direct_local))),
    // Its TLS session.
    ("DOWNSTREAM_TLS_VERSION", |c| Value::text(c.downstream_tls().map(|tls| tls.version))),
    ("DOWNSTREAM_TLS_CIPHER", |c| Value::text(c.downstream_tls().map(|tls| &*tls.cipher))),
    ("DOWNSTREAM_TLS_SESSION_ID", |c| Value::text(c.downstream_tls().map(|tls| &*tls.session_id))),
    ("DOWNSTREAM_TLS_GROUP", |c| Value::text(c.downstream_tls().map(|tls| tls.group))),
    ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", |c| {
        in_one_word(c.info.connection.transport_failure.as_deref())
    }),
    ("DOWNSTREAM_PEER_CERT", |c| pem(c.downstream_tls())),
    ("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1", |c| {
        fingerprints(c.downstream_tls(), &SHA1_FOR_LEGACY_USE_ONLY)
    }),
    ("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256", |c| fingerprints(c.downstream_tls(), &SHA256)),
    ("DOWNSTREAM_PEER_SUBJECT", |c| text(c.downstream_peer(), |cert| &cert.subject)),
    ("DOWNSTREAM_PEER_ISSUER", |c| text(c.downstream_peer(), |cert| &cert.issuer)),
    ("DOWNSTREAM_PEER_SERIAL", |c| text(c.downstream_peer(), |cert| &cert.serial)),
    ("DOWNSTREAM_PEER_FINGERPRINT_1", |c| text(c.downstream_peer(), |cert| &cert.sha1)),
    ("DOWNSTREAM_PEER_FINGERPRINT_256", |c| text(c.downstream_peer(), |cert| &cert.sha256)),
    ("DOWNSTREAM_PEER_URI_SAN", |c| names(c.downstream_peer(), |cert| &cert.uri_sans)),
    ("DOWNSTREAM_PEER_DNS_SAN", |c| names(c.downstream_peer(), |cert| &cert.dns_sans)),
    ("DOWNSTREAM_PEER_IP_SAN", |c| names(c.downstream_peer(), |cert| &cert.ip_sans)),
    ("DOWNSTREAM_PEER_EMAIL_SAN", |c| names(c.downstream_peer(), |cert| &cert.email_sans)),
    ("DOWNSTREAM_LOCAL_SUBJECT", |c| text(c.downstream_local(), |cert| &cert.subject)),
    ("DOWNSTREAM_LOCAL_URI_SAN", |c| names(c.downstream_local(), |cert| &cert.uri_sans)),
    ("DOWNSTREAM_LOCAL_DNS_SAN", |c| names(c.downstream_local(), |cert| &cert.dns_sans)),
    ("DOWNSTREAM_LOCAL_IP_SAN", |c| names(c.downstream_local(), |cert| &cert.ip_sans)),
    ("DOWNSTREAM_LOCAL_EMAIL_SAN", |c| names(c.downstream_local(), |cert| &cert.email_sans)),
    // The upstream side.
    ("UPSTREAM_CLUSTER", |c| Value::text(c.info.upstream.cluster.as_deref())),
    ("UPSTREAM_CLUSTER_RAW", |c| Value::text(c.info.upstream.cluster.as_deref())),
    ("UPSTREAM_HOST", |c| Value::address(c.info.upstream.host.as_ref())),
    ("UPSTREAM_HOST_NAME", |c| c.upstream_host_name()),
    ("UPSTREAM_HOST_NAME_WITHOUT_PORT", |c| match c.upstream_host_name() {
        Value::Text(name) => Value::Text(without_port(name)),
        Value::Address(address) => Value::address_without_port(Some(address)),
        other => other,
    }),
    ("UPSTREAM_REMOTE_ADDRESS", |c| Value::address(c.info.upstream.host.as_ref())),
    ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", |c| {
        Value::address_without_port(c.info.upstream.host.as_ref())
    }),
    ("UPSTREAM_REMOTE_PORT", |c| Value::port(c.info.upstream.host.as_ref())),
    ("UPSTREAM_LOCAL_ADDRESS", |c| Value::address(c.info.upstream.local.as_ref())),
    ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", |c| {
        Value::address_without_port(c.info.upstream.local.as_ref())
    }),
    ("UPSTREAM_LOCAL_PORT", |c| Value::port(c.info.upstream.local.as_ref())),
    ("UPSTREAM_PROTOCOL", |c| Value::text(c.info.upstream.protocol.map(|p| p.as_str()))),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", |c| Value::Number(c.info.upstream.attempts.into())),
    ("UPSTREAM_CONNECTION_ID", |c| Value::Number(c.info.upstream.connection_id.unwrap_or(0))),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", |c| {
        in_one_word(c.info.upstream.transport_failure.as_deref())
    }),
    ("UPSTREAM_TLS_GROUP", |c| Value::text(c.upstream_tls().map(|tls| tls.group))),
    ("UPSTREAM_PEER_CERT", |c| pem(c.upstream_tls())),
    ("UPSTREAM_TLS_VERSION", |c| Value::text(c.upstream_tls().map(|tls| tls.version))),
    ("UPSTREAM_TLS_CIPHER", |c| Value::text(c.upstream_tls().map(|tls| &*tls.cipher))),
    ("UPSTREAM_TLS_SESSION_ID", |c| Value::text(c.upstream_tls().map(|tls| &*tls.session_id))),
    ("UPSTREAM_PEER_SUBJECT", |c| text(c.upstream_peer(), |cert| &cert.subject)),
    ("UPSTREAM_PEER_ISSUER", |c| text(c.upstream_peer(), |cert| &cert.issuer)),
    ("UPSTREAM_PEER_URI_SAN", |c| names(c.upstream_peer(), |cert| &cert.uri_sans)),
    ("UPSTREAM_PEER_DNS_SAN", |c| names(c.upstream_peer(), |cert| &cert.dns_sans)),
    ("UPSTREAM_PEER_IP_SAN", |c| names(c.upstream_peer(), |cert| &cert.ip_sans)),
    ("UPSTREAM_LOCAL_URI_SAN", |c| names(c.upstream_local(), |cert| &cert.uri_sans)),
    ("UPSTREAM_LOCAL_DNS_SAN", |c| names(c.upstream_local(), |cert| &cert.dns_sans)),
    ("UPSTREAM_LOCAL_IP_SAN", |c| names(c.upstream_local(), |cert| &cert.ip_sans)),
];

/// Facts that are made from headers.
pub(super) const HEAD_FACTS: &[(&str, Fact)] = &[
    ("GRPC_STATUS_NUMBER", |c| GrpcStatusStyle::Number.value(c)),
    ("REQUEST_HEADERS_BYTES", |c| Value::number(c.request.map(request_size))),
    ("RESPONSE_HEADERS_BYTES", |c| Value::number(c.response.map(response_size))),
    ("RESPONSE_TRAILERS_BYTES", |c| Value::number(c.trailers.map(map_size))),
    // The request id names the stream in every proxy that it passes.
    ("STREAM_ID", |c| match c.request.and_then(|request| request.headers.get("x-request-id")) {
        Some(id) => Value::Bytes(id.as_bytes()),
        None => Value::Missing,
    }),
];
