//! Operators that read the request's and response's headers and trailers.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

use super::value::Value;
use super::{FormatContext, RequestHead};

/// `X?Y`: a header, and another one for when it is absent.
#[derive(Clone, Debug)]
pub(super) struct HeaderQuery {
    main: Name,
    alternative: Option<Name>,
}

#[derive(Clone, Debug)]
enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Status,
    Header(HeaderName),
}

impl Name {
    fn parse(text: &str) -> Result<Name, String> {
        let lower = text.to_ascii_lowercase();
        Ok(match lower.as_str() {
            ":method" => Name::Method,
            ":scheme" => Name::Scheme,
            ":authority" | "host" => Name::Authority,
            ":path" => Name::Path,
            ":status" => Name::Status,
            name => Name::Header(
                HeaderName::try_from(name).map_err(|_| format!("\"{text}\" is no header name"))?,
            ),
        })
    }
}

impl HeaderQuery {
    /// Parses `X` or `X?Y`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (main, alternative) = match text.split_once('?') {
            Some((main, alternative)) => (main, Some(alternative)),
            None => (text, None),
        };
        let alternative = alternative.map(Name::parse).transpose()?;
        Ok(HeaderQuery { main: Name::parse(main)?, alternative })
    }

    /// The value in the request; an empty value is there, as in Envoy.
    pub(super) fn in_request<'a>(&self, context: FormatContext<'a>) -> Value<'a> {
        let Some(request) = context.request else { return Value::Missing };
        self.first(|name| match name {
            Name::Method => Some(request.method.as_str().as_bytes()),
            Name::Scheme => pseudo(&request.scheme),
            Name::Authority => pseudo(&request.authority),
            Name::Path => pseudo(&request.path),
            Name::Status => None,
            Name::Header(name) => request.headers.get(name).map(|value| value.as_bytes()),
        })
    }

    /// The value in the response's headers.
    pub(super) fn in_response<'a>(&self, context: FormatContext<'a>) -> Value<'a> {
        if let (Name::Status, Some(_)) = (&self.main, context.response) {
            return Value::Made(context.info.response_code.to_string());
        }
        self.in_map(context.response)
    }

    /// The value in a map that has no pseudo headers.
    pub(super) fn in_map<'a>(&self, map: Option<&'a HeaderMap>) -> Value<'a> {
        let Some(map) = map else { return Value::Missing };
        self.first(|name| match name {
            Name::Header(name) => map.get(name).map(|value| value.as_bytes()),
            _ => None,
        })
    }

    fn first<'a>(&self, get: impl Fn(&Name) -> Option<&'a [u8]>) -> Value<'a> {
        let alternative = || self.alternative.as_ref().and_then(&get);
        get(&self.main).or_else(alternative).map_or(Value::Missing, Value::Bytes)
    }
}

fn pseudo(value: &str) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value.as_bytes())
}

/// `%PATH(X:Y)%`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathQuery {
    with_query: bool,
    original: bool,
    current: bool,
}

impl PathQuery {
    /// Parses `WQ` or `NQ`, and `ORIG`, `PATH` or `ORIG_OR_PATH`; the defaults are `WQ:ORIG_OR_PATH`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (query, source) = text.split_once(':').unwrap_or((text, ""));
        let with_query = match query {
            "" | "WQ" => true,
            "NQ" => false,
            _ => return Err(format!("\"{query}\" is neither WQ nor NQ")),
        };
        let (original, current) = match source {
            "" | "ORIG_OR_PATH" => (true, true),
            "ORIG" => (true, false),
            "PATH" => (false, true),
            _ => return Err(format!("\"{source}\" is not ORIG, PATH or ORIG_OR_PATH")),
        };
        Ok(PathQuery { with_query, original, current })
    }

    /// The path that is asked for.
    pub(super) fn value<'a>(&self, context: FormatContext<'a>) -> Value<'a> {
        let Some(request) = context.request else { return Value::Missing };
        let original = original_path(request).filter(|_| self.original);
        let current = Some(&*request.path).filter(|_| self.current);
        let path = original.or(current);
        Value::text(match self.with_query {
            true => path,
            false => path.map(without_query),
        })
    }
}

fn original_path(request: &RequestHead) -> Option<&str> {
    request.headers.get("x-envoy-original-path")?.to_str().ok()
}

fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or(path)
}

/// `%QUERY_PARAM(X)%`: the first value of a query parameter of the (original) path, percent-decoded.
pub(super) fn query_parameter<'a>(wanted: &str, context: FormatContext<'a>) -> Value<'a> {
    let Some(request) = context.request else { return Value::Missing };
    let path = original_path(request).unwrap_or(&request.path);
    let Some((_, query)) = path.split_once('?') else { return Value::Missing };
    let query = query.split('#').next().unwrap_or(query);
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    match pairs.into_iter().find(|(name, _)| decode(name) == wanted) {
        None => Value::Missing,
        Some((_, value)) => match decode(value) {
            Cow::Borrowed(text) => Value::Text(text),
            Cow::Owned(text) => Value::Made(text),
        },
    }
}

