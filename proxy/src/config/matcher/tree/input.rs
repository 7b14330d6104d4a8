//! The inputs of matcher trees.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use proto::envoy::extensions::matching::common_inputs::environment_variable::v3::Config as Environment;
use proto::envoy::extensions::matching::common_inputs::network::v3 as network;
use proto::envoy::extensions::matching::common_inputs::network::v3::dynamic_metadata_input::path_segment::Segment;
use proto::envoy::r#type::matcher::v3 as pb;
use proto::xds::core::v3::TypedExtensionConfig;
use serde_json::Value;

use super::Unknown;
use crate::config::listener::SourceType;
use crate::config::matcher::{MatchInput, MetadataPath};
use crate::config::value::{header_name, non_empty};
use crate::config::{At, ConfigError, any};
use crate::io::Address;
use crate::refuse_set;
use crate::telemetry::log_format::decoded_query_parameter;

/// What a tree is for, which says what its inputs may be taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The choice of a filter chain.
    Listener,
    /// Access control of connections.
    Connection,
    /// The choice of a route.
    Route,
    /// Access control of requests.
    Request,
    /// HTTP filters, which see responses too.
    Stream,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub enum Input {
    /// `HttpRequestHeaderMatchInput`: all values, joined by commas.
    Header(HeaderName),
    /// The same for a header with a colon, and for `host`.
    PseudoHeader(Box<str>),
    /// `HttpResponseHeaderMatchInput`: all values, joined by commas.
    ResponseHeader(HeaderName),
    /// `HttpResponseStatusCodeMatchInput`, and `HttpResponseHeaderMatchInput` of `:status`.
    Status,
    /// `HttpResponseStatusCodeClassMatchInput`: `2xx` and the like.
    StatusClass,
    /// `HttpRequestTrailerMatchInput` and `HttpResponseTrailerMatchInput`: no filter here sees trailers, so they never come.
    Trailer,
    /// `HttpRequestQueryParamMatchInput`: the first value, percent-decoded.
    QueryParameter(Box<str>),
    /// `HttpAttributesCelMatchInput`: for a `CelMatcher`.
    Attributes,
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
    /// `SourceTypeInput`: `local`, or nothing.
    SourceType,
    /// `ServerNameInput`
    ServerName,
    /// `TransportProtocolInput`
    TransportProtocol,
    /// `ApplicationProtocolInput`: each in single quotes, joined by commas.
    ApplicationProtocol,
    /// `UriSanInput`: all of the peer's, joined by commas.
    UriSan,
    /// `DnsSanInput`: all of the peer's, joined by commas.
    DnsSan,
    /// `SubjectInput`
    Subject,
    /// `FilterStateInput`
    FilterState(Box<str>),
    /// `DynamicMetadataInput`
    DynamicMetadata(MetadataPath),
    /// The `Config` of an environment variable: its value at start.
    Fixed(Option<Box<str>>),
}

