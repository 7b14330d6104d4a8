//! The facts of one connection and of one stream, gathered while it lives and read by access logs and formatters.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::io::{Address, Fault};
use crate::telemetry::filter_state::FilterState;
use crate::telemetry::response_flags::ResponseFlags;

/// Metadata, by namespace: each value is an object.
pub type Metadata = std::collections::BTreeMap<String, serde_json::Value>;

/// The protocol of a stream, as `%PROTOCOL%` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

impl Protocol {
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }
    }
}

/// What is known of a TLS session, for access logs and `x-forwarded-client-cert`.
#[derive(Clone, Debug, Default)]
pub struct TlsInfo {
    /// `%DOWNSTREAM_TLS_VERSION%`, for example `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite in OpenSSL's spelling.
    pub cipher: Arc<str>,
    /// The group that keys were agreed in, for example `X25519`; empty if none was.
    pub group: &'static str,
    /// The negotiated application protocol, empty if none.
    pub alpn: Arc<str>,
    /// `%DOWNSTREAM_TLS_SESSION_ID%` in hexadecimal digits, empty if there is none.
    pub session_id: Arc<str>,
    /// The peer's certificate chain in DER, leaf first; empty if none was presented.
    pub peer_certificates: Arc<[Vec<u8>]>,
    /// Whether the peer's certificate is known to be good, and not just let in.
    pub validated: bool,
    /// What the peer's certificate says, if it presented one.
    pub peer: Option<Arc<CertificateInfo>>,
    /// What our own certificate says, if we presented one.
    pub local: Option<Arc<CertificateInfo>>,
    /// How long the handshake took.
    pub handshake: Option<Duration>,
    /// What has broken the session since.
    pub fault: Arc<Fault>,
}

