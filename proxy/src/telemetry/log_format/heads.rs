//! Operators that read the request's and response's headers and trailers.

use http::header::HOST;
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
    // `host` is there as `:authority` already.
    let host = request.headers.get(HOST).map_or(0, |host| HOST.as_str().len() + host.len());
    pseudo as u64 + map_size(&request.headers) - host as u64
}
