//! Operators that read where the request goes: its path, its query and the name of its server.

use std::borrow::Cow;

use super::value::Value;
use super::{FormatContext, RequestHead};

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
    match decoded_query_parameter(path, wanted) {
        None => Value::Missing,
        Some(Cow::Borrowed(text)) => Value::Text(text),
        Some(Cow::Owned(text)) => Value::Made(text),
    }
}

/// The first value of a query parameter of a path, percent-decoded as its name is.
pub fn decoded_query_parameter<'a>(path: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    let (_, query) = path.split_once('?')?;
    let query = query.split('#').next().unwrap_or(query);
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(name, _)| decode(name) == wanted).map(|(_, value)| decode(value))
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

    /// The host as the request names it, with its port if it has one.
    fn host<'a>(&self, request: &'a RequestHead) -> Option<&'a str> {
        let original = || request.headers.get("x-envoy-original-host")?.to_str().ok();
        let original = original().filter(|_| self.original);
        original.or(Some(&*request.authority).filter(|_| self.current))
    }
}

/// `host:80` without its port.
pub(super) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}
