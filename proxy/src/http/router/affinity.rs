//! What of a request the choice of its host goes by, besides the cluster: the hash of the route's hash policies and the
//! metadata that it wants. The same for all attempts.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use xxhash_rust::xxh64::xxh64;

use crate::config::hash_policy::{GeneratedCookie, HashHeader, HashPolicies, HashSource};
use crate::config::matcher::query_parameter;
use crate::config::metadata_match::MetadataMatch;
use crate::config::route::{RouteAction, WeightedCluster};
use crate::http::stream::Stream;
use crate::http::{cookies, request};
use crate::route::RouteRequest;
use crate::route::request::ClientCertificate;
use crate::upstream::balance::PickContext;
use crate::upstream::cluster::Cluster;

/// What a host is picked by.
#[derive(Default)]
pub struct Affinity {
    hash: Option<u64>,
    metadata: Option<Arc<MetadataMatch>>,
    /// The cookie that a client without one gets with the response.
    cookie: Option<HeaderValue>,
}

impl Affinity {
    /// None where neither route nor cluster care, as for most requests.
    pub fn new(
        stream: &Stream,
        action: &RouteAction,
        weighted: Option<&WeightedCluster>,
        cluster: &Cluster,
        parts: &Parts,
    ) -> Option<Box<Affinity>> {
        let lb = &cluster.config().lb;
        let policies = lb.hash_policies.as_ref().or(action.hash_policies.as_ref());
        let policies = policies.filter(|_| lb.policy.hashes() || cluster.is_aggregate());
        let metadata = weighted.and_then(|weighted| weighted.metadata_match.as_ref());
        let metadata = metadata.or(action.metadata_match.as_ref());
        if policies.is_none() && metadata.is_none() {
            return None;
        }
        let mut affinity = Affinity { metadata: metadata.cloned(), ..Affinity::default() };
        if let Some(policies) = policies {
            let mut cookie = None;
            affinity.hash = hash(policies, stream, parts, |generated, name| {
                let (value, set_cookie) = generate(name, generated, stream);
                cookie = set_cookie;
                Some(value)
            });
            affinity.cookie = cookie;
        }
        Some(Box::new(affinity))
    }

    /// What a pick may depend on.
    pub fn context(&self) -> PickContext<'_> {
        PickContext {
            hash: self.hash,
            metadata: self.metadata.as_deref(),
            ..PickContext::default()
        }
    }

    /// Tells a client without the cookie to keep one.
    pub fn set_cookie(&self, response: &mut HeaderMap) {
        if let Some(cookie) = &self.cookie {
            response.append(SET_COOKIE, cookie.clone());
        }
    }
}

/// The hash for the choice among weighted clusters, where the configuration wants that. No cookie is made for it.
pub fn hash_for_cluster(policies: &HashPolicies, stream: &Stream, parts: &Parts) -> Option<u64> {
    hash(policies, stream, parts, |_, _| None)
}

/// The policies' hashes, combined in their order. `generate` gives the value of a cookie that the client does not have.
fn hash(
    policies: &HashPolicies,
    stream: &Stream,
    parts: &Parts,
    mut generate: impl FnMut(&GeneratedCookie, &str) -> Option<String>,
) -> Option<u64> {
    let mut hash: Option<u64> = None;
    for policy in policies.iter() {
        let next = match &policy.source {
            HashSource::Header { name, rewrite } => {
                header_hash(name, rewrite.as_ref(), stream, parts)
            }
            HashSource::Cookie { name, generated } => match cookies::value(&parts.headers, name) {
                Some(value) => Some(xxh64(value.as_bytes(), 0)),
                None => generated
                    .as_ref()
                    .and_then(|generated| generate(generated, name))
                    .map(|value| xxh64(value.as_bytes(), 0)),
            },
            HashSource::SourceIp => {
                let info = stream.shared.info.borrow();
                let client = info.remote().ip();
                client.map(|client| xxh64(client.ip().to_string().as_bytes(), 0))
            }
            HashSource::Query(name) => {
                let path = request::path(&parts.uri);
                query_parameter(path, name).map(|value| xxh64(value.as_bytes(), 0))
            }
        };
        if let Some(next) = next {
            // Turned, so that two equal hashes do not cancel each other out.
            hash = Some(hash.map_or(0, |before| before.rotate_left(1)) ^ next);
        }
        if policy.terminal && hash.is_some() {
            break;
        }
    }
    hash
}

/// The hash of a header's values in sorted order, each with the hash so far as its seed.
fn header_hash(
    name: &HashHeader,
    rewrite: Option<&(regex::Regex, Box<str>)>,
    stream: &Stream,
    parts: &Parts,
) -> Option<u64> {
    let lossy = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut values: Vec<Cow<'_, str>> = match name {
        HashHeader::Named(name) => {
            let values = parts.headers.get_all(name).iter();
            values
                .map(|value| value.to_str().map_or_else(|_| lossy(value).into(), Cow::from))
                .collect()
        }
        HashHeader::Pseudo(name) => {
            let wanted = RouteRequest {
                certificate: ClientCertificate::default(),
                method: &parts.method,
                scheme: stream.scheme,
                authority: request::authority(&parts.headers),
                path: request::path(&parts.uri),
                headers: &parts.headers,
                info: None,
                random: 0,
            };
            wanted.header(name).map(Cow::from).into_iter().collect()
        }
    };
    if values.is_empty() {
        return None;
    }
    if let Some((pattern, substitution)) = rewrite {
        for value in &mut values {
            *value = Cow::Owned(pattern.replace_all(value, &**substitution).into_owned());
        }
    }
    values.sort_unstable();
    Some(values.iter().fold(0, |hash, value| xxh64(value.as_bytes(), hash)))
}

/// The value of a new cookie, which is the same for all requests of a connection, and its `set-cookie` header.
fn generate(
    name: &str,
    cookie: &GeneratedCookie,
    stream: &Stream,
) -> (String, Option<HeaderValue>) {
    let info = &stream.connection.info;
    let addresses = format!("{}{}", info.remote, info.local);
    let value = format!("{:016x}", xxh64(addresses.as_bytes(), 0));
    let header = cookies::set(name, &value, cookie);
    (value, header)
}
