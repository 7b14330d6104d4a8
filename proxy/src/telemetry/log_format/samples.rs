//! A stream with known facts, for tests.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Format, FormatContext, RequestHead};
use crate::io::Address;
use crate::telemetry::response_flags::ResponseFlags;
use crate::telemetry::stream_info::{
    CertificateInfo, ConnectionInfo, Protocol, StreamInfo, TlsInfo, UpstreamInfo,
};

/// Owns what a [`FormatContext`] borrows.
pub(crate) struct Sample {
    pub(crate) info: StreamInfo,
    pub(crate) request: Option<RequestHead>,
    pub(crate) response: Option<HeaderMap>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Sample {
    pub(crate) fn context(&self) -> FormatContext<'_> {
        FormatContext {
            info: &self.info,
            request: self.request.as_ref(),
            response: self.response.as_ref(),
            trailers: self.trailers.as_ref(),
            local_reply_body: None,
        }
    }

    /// What a format string prints for this stream.
    pub(crate) fn print(&self, format: &str) -> String {
        let mut out = Vec::new();
        Format::parse(format).unwrap().write(&self.context(), &mut out);
        String::from_utf8(out).unwrap()
    }
}

fn address(text: &str) -> Address {
    Address::Ip(text.parse::<SocketAddr>().unwrap())
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    pairs.collect()
}

fn certificate() -> CertificateInfo {
    CertificateInfo {
        subject: "CN=client".into(),
        issuer: "CN=ca".into(),
        serial: "0a".into(),
        sha256: "256f".into(),
        sha1: "1f".into(),
        uri_sans: ["spiffe://a".into(), "spiffe://b".into()].into(),
        dns_sans: ["client.example".into()].into(),
        ip_sans: ["10.9.9.9".into()].into(),
        email_sans: [].into(),
        not_before: UNIX_EPOCH + Duration::from_secs(1),
        not_after: UNIX_EPOCH + Duration::from_secs(86_400),
    }
}

fn connection() -> ConnectionInfo {
    ConnectionInfo {
        id: 7,
        remote: address("10.0.0.1:1000"),
        direct_remote: address("10.0.0.2:2000"),
        local: address("[2001:db8::1]:80"),
        direct_local: Address::Pipe(std::path::Path::new("/run/p.sock").into()),
        local_restored: false,
        source: None,
        requested_server_name: Some("sni.example".into()),
        transport_protocol: "raw_buffer",
        application_protocols: Vec::new(),
        filter_state: Default::default(),
        filter_chain_name: "chain".into(),
        tls: Some(TlsInfo {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256".into(),
            handshake: Some(Duration::from_millis(4)),
            peer: Some(certificate().into()),
            ..TlsInfo::default()
        }),
        transport_failure: None,
        accepted: Instant::now(),
    }
}

/// An HTTP request that was forwarded and answered with 200.
pub(crate) fn http() -> Sample {
    let millis = |n| Some(Duration::from_millis(n));
    let mut info = StreamInfo::new(Rc::new(connection()), Some(Protocol::Http11));
    info.start_time = UNIX_EPOCH + Duration::new(1_795_521_119, 543_927_000);
    info.response_code = 200;
    info.set_metadata("n", "k", "text".into());
    info.details = Some("via_upstream".into());
    info.route_name = Some("toadmin".into());
    info.virtual_host = Some("v".into());
    info.bytes_received = 12;
    info.bytes_sent = 345;
    info.request_complete = millis(1);
    info.response_started = millis(6);
    info.duration = Some(Duration::from_micros(9_500));
    info.upstream = UpstreamInfo {
        host: Some(address("10.1.1.1:8080")),
        hostname: Some("up.example:8080".into()),
        cluster: Some("backend".into()),
        local: Some(address("10.1.0.1:4000")),
        protocol: Some(Protocol::Http2),
        connection_id: Some(3),
        attempts: 2,
        pool_ready: millis(0),
        first_tx: millis(1),
        last_tx: millis(2),
        first_rx: millis(5),
        last_rx: millis(8),
        ..UpstreamInfo::default()
    };
    let request = RequestHead {
        method: Method::GET,
        scheme: "http".into(),
        authority: "Host.example:80".into(),
        path: "/new?a=%20b&c".into(),
        headers: headers(&[
            ("x-envoy-original-path", "/old?a=1"),
            ("x-forwarded-for", "10.0.0.9"),
            ("user-agent", "curl"),
            ("x-request-id", "id-1"),
            ("x-empty", ""),
            ("x-quote", "a\"b"),
        ]),
    };
    Sample {
        info,
        request: Some(request),
        response: Some(headers(&[("x-envoy-upstream-service-time", "4")])),
        trailers: None,
    }
}

/// A TCP session without TLS that found no upstream host.
pub(crate) fn tcp() -> Sample {
    let connection = ConnectionInfo { requested_server_name: None, tls: None, ..connection() };
    let mut info = StreamInfo::new(Rc::new(connection), None);
    info.start_time = UNIX_EPOCH;
    info.flags = ResponseFlags::NO_HEALTHY_UPSTREAM;
    info.duration = Some(Duration::ZERO);
    Sample { info, request: None, response: None, trailers: None }
}
