//! What an authorization server says, and what becomes of the request by it.

use http::header::{HOST, SET_COOKIE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use proto::envoy::config::core::v3::HeaderValueOption;
use proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use proto::envoy::service::auth::v3::check_response::HttpResponse;
use proto::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse, OkHttpResponse};
use serde_json::{Map, Value};

use bytes::Bytes;

use crate::http::request;
use crate::http::sanitize::append_to_list;

/// The server's verdict.
#[derive(Debug)]
pub enum Verdict {
    /// The request goes on.
    Allowed(Allowed),
    /// The server answers it.
    Denied(Denied),
    /// The server wants something that HTTP cannot say.
    Invalid,
}

/// How the request changes on its way.
#[derive(Debug, Default)]
pub struct Allowed {
    /// Changes of its headers.
    pub request: Vec<Change>,
    /// Headers taken out.
    pub remove: Vec<HeaderName>,
    /// Changes of its response's headers.
    pub response: Vec<Change>,
    /// Query parameters that are set.
    pub set_query: Vec<(String, String)>,
    /// Query parameters that are taken out.
    pub remove_query: Vec<String>,
    /// Dynamic metadata.
    pub metadata: Map<String, Value>,
}

/// An answer in place of the host's.
#[derive(Debug)]
pub struct Denied {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, besides those that tell of the body.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its body.
    pub body: Bytes,
}

/// A change of one header.
#[derive(Clone, Debug)]
pub struct Change {
    /// The header.
    pub name: HeaderName,
    /// The value.
    pub value: HeaderValue,
    /// What becomes of values that are there.
    pub how: How,
}

/// How a header changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The value replaces what is there.
    Set,
    /// The value comes to what is there.
    Append,
    /// The value stands behind the last one that is there, in one list; unless nothing is there.
    JoinExisting,
    /// The value counts only where nothing is there.
    IfAbsent,
    /// The value replaces what is there, unless nothing is there.
    Replace,
}

impl Change {
    /// Changes the headers.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let (name, value) = (self.name.clone(), self.value.clone());
        let present = headers.contains_key(&name);
        match self.how {
            How::Append => drop(headers.append(name, value)),
            How::JoinExisting if present => append_to_list(headers, &name, &value, ","),
            How::IfAbsent if present => {}
            How::JoinExisting => {}
            How::Replace if !present => {}
            How::Set | How::IfAbsent | How::Replace => drop(headers.insert(name, value)),
        }
    }
}

impl Allowed {
    /// Whether the request is another one afterwards.
    pub fn changes_request(&self) -> bool {
        !(self.request.is_empty()
            && self.remove.is_empty()
            && self.set_query.is_empty()
            && self.remove_query.is_empty())
    }

    /// Changes the request.
    pub fn apply(&self, parts: &mut Parts) {
        self.request.iter().for_each(|change| change.apply(&mut parts.headers));
        for name in self.remove.iter().filter(|name| **name != HOST) {
            parts.headers.remove(name);
        }
        if self.set_query.is_empty() && self.remove_query.is_empty() {
            return;
        }
        let path = self.rewritten(request::path(&parts.uri));
        if let Ok(path) = PathAndQuery::try_from(path) {
            parts.uri = Uri::from(path);
        }
    }

    /// The path with its query changed: parameters in the order of their names, as Envoy writes them.
    fn rewritten(&self, path: &str) -> String {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut parameters = std::collections::BTreeMap::<&str, Vec<&str>>::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            parameters.entry(key).or_default().push(value);
        }
        for (key, value) in &self.set_query {
            parameters.insert(key, vec![value]);
        }
        for key in &self.remove_query {
            parameters.remove(key.as_str());
        }
        let pairs = parameters
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| format!("{key}={value}")));
        let query = pairs.collect::<Vec<_>>().join("&");
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }
}

