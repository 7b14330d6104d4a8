//! The inputs of matcher trees.

use std::borrow::Cow;

use http::HeaderName;
use serde_json::Value;

use super::Unknown;
use crate::config::matcher::{MatchInput, MetadataPath};
use crate::io::Address;

/// What the inputs of a tree may be taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Access control of connections.
    Connection,
    /// Access control of requests.
    Request,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub enum Input {
    /// `HttpRequestHeaderMatchInput`: all values, joined by commas.
    Header(HeaderName),
    /// The same for a header with a colon, and for `host`.
    PseudoHeader(Box<str>),
    /// `DestinationIPInput`
    DestinationIp,
    /// `DestinationPortInput`
    DestinationPort,
    /// `SourceIPInput`
    SourceIp,
    /// `SourcePortInput`
    SourcePort,
    /// `DirectSourceIPInput`
    DirectSourceIp,
    /// `ServerNameInput`
    ServerName,
    /// `UriSanInput`: all of the peer's, joined by commas.
    UriSan,
    /// `DnsSanInput`: all of the peer's, joined by commas.
    DnsSan,
    /// `SubjectInput`
    Subject,
    /// `FilterStateInput`: nothing in Pillion sets filter state that a configuration can name.
    FilterState,
    /// `DynamicMetadataInput`
    DynamicMetadata(MetadataPath),
}

impl Input {
    /// The value as text; none if there is none, or if it is none of texts.
    ///
    /// # Errors
    /// It is about the peer's certificate, and the connection is no TLS.
    pub(super) fn text<'a>(&self, input: &MatchInput<'a>) -> Result<Option<Cow<'a, str>>, Unknown> {
        let connection = &input.connection;
        let some = |text: &'a str| (!text.is_empty()).then_some(Cow::Borrowed(text));
        let peer = || connection.tls.as_ref().map(|tls| tls.peer).ok_or(Unknown);
        Ok(match self {
            Input::Header(name) => {
                input.request.and_then(|request| joined_header(name, request.headers))
            }
            Input::PseudoHeader(name) => {
                input.request.and_then(|request| request.pseudo.get(name)).map(Cow::Borrowed)
            }
            Input::DestinationIp => ip(connection.local),
            Input::DestinationPort => port(connection.local),
            Input::SourceIp => ip(input.remote),
            Input::SourcePort => port(input.remote),
            Input::DirectSourceIp => ip(connection.direct_remote),
            Input::ServerName => some(connection.server_name),
            Input::UriSan => peer()?.and_then(|peer| joined(&peer.uri_sans)),
            Input::DnsSan => peer()?.and_then(|peer| joined(&peer.dns_sans)),
            Input::Subject => peer()?.and_then(|peer| some(&peer.subject)),
            Input::FilterState | Input::DynamicMetadata(_) => None,
        })
    }

    /// The value as metadata.
    pub(super) fn metadata<'a>(&self, input: &MatchInput<'a>) -> Option<&'a Value> {
        match self {
            Input::DynamicMetadata(path) => path.find(input.metadata?),
            _ => None,
        }
    }
}

fn joined_header<'a>(name: &HeaderName, headers: &'a http::HeaderMap) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()));
    let first = values.next()?;
    Some(values.fold(first, |joined, value| format!("{joined},{value}").into()))
}

fn joined(names: &[Box<str>]) -> Option<Cow<'_, str>> {
    match names {
        [] => None,
        [only] => Some(Cow::Borrowed(only)),
        several => Some(several.join(",").into()),
    }
}

fn ip(address: &Address) -> Option<Cow<'static, str>> {
    address.ip().map(|address| address.ip().to_string().into())
}

fn port(address: &Address) -> Option<Cow<'static, str>> {
    address.port().map(|port| port.to_string().into())
}