/// What a certificate says, as Envoy prints it.
#[derive(Clone, Debug)]
pub struct CertificateInfo {
    /// The subject's distinguished name (RFC 2253).
    pub subject: Box<str>,
    /// The issuer's distinguished name (RFC 2253).
    pub issuer: Box<str>,
    /// The serial number in lower-case hexadecimal digits.
    pub serial: Box<str>,
    /// The SHA-256 digest of the certificate in lower-case hexadecimal digits.
    pub sha256: Box<str>,
    /// The SHA-1 digest of the certificate in lower-case hexadecimal digits.
    pub sha1: Box<str>,
    /// URI alternative names: SPIFFE identities.
    pub uri_sans: Box<[Box<str>]>,
    /// DNS alternative names.
    pub dns_sans: Box<[Box<str>]>,
    /// IP address alternative names.
    pub ip_sans: Box<[Box<str>]>,
    /// E-mail alternative names.
    pub email_sans: Box<[Box<str>]>,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

/// The facts of a downstream connection; one per connection, shared by its streams.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// `%CONNECTION_ID%`: counts up from 1 within the process.
    pub id: u64,
    /// The address the peer says it has: the direct peer, or what the PROXY protocol told.
    pub remote: Address,
    /// The address of the socket's peer.
    pub direct_remote: Address,
    /// The address the peer meant to reach: the socket's own, or a restored original destination.
    pub local: Address,
    /// The address of the accepted socket.
    pub direct_local: Address,
    /// Whether a listener filter restored [`Self::local`]: where the peer went before it was redirected.
    pub local_restored: bool,
    /// What connections to hosts must seem to come from; none for this machine.
    pub source: Option<crate::io::Source>,
    /// The SNI that the client asked for, in lower case.
    pub requested_server_name: Option<Arc<str>>,
    /// `tls` or `raw_buffer`, as listener filters found out.
    pub transport_protocol: &'static str,
    /// The client's ALPN list, or the version of HTTP that it speaks, as listener filters found out.
    pub application_protocols: Vec<String>,
    /// What filters left for every stream of the connection.
    pub filter_state: FilterState,
    /// The name of the filter chain that serves the connection.
    pub filter_chain_name: Arc<str>,
    /// The TLS session, if there is one.
    pub tls: Option<TlsInfo>,
    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`: why the handshake failed.
    pub transport_failure: Option<Arc<str>>,
    /// When the connection was accepted.
    pub accepted: Instant,
}

impl ConnectionInfo {
    /// Where the peer went before it was redirected to the listener; none if it was not.
    pub fn original_dst(&self) -> Option<std::net::SocketAddr> {
        self.local.ip().filter(|_| self.local_restored)
    }
}

/// The facts of one upstream attempt: the last one is what the access log tells.
#[derive(Clone, Debug, Default)]
pub struct UpstreamInfo {
    /// `%UPSTREAM_HOST%`: the host picked.
    pub host: Option<Address>,
    /// `%UPSTREAM_HOST_NAME%`: the endpoint's hostname.
    pub hostname: Option<Arc<str>>,
    /// `%UPSTREAM_CLUSTER%`.
    pub cluster: Option<Arc<str>>,
    /// `%UPSTREAM_LOCAL_ADDRESS%`.
    pub local: Option<Address>,
    /// `%UPSTREAM_PROTOCOL%`.
    pub protocol: Option<Protocol>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub transport_failure: Option<Arc<str>>,
    /// `%UPSTREAM_CONNECTION_ID%`.
    pub connection_id: Option<u64>,
    /// The TLS session with the host.
    pub tls: Option<Arc<TlsInfo>>,
    /// When connecting to the host began, from the stream's start; none for a connection that was there already.
    pub connect_start: Option<Duration>,
    /// When TCP was connected, from the stream's start.
    pub connected: Option<Duration>,
    /// When the TLS handshake with the host was done, from the stream's start.
    pub handshake_complete: Option<Duration>,
    /// `%UPSTREAM_CONNECTION_POOL_READY_DURATION%`: when the pool gave a connection, from the stream's start.
    pub pool_ready: Option<Duration>,
    /// `%UPSTREAM_REQUEST_ATTEMPT_COUNT%`; 0 if no attempt was made.
    pub attempts: u32,
    /// When the first byte of the request went upstream, from the stream's start.
    pub first_tx: Option<Duration>,
    /// When the last byte of the request went upstream, from the stream's start.
    pub last_tx: Option<Duration>,
    /// When the response's headers came, from the stream's start.
    pub first_rx: Option<Duration>,
    /// When the last byte of the response came, from the stream's start.
    pub last_rx: Option<Duration>,
}

/// The facts of one stream: an HTTP request with its response, or a TCP session.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// The connection that carries it.
    pub connection: Rc<ConnectionInfo>,
    /// The client that `x-forwarded-for` tells of, where it is believed.
    pub forwarded_for: Option<Address>,
    /// When it started, on the monotonic clock.
    pub start: Instant,
    /// When it started, on the wall clock.
    pub start_time: SystemTime,
    /// `%PROTOCOL%`; none for TCP.
    pub protocol: Option<Protocol>,
    /// `%RESPONSE_CODE%`; 0 if no response was sent.
    pub response_code: u16,
    /// `%RESPONSE_FLAGS%`.
    pub flags: ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: Option<Cow<'static, str>>,
    /// `%CONNECTION_TERMINATION_DETAILS%`.
    pub termination_details: Option<Cow<'static, str>>,
    /// `%ROUTE_NAME%`.
    pub route_name: Option<Arc<str>>,
    /// `%VIRTUAL_HOST_NAME%`.
    pub virtual_host: Option<Arc<str>>,
    /// `%TRACE_ID%`.
    pub trace_id: Option<Box<str>>,
    /// Whether the request is a health check that this proxy answers (`not_health_check_filter`).
    pub health_check: bool,
    /// Whether the stream's trace is sampled (`traceable_filter`).
    pub traced: bool,
    /// Dynamic metadata; none until a filter sets some.
    pub dynamic_metadata: Option<Box<Metadata>>,
    /// What filters left for this stream alone.
    pub filter_state: FilterState,
    /// The upstream side.
    pub upstream: UpstreamInfo,
    /// `%BYTES_RECEIVED%`: body bytes from the downstream.
    pub bytes_received: u64,
    /// `%BYTES_SENT%`: body bytes to the downstream.
    pub bytes_sent: u64,
    /// When the last byte of the request came from the downstream (`%REQUEST_DURATION%`).
    pub request_complete: Option<Duration>,
    /// When the first byte of the response went downstream.
    pub response_started: Option<Duration>,
    /// When the stream ended (`%DURATION%`).
    pub duration: Option<Duration>,
}

impl StreamInfo {
    /// A stream that starts now on `connection`.
    pub fn new(connection: Rc<ConnectionInfo>, protocol: Option<Protocol>) -> Self {
        StreamInfo {
            connection,
            forwarded_for: None,
            start: Instant::now(),
            start_time: SystemTime::now(),
            protocol,
            response_code: 0,
            flags: ResponseFlags::NONE,
            details: None,
            termination_details: None,
            route_name: None,
            virtual_host: None,
            trace_id: None,
            health_check: false,
            traced: false,
            dynamic_metadata: None,
            filter_state: FilterState::default(),
            upstream: UpstreamInfo::default(),
            bytes_received: 0,
            bytes_sent: 0,
            request_complete: None,
            response_started: None,
            duration: None,
        }
    }

    /// `%DOWNSTREAM_REMOTE_ADDRESS%`
    pub fn remote(&self) -> &Address {
        self.forwarded_for.as_ref().unwrap_or(&self.connection.remote)
    }

    /// The text that a filter left under `key`, for this stream or for its connection.
    pub fn filter_state(&self, key: &str) -> Option<&str> {
        self.filter_state.get(key).or_else(|| self.connection.filter_state.get(key))
    }

    /// Sets a value of dynamic metadata: `key` in `namespace`.
    pub fn set_metadata(&mut self, namespace: &str, key: &str, value: serde_json::Value) {
        let metadata = self.dynamic_metadata.get_or_insert_default();
        let fields = metadata.entry(namespace.to_owned()).or_insert_with(|| json!({}));
        fields[key] = value;
    }

    /// The time since the stream's start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
