//! An authorization server that is asked over HTTP: it gets the head of the request, and its answer is the verdict.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, LOCATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde_json::Value;

use super::config::{HeaderChoice, any_matches};
use super::verdict::{Allowed, Change, Denied, How, Verdict};
use crate::config::headers::HeaderMutations;
use crate::config::matcher::StringMatcher;
use crate::http::call::{Call, milliseconds, read, with_timeout};
use crate::http::request;
use crate::http::sanitize::names;
use crate::http::stream::Stream;
use crate::io::Body;
use crate::route::header_mutation;
use crate::telemetry::stream_info::Protocol;
use crate::upstream::balance::PickContext;

/// The longest answer that is read, in bytes.
const MOST: usize = 1 << 20;
/// Headers that the server wants to have taken out of the request, in a list.
const TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// `HttpService`
#[derive(Debug)]
pub struct HttpService {
    /// `server_uri.cluster`
    pub cluster: Box<str>,
    /// `server_uri.timeout`; default 200 ms.
    pub timeout: Duration,
    /// `path_prefix`
    pub path_prefix: Box<str>,
    /// `path_override`: in place of the request's path; empty for none.
    pub path_override: Box<str>,
    /// `authorization_request.headers_to_add`
    pub added: HeaderMutations,
    /// `allowed_upstream_headers`: headers of the answer that replace the request's.
    pub upstream: Box<[StringMatcher]>,
    /// `allowed_upstream_headers_to_append`: those that are added to the request's.
    pub upstream_append: Box<[StringMatcher]>,
    /// `allowed_client_headers`: headers of a denial that the client gets; none for all.
    pub client: Option<Box<[StringMatcher]>>,
    /// `allowed_client_headers_on_success`: headers of a permission that the client gets.
    pub client_on_success: Box<[StringMatcher]>,
    /// `dynamic_metadata_from_headers`
    pub metadata: Box<[StringMatcher]>,
}

impl HttpService {
    /// Asks. None if there is no answer, or it is an error of the server.
    pub async fn ask(
        &self,
        parts: &Parts,
        body: Option<(Bytes, HeaderValue)>,
        choice: &HeaderChoice,
        stream: &Stream,
    ) -> Option<Verdict> {
        let worker = &stream.connection.worker;
        let cluster = worker.registry.get(&self.cluster)?;
        let call = Call {
            parts: self.head(parts, body.as_ref(), choice, stream)?,
            body: body.map_or(Body::Empty, |(bytes, _)| match bytes.is_empty() {
                true => Body::Empty,
                false => Body::full(bytes),
            }),
            downstream: Protocol::Http11,
            scheme: stream.scheme,
        };
        let answer = async {
            let context = PickContext::default();
            let (response, lease) = call.send(worker, &cluster, &context).await?;
            let (head, body) = response.into_parts();
            let (bytes, _) = read(body, lease, MOST).await?;
            Some((head, bytes))
        };
        let (head, bytes) = with_timeout(self.timeout, &cluster, answer).await?;
        match head.status {
            status if status.is_server_error() => None,
            StatusCode::OK => Some(Verdict::Allowed(self.allowed(&head.headers))),
            status => Some(Verdict::Denied(self.denied(status, head.headers, bytes))),
        }
    }

    /// The question's head: method, path, host and credentials of the request, and what else is allowed.
    fn head(
        &self,
        parts: &Parts,
        body: Option<&(Bytes, HeaderValue)>,
        choice: &HeaderChoice,
        stream: &Stream,
    ) -> Option<Parts> {
        let always = |name: &HeaderName| *name == HOST || *name == AUTHORIZATION;
        let told = parts.headers.iter().filter(|(name, _)| {
            **name != CONTENT_LENGTH && (always(name) || choice.has(name.as_str()))
        });
        let mut headers: HeaderMap =
            told.map(|(name, value)| (name.clone(), value.clone())).collect();
        let length = body.map_or(0, |(bytes, _)| bytes.len());
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        if let Some((_, partial)) = body {
            headers.insert(super::PARTIAL_BODY, partial.clone());
        }
        stream.with_format(|context| header_mutation::apply(&self.added, &mut headers, context));
        headers.insert(&names::X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
        if !self.timeout.is_zero() {
            headers.insert(&names::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, milliseconds(self.timeout));
        }
        let path = match &*self.path_override {
            "" => format!("{}{}", self.path_prefix, request::path(&parts.uri)),
            path => path.to_owned(),
        };
        let mut head = http::Request::new(()).into_parts().0;
        head.method = parts.method.clone();
        head.uri = Uri::from(PathAndQuery::try_from(path).ok()?);
        head.headers = headers;
        Some(head)
    }

    fn allowed(&self, headers: &HeaderMap) -> Allowed {
        let chosen = |matchers: &[StringMatcher], how| {
            let chosen = headers.iter().filter(|(name, _)| any_matches(matchers, name.as_str()));
            chosen
                .map(|(name, value)| Change { name: name.clone(), value: value.clone(), how })
                .collect::<Vec<_>>()
        };
        let mut request = chosen(&self.upstream, How::Set);
        request.extend(chosen(&self.upstream_append, How::Append));
        let lists = headers.get_all(TO_REMOVE).iter().filter_map(|list| list.to_str().ok());
        let removed = lists.flat_map(|list| list.split(','));
        let metadata =
            headers.iter().filter(|(name, _)| any_matches(&self.metadata, name.as_str()));
        Allowed {
            request,
            remove: removed.filter_map(|name| name.trim().parse().ok()).collect(),
            response: chosen(&self.client_on_success, How::Append),
            metadata: metadata
                .filter_map(|(name, value)| {
                    Some((name.to_string(), Value::from(value.to_str().ok()?)))
                })
                .collect(),
            ..Allowed::default()
        }
    }

    fn denied(&self, status: StatusCode, headers: HeaderMap, body: Bytes) -> Denied {
        let always = |name: &HeaderName| *name == WWW_AUTHENTICATE || *name == LOCATION;
        let passes = |name: &HeaderName| match &self.client {
            None => true,
            Some(client) => always(name) || any_matches(client, name.as_str()),
        };
        let told = headers.iter().filter(|(name, _)| **name != CONTENT_LENGTH && passes(name));
        Denied {
            status,
            headers: told.map(|(name, value)| (name.clone(), value.clone())).collect(),
            body,
        }
    }
}