impl Verdict {
    /// What a `CheckResponse` says. What cannot stand in a header is left out, or, where the answer is `strict`ly checked,
    /// makes it invalid.
    pub fn from_proto(message: CheckResponse, strict: bool) -> Verdict {
        let metadata = message.dynamic_metadata.as_ref().map(proto::convert::struct_to_json);
        let code = message.status.as_ref().map_or(0, |status| status.code);
        let verdict = match (code, message.http_response) {
            (0, Some(HttpResponse::OkResponse(ok))) => allowed(&ok, strict).map(Verdict::Allowed),
            (0, _) => Some(Verdict::Allowed(Allowed::default())),
            (_, Some(HttpResponse::DeniedResponse(denied))) => {
                denied_by(&denied, strict).map(Verdict::Denied)
            }
            (_, _) => denied_by(&DeniedHttpResponse::default(), strict).map(Verdict::Denied),
        };
        match verdict {
            None => Verdict::Invalid,
            Some(Verdict::Allowed(mut allowed)) => {
                allowed.metadata.extend(metadata.unwrap_or_default());
                Verdict::Allowed(allowed)
            }
            Some(verdict) => verdict,
        }
    }
}

/// A permission; none if it is invalid.
#[allow(deprecated)] // Servers still send `ok_response.dynamic_metadata`.
fn allowed(message: &OkHttpResponse, strict: bool) -> Option<Allowed> {
    let of_request = |option: &HeaderValueOption| match appends(option) {
        Some(true) => How::JoinExisting,
        _ => How::Set,
    };
    let of_response = |option: &HeaderValueOption| match (appends(option), option.append_action()) {
        (Some(true), _) | (None, HeaderAppendAction::AppendIfExistsOrAdd) => How::Append,
        (Some(false), _) | (None, HeaderAppendAction::OverwriteIfExistsOrAdd) => How::Set,
        (None, HeaderAppendAction::AddIfAbsent) => How::IfAbsent,
        (None, HeaderAppendAction::OverwriteIfExists) => How::Replace,
    };
    let metadata = message.dynamic_metadata.as_ref().map(proto::convert::struct_to_json);
    let set = message.query_parameters_to_set.iter();
    let set = set.map(|parameter| (parameter.key.clone(), parameter.value.clone()));
    Some(Allowed {
        request: changes(&message.headers, of_request, strict)?,
        remove: message.headers_to_remove.iter().filter_map(|name| name.parse().ok()).collect(),
        response: changes(&message.response_headers_to_add, of_response, strict)?,
        set_query: set.collect(),
        remove_query: message.query_parameters_to_remove.clone(),
        metadata: metadata.unwrap_or_default(),
    })
}

/// A denial; none if it is invalid.
fn denied_by(message: &DeniedHttpResponse, strict: bool) -> Option<Denied> {
    let of_denial = |option: &HeaderValueOption| match appends(option) {
        Some(true) => How::JoinExisting,
        _ => How::Set,
    };
    let mut headers = HeaderMap::new();
    // As in Envoy, a denial's values are never appended, but each cookie counts.
    for change in changes(&message.headers, of_denial, strict)? {
        match (change.how, change.name == SET_COOKIE) {
            (How::Set, true) => drop(headers.append(change.name, change.value)),
            (How::Set, false) => drop(headers.insert(change.name, change.value)),
            _ => {}
        }
    }
    let status = message.status.as_ref().and_then(|status| u16::try_from(status.code).ok());
    let status =
        status.filter(|code| *code >= 200).and_then(|code| StatusCode::from_u16(code).ok());
    Some(Denied {
        status: status.unwrap_or(StatusCode::FORBIDDEN),
        headers: headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        body: message.body.clone().into(),
    })
}

/// The older way to say whether a value is appended.
#[allow(deprecated)] // Servers still send `append`.
fn appends(option: &HeaderValueOption) -> Option<bool> {
    option.append.as_ref().map(|append| append.value)
}

fn changes(
    options: &[HeaderValueOption],
    how: impl Fn(&HeaderValueOption) -> How,
    strict: bool,
) -> Option<Vec<Change>> {
    let mut changes = Vec::with_capacity(options.len());
    for option in options {
        let Some(header) = &option.header else { continue };
        let value = match header.raw_value.is_empty() {
            true => HeaderValue::from_str(&header.value),
            false => HeaderValue::from_bytes(&header.raw_value),
        };
        match (header.key.parse(), value) {
            (Ok(name), Ok(value)) => changes.push(Change { name, value, how: how(option) }),
            _ if strict => return None,
            _ => {}
        }
    }
    Some(changes)
}
