//! What a connection and its request show to matchers.

use http::{HeaderMap, StatusCode};

use super::PseudoHeaders;
use crate::io::Address;
use crate::telemetry::filter_state::FilterState;
use crate::telemetry::stream_info::{CertificateInfo, ConnectionInfo, Metadata, StreamInfo};

/// A connection, and the request on it if there is one, as matchers see them. Borrowed, so that making it costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct MatchInput<'a> {
    /// The connection.
    pub connection: ConnectionView<'a>,
    /// The client's address: that of the connection, or what `x-forwarded-for` tells where it is believed.
    pub remote: &'a Address,
    /// The request; none for a connection that is not HTTP, or not yet.
    pub request: Option<RequestView<'a>>,
    /// The response's head, once it has come.
    pub response: Option<ResponseView<'a>>,
    /// What filters left for the stream.
    pub filter_state: Option<&'a FilterState>,
    /// Dynamic metadata: what filters have said so far.
    pub metadata: Option<&'a Metadata>,
    /// Metadata of the route; none without a route.
    pub route_metadata: Option<&'a Metadata>,
}

/// A request's head.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Method, scheme, authority and path.
    pub pseudo: PseudoHeaders<'a>,
    /// The other headers.
    pub headers: &'a HeaderMap,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
}

/// A response's head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseView<'a> {
    /// `:status`
    pub status: StatusCode,
    /// The other headers.
    pub headers: &'a HeaderMap,
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionView<'a> {
    /// `%CONNECTION_ID%`; 0 while there is none.
    pub id: u64,
    /// Where the peer meant to go.
    pub local: &'a Address,
    /// The peer, as the PROXY protocol may have told it.
    pub remote: &'a Address,
    /// The socket's peer.
    pub direct_remote: &'a Address,
    /// SNI in lower case; empty if none.
    pub server_name: &'a str,
    /// `tls` or `raw_buffer`.
    pub transport_protocol: &'a str,
    /// The client's ALPN list.
    pub application_protocols: &'a [String],
    /// What filters left for the connection.
    pub filter_state: Option<&'a FilterState>,
    /// The TLS session, once there is one.
    pub tls: Option<TlsView<'a>>,
}

/// A TLS session.
#[derive(Clone, Copy, Debug)]
pub struct TlsView<'a> {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// What the peer's certificate says; none if it presented none.
    pub peer: Option<&'a CertificateInfo>,
    /// What our certificate says.
    pub local: Option<&'a CertificateInfo>,
}

impl<'a> ConnectionView<'a> {
    /// The view of an established connection.
    pub fn of(info: &'a ConnectionInfo) -> Self {
        ConnectionView {
            id: info.id,
            local: &info.local,
            remote: &info.remote,
            direct_remote: &info.direct_remote,
            server_name: info.requested_server_name.as_deref().unwrap_or_default(),
            transport_protocol: info.transport_protocol,
            application_protocols: &info.application_protocols,
            filter_state: Some(&info.filter_state),
            tls: info.tls.as_ref().map(|tls| TlsView {
                version: tls.version,
                peer: tls.peer.as_deref(),
                local: tls.local.as_deref(),
            }),
        }
    }
}

impl<'a> MatchInput<'a> {
    /// A connection without a request.
    pub fn connection(connection: ConnectionView<'a>) -> Self {
        let remote = connection.remote;
        MatchInput {
            connection,
            remote,
            request: None,
            response: None,
            filter_state: None,
            metadata: None,
            route_metadata: None,
        }
    }

    /// A stream, with its request if it is HTTP.
    pub fn stream(
        info: &'a StreamInfo,
        request: Option<RequestView<'a>>,
        route_metadata: Option<&'a Metadata>,
    ) -> Self {
        MatchInput {
            connection: ConnectionView::of(&info.connection),
            remote: info.remote(),
            request,
            response: None,
            filter_state: Some(&info.filter_state),
            metadata: info.dynamic_metadata.as_deref(),
            route_metadata,
        }
    }

    /// The text that a filter left under `key`, for the stream or for its connection.
    pub fn filter_state(&self, key: &str) -> Option<&'a str> {
        let get = |state: Option<&'a FilterState>| state.and_then(|state| state.get(key));
        get(self.filter_state).or_else(|| get(self.connection.filter_state))
    }

    /// The request's path without query and fragment.
    pub fn path(&self) -> Option<&'a str> {
        let path = self.request?.pseudo.get(":path")?;
        Some(path.find(['?', '#']).map_or(path, |end| &path[..end]))
    }
}