/// Replaces `%41` by `A`; what is no such escape stays.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
        match (bytes[index], hex(index + 1), hex(index + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                index += 3;
            }
            (byte, _, _) => {
                decoded.push(byte);
                index += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

/// `%REQUESTED_SERVER_NAME(X:Y)%`: the SNI, or the host that the request names.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerNameQuery {
    order: NameOrder,
    original: bool,
    current: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameOrder {
    SniOnly,
    SniFirst,
    HostFirst,
}

impl ServerNameQuery {
    /// Parses `SNI_ONLY`, `SNI_FIRST` or `HOST_FIRST`, and `ORIG`, `HOST` or `ORIG_OR_HOST`; the defaults are
    /// `SNI_ONLY:ORIG_OR_HOST`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (order, source) = text.split_once(':').unwrap_or((text, ""));
        let order = match order {
            "" | "SNI_ONLY" => NameOrder::SniOnly,
            "SNI_FIRST" => NameOrder::SniFirst,
            "HOST_FIRST" => NameOrder::HostFirst,
            _ => return Err(format!("\"{order}\" is not SNI_ONLY, SNI_FIRST or HOST_FIRST")),
        };
        let (original, current) = match source {
            "" | "ORIG_OR_HOST" => (true, true),
            "ORIG" => (true, false),
            "HOST" => (false, true),
            _ => return Err(format!("\"{source}\" is not ORIG, HOST or ORIG_OR_HOST")),
        };
        Ok(ServerNameQuery { order, original, current })
    }

    /// The name that is asked for.
    pub(super) fn value<'a>(&self, context: FormatContext<'a>) -> Value<'a> {
        let sni = context.info.connection.requested_server_name.as_deref();
        let host = context.request.and_then(|request| self.host(request));
        Value::text(match self.order {
            NameOrder::SniOnly => sni,
            NameOrder::SniFirst => sni.or(host),
            NameOrder::HostFirst => host.or(sni),
        })
    }

    /// The host without port, if it is a name.
    fn host<'a>(&self, request: &'a RequestHead) -> Option<&'a str> {
        let original = || request.headers.get("x-envoy-original-host")?.to_str().ok();
        let original = original().filter(|_| self.original);
        let authority = original.or(Some(&*request.authority).filter(|_| self.current))?;
        let host = without_port(authority);
        (!host.starts_with('[') && host.parse::<std::net::IpAddr>().is_err()).then_some(host)
    }
}

/// `host:80` without its port.
pub(super) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// The bytes of names and values of a header map.
pub(super) fn map_size(map: &HeaderMap) -> u64 {
    map.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

/// The bytes of names and values of a response's headers, with its pseudo header.
pub(super) fn response_size(headers: &HeaderMap) -> u64 {
    map_size(headers) + ":status200".len() as u64
}

/// The bytes of names and values of a request's headers, with its pseudo headers.
pub(super) fn request_size(request: &RequestHead) -> u64 {
    let pseudo = [
        (":method", request.method.as_str()),
        (":scheme", &request.scheme),
        (":authority", &request.authority),
        (":path", &request.path),
    ];
    let present = pseudo.iter().filter(|(_, value)| !value.is_empty());
    let pseudo: usize = present.map(|(name, value)| name.len() + value.len()).sum();
    pseudo as u64 + map_size(&request.headers)
}

/// How `%GRPC_STATUS%` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrpcStatusStyle {
    /// `CAMEL_STRING`, the default: `NotFound`
    Camel,
    /// `SNAKE_STRING`: `NOT_FOUND`
    Snake,
    /// `NUMBER`: `5`
    Number,
}

impl GrpcStatusStyle {
    /// Parses the argument.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "CAMEL_STRING" => Ok(GrpcStatusStyle::Camel),
            "SNAKE_STRING" => Ok(GrpcStatusStyle::Snake),
            "NUMBER" => Ok(GrpcStatusStyle::Number),
            _ => Err(format!("\"{text}\" is not CAMEL_STRING, SNAKE_STRING or NUMBER")),
        }
    }

    /// The status in this style; one that gRPC does not define is its number.
    pub(super) fn value<'a>(self, context: FormatContext<'a>) -> Value<'a> {
        let Some(status) = grpc_status(&context) else { return Value::Missing };
        match (self, GRPC_NAMES.get(status as usize)) {
            (GrpcStatusStyle::Camel, Some((camel, _))) => Value::Text(camel),
            (GrpcStatusStyle::Snake, Some((_, snake))) => Value::Text(snake),
            _ => Value::Number(status.into()),
        }
    }
}

/// The names of the gRPC statuses 0 to 16.
const GRPC_NAMES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// See [`FormatContext::grpc_status`].
pub(super) fn grpc_status(context: &FormatContext<'_>) -> Option<u32> {
    let content_type = context.request?.headers.get(http::header::CONTENT_TYPE)?.as_bytes();
    let subtype = content_type.strip_prefix(b"application/grpc")?;
    if !matches!(subtype.first(), None | Some(b'+' | b';')) {
        return None;
    }
    let told = [context.trailers, context.response].into_iter().flatten();
    let told = told.filter_map(|map| map.get("grpc-status")).next();
    match told {
        // Envoy's InvalidCode prints as 4294967295; Unknown is what gRPC clients make of it.
        Some(status) => Some(status.to_str().ok().and_then(|s| s.parse().ok()).unwrap_or(2)),
        None => match context.info.response_code {
            0 => None,
            400 => Some(13),
            401 => Some(16),
            403 => Some(7),
            404 => Some(12),
            429 | 502 | 503 | 504 => Some(14),
            _ => Some(2),
        },
    }
}