impl Input {
    /// The value as text; none if there is none.
    ///
    /// # Errors
    /// It is about the peer's certificate, and the connection is no TLS, or about a response that has not come.
    pub(super) fn text<'a>(
        &'a self,
        input: &MatchInput<'a>,
    ) -> Result<Option<Cow<'a, str>>, Unknown> {
        let connection = &input.connection;
        let some = |text: &'a str| (!text.is_empty()).then_some(Cow::Borrowed(text));
        let peer = || connection.tls.as_ref().map(|tls| tls.peer).ok_or(Unknown);
        let response = || input.response.as_ref().ok_or(Unknown);
        let request = input.request.as_ref();
        Ok(match self {
            Input::Header(name) => request.and_then(|request| header(name, request.headers)),
            Input::PseudoHeader(name) => {
                request.and_then(|request| request.pseudo.get(name)).map(Cow::Borrowed)
            }
            Input::ResponseHeader(name) => header(name, response()?.headers),
            Input::Status => Some(response()?.status.as_u16().to_string().into()),
            Input::StatusClass => Some(format!("{}xx", response()?.status.as_u16() / 100).into()),
            Input::Trailer => return Err(Unknown),
            Input::QueryParameter(name) => {
                request.and_then(|request| decoded_query_parameter(request.pseudo.path, name))
            }
            Input::DestinationIp => ip(connection.local),
            Input::DestinationPort => port(connection.local),
            Input::SourceIp => ip(input.remote),
            Input::SourcePort => port(input.remote),
            Input::DirectSourceIp => ip(connection.direct_remote),
            Input::SourceType => match SourceType::of(connection.remote, connection.local) {
                SourceType::Local => Some("local".into()),
                _ => None,
            },
            Input::ServerName => some(connection.server_name),
            Input::TransportProtocol => some(connection.transport_protocol),
            Input::ApplicationProtocol => quoted(connection.application_protocols),
            Input::UriSan => peer()?.and_then(|peer| joined(&peer.uri_sans)),
            Input::DnsSan => peer()?.and_then(|peer| joined(&peer.dns_sans)),
            Input::Subject => peer()?.and_then(|peer| some(&peer.subject)),
            Input::FilterState(key) => input.filter_state(key).map(Cow::Borrowed),
            Input::Fixed(value) => value.as_deref().map(Cow::Borrowed),
            Input::Attributes | Input::DynamicMetadata(_) => None,
        })
    }

    /// The value as metadata.
    pub(super) fn metadata<'a>(&self, input: &MatchInput<'a>) -> Option<&'a Value> {
        match self {
            Input::DynamicMetadata(path) => path.find(input.metadata?),
            _ => None,
        }
    }

    /// Whether it gives texts.
    pub(super) fn is_text(&self) -> bool {
        !matches!(self, Input::Attributes | Input::DynamicMetadata(_))
    }

    /// An input. What a connection does not show, or a tree of this scope must not depend on, is none of its inputs.
    pub(super) fn from_proto(
        extension: &TypedExtensionConfig,
        scope: Scope,
        at: &At<'_>,
    ) -> Result<Input, ConfigError> {
        let config = extension.typed_config.as_ref();
        let at = at.field("typed_config");
        let name = any::type_name(config);
        if let Some(input) = Input::plain(name, scope) {
            return Ok(input);
        }
        if any::is::<network::FilterStateInput>(config) {
            let message: network::FilterStateInput = any::open(config, &at)?;
            refuse_set!(at, message, [field]);
            let key = non_empty(&message.key, &at.field("key"))?;
            return Ok(Input::FilterState(key.into()));
        }
        if any::is::<Environment>(config) {
            let message: Environment = any::open(config, &at)?;
            let name = non_empty(&message.name, &at.field("name"))?;
            return Ok(Input::Fixed(std::env::var(name).ok().map(Into::into)));
        }
        let http = Input::of_http(extension, scope, &at)?;
        http.ok_or_else(|| any::unknown(&extension.name, config, &at))
    }

    fn plain(name: &str, scope: Scope) -> Option<Input> {
        let mut packages = PACKAGES.iter();
        let (package, rest) =
            packages.find_map(|(key, package)| Some((key, name.strip_prefix(package)?)))?;
        let mut known = PLAIN.iter();
        let (.., scopes, input) = known.find(|(key, name, ..)| key == package && *name == rest)?;
        scopes.contains(&scope).then(|| input.clone())
    }

    /// An input of requests or responses, of those that `scope` may ask for.
    fn of_http(
        extension: &TypedExtensionConfig,
        scope: Scope,
        at: &At<'_>,
    ) -> Result<Option<Input>, ConfigError> {
        let config = extension.typed_config.as_ref();
        let headers = matches!(scope, Scope::Route | Scope::Request | Scope::Stream);
        if headers && any::is::<pb::HttpRequestHeaderMatchInput>(config) {
            let message: pb::HttpRequestHeaderMatchInput = any::open(config, at)?;
            return Input::header(&message.header_name, &at.field("header_name")).map(Some);
        }
        if !matches!(scope, Scope::Request | Scope::Stream) {
            return Ok(None);
        }
        if any::is::<network::DynamicMetadataInput>(config) {
            let message: network::DynamicMetadataInput = any::open(config, at)?;
            let keys = message.path.iter().map(|segment| match &segment.segment {
                Some(Segment::Key(key)) => key.as_str(),
                None => "",
            });
            return MetadataPath::new(&message.filter, keys, at)
                .map(|path| Some(Input::DynamicMetadata(path)));
        }
        if scope == Scope::Stream && any::is::<pb::HttpRequestQueryParamMatchInput>(config) {
            let message: pb::HttpRequestQueryParamMatchInput = any::open(config, at)?;
            let name = non_empty(&message.query_param, &at.field("query_param"))?;
            return Ok(Some(Input::QueryParameter(name.into())));
        }
        if scope == Scope::Stream && any::is::<pb::HttpResponseHeaderMatchInput>(config) {
            let message: pb::HttpResponseHeaderMatchInput = any::open(config, at)?;
            return Ok(Some(match message.header_name.as_str() {
                ":status" => Input::Status,
                name => Input::ResponseHeader(header_name(name, &at.field("header_name"))?),
            }));
        }
        Ok(None)
    }

    fn header(name: &str, at: &At<'_>) -> Result<Input, ConfigError> {
        match name.to_ascii_lowercase().as_str() {
            "host" => Ok(Input::PseudoHeader(":authority".into())),
            name if name.starts_with(':') => Ok(Input::PseudoHeader(name.into())),
            name => header_name(name, at).map(Input::Header),
        }
    }
}

fn header<'a>(name: &HeaderName, headers: &'a HeaderMap) -> Option<Cow<'a, str>> {
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

fn quoted(names: &[String]) -> Option<Cow<'static, str>> {
    let quoted: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
    (!quoted.is_empty()).then(|| quoted.join(",").into())
}

fn ip(address: &Address) -> Option<Cow<'static, str>> {
    address.ip().map(|address| address.ip().to_string().into())
}

fn port(address: &Address) -> Option<Cow<'static, str>> {
    address.port().map(|port| port.to_string().into())
}

/// The scopes of what every connection shows.
const CONNECTIONS: &[Scope] = &[Scope::Listener, Scope::Connection, Scope::Request, Scope::Stream];
/// The scopes of what only is known before there is a protocol.
const DETECTED: &[Scope] = &[Scope::Listener, Scope::Connection];
/// The scopes that come after a TLS handshake.
const SESSIONS: &[Scope] = &[Scope::Connection, Scope::Request, Scope::Stream];
const REQUESTS: &[Scope] = &[Scope::Request, Scope::Stream];
const RESPONSES: &[Scope] = &[Scope::Stream];

/// What the names of inputs begin with.
const PACKAGES: [(&str, &str); 3] = [
    ("common", "envoy.extensions.matching.common_inputs."),
    ("http", "envoy.type.matcher.v3."),
    ("xds", "xds.type.matcher.v3."),
];

/// The inputs without fields that matter, with the scopes that may ask for them.
const PLAIN: &[(&str, &str, &[Scope], Input)] = &[
    ("common", "network.v3.DestinationIPInput", CONNECTIONS, Input::DestinationIp),
    ("common", "network.v3.DestinationPortInput", CONNECTIONS, Input::DestinationPort),
    ("common", "network.v3.SourceIPInput", CONNECTIONS, Input::SourceIp),
    ("common", "network.v3.SourcePortInput", CONNECTIONS, Input::SourcePort),
    ("common", "network.v3.DirectSourceIPInput", CONNECTIONS, Input::DirectSourceIp),
    ("common", "network.v3.SourceTypeInput", DETECTED, Input::SourceType),
    ("common", "network.v3.ServerNameInput", CONNECTIONS, Input::ServerName),
    ("common", "network.v3.TransportProtocolInput", DETECTED, Input::TransportProtocol),
    ("common", "network.v3.ApplicationProtocolInput", DETECTED, Input::ApplicationProtocol),
    ("common", "ssl.v3.UriSanInput", SESSIONS, Input::UriSan),
    ("common", "ssl.v3.DnsSanInput", SESSIONS, Input::DnsSan),
    ("common", "ssl.v3.SubjectInput", SESSIONS, Input::Subject),
    ("xds", "HttpAttributesCelMatchInput", REQUESTS, Input::Attributes),
    ("http", "HttpRequestTrailerMatchInput", RESPONSES, Input::Trailer),
    ("http", "HttpResponseTrailerMatchInput", RESPONSES, Input::Trailer),
    ("http", "HttpResponseStatusCodeMatchInput", RESPONSES, Input::Status),
    ("http", "HttpResponseStatusCodeClassMatchInput", RESPONSES, Input::StatusClass),
];
