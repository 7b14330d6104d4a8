//! What a route does: the choice of a cluster, and new paths, hosts and locations.

use std::borrow::Cow;

use http::HeaderMap;

use super::request::{RouteRequest, without_query};
use super::table::RouteEntry;
use crate::config::route::{
    Action, ClusterSpecifier, HostRewrite, PathMatch, PathRewrite, Redirect, RouteAction,
    RouteMatch, WeightedCluster, WeightedClusters, WeightedTarget,
};

/// The cluster that a route chose for a request.
#[derive(Debug)]
pub struct ClusterChoice<'a, 'r, S> {
    /// Where the request goes.
    pub target: ClusterTarget<'a, 'r, S>,
    /// The entry of `weighted_clusters`, with its own header mutations and host.
    pub weighted: Option<&'a WeightedCluster>,
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub enum ClusterTarget<'a, 'r, S> {
    /// The route names the cluster.
    Known(&'a S),
    /// A request header names the cluster, which has to be looked up.
    Named(&'r str),
    /// The route forwards nowhere, or the header that names the cluster is missing or empty.
    Missing,
}

impl<S> RouteEntry<S> {
    /// The cluster, where the route names exactly one: no request is needed to choose it.
    pub fn only_cluster(&self) -> Option<&S> {
        match &self.config.action {
            Action::Forward(action) if matches!(action.cluster, ClusterSpecifier::Cluster(_)) => {
                self.clusters.first()?.as_ref()
            }
            _ => None,
        }
    }

    /// Chooses the cluster. The same request gives the same answer.
    pub fn choose_cluster<'a, 'r>(
        &'a self,
        request: &RouteRequest<'r>,
    ) -> ClusterChoice<'a, 'r, S> {
        let named = |header: &str| match request.header(header) {
            Some(name) if !name.is_empty() => ClusterTarget::Named(name),
            _ => ClusterTarget::Missing,
        };
        let known = |position: usize| {
            let slot = self.clusters.get(position).and_then(Option::as_ref);
            slot.map_or(ClusterTarget::Missing, ClusterTarget::Known)
        };
        let Action::Forward(action) = &self.config.action else {
            return ClusterChoice { target: ClusterTarget::Missing, weighted: None };
        };
        match &action.cluster {
            ClusterSpecifier::Cluster(_) => ClusterChoice { target: known(0), weighted: None },
            ClusterSpecifier::Header(header) => {
                ClusterChoice { target: named(header), weighted: None }
            }
            ClusterSpecifier::Weighted(clusters) => {
                let position = choose_weighted(clusters, request);
                let weighted = &clusters.clusters[position];
                let target = match &weighted.cluster {
                    WeightedTarget::Cluster(_) => known(position),
                    WeightedTarget::Header(header) => named(header),
                };
                ClusterChoice { target, weighted: Some(weighted) }
            }
        }
    }
}

/// The position of the entry whose share of the total holds the request's number: that of `header_name`, if the header is
/// there once with a number, else the stream's random one.
pub(super) fn choose_weighted(clusters: &WeightedClusters, request: &RouteRequest<'_>) -> usize {
    let from_header = clusters.header.as_ref().and_then(|header| {
        let mut values = request.headers.get_all(header).iter();
        let value = values.next()?.to_str().ok()?.parse::<u64>().ok()?;
        values.next().is_none().then_some(value)
    });
    let mut rest = from_header.unwrap_or(request.random) % clusters.total;
    for (position, cluster) in clusters.clusters.iter().enumerate() {
        let weight = u64::from(cluster.weight);
        if rest < weight {
            return position;
        }
        rest -= weight;
    }
    // Not reached: the total is the sum of the weights.
    0
}

/// The path that goes upstream, if the route changes it; query and fragment stay.
pub fn rewrite_path(rewrite: &PathRewrite, matches: &RouteMatch, path: &str) -> Option<String> {
    let end = without_query(path).len();
    match rewrite {
        PathRewrite::None => None,
        PathRewrite::Prefix(prefix) => {
            let rest = path.get(matched_length(matches, end)..)?;
            Some([prefix, rest].concat())
        }
        PathRewrite::Regex { pattern, substitution } => {
            let (plain, query) = path.split_at(end);
            // Also without a match, as Envoy does: the original path is noted either way.
            Some(pattern.replace_all(plain, &**substitution).into_owned() + query)
        }
    }
}

/// How much of a path of `length` bytes a path specifier matched, which is what `prefix_rewrite` replaces.
fn matched_length(matches: &RouteMatch, length: usize) -> usize {
    match &matches.path {
        PathMatch::Prefix(text) | PathMatch::Exact(text) | PathMatch::SeparatedPrefix(text) => {
            text.len()
        }
        PathMatch::Regex(_) | PathMatch::Connect => length,
    }
}

/// The host that goes upstream, if route or weighted cluster change it before a host is picked (`auto_host_rewrite` does
/// so afterwards). The route's own rewrite comes after the weighted cluster's, and so wins. `headers` are those that go
/// upstream, `path` is the path before its own rewrite.
pub fn rewrite_host<'a>(
    action: &'a RouteAction,
    weighted: Option<&'a WeightedCluster>,
    headers: &'a HeaderMap,
    path: &str,
) -> Option<Cow<'a, str>> {
    let by_route = match &action.host_rewrite {
        HostRewrite::None | HostRewrite::Auto => None,
        HostRewrite::Literal(host) => Some(Cow::Borrowed(&**host)),
        HostRewrite::Header(name) => {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.filter(|host| !host.is_empty()).map(Cow::Borrowed)
        }
        HostRewrite::PathRegex { pattern, substitution } => {
            let host = pattern.replace_all(without_query(path), &**substitution);
            Some(Cow::Owned(host.into_owned()))
        }
    };
    by_route.or_else(|| Some(Cow::Borrowed(weighted?.host_rewrite.as_ref()?.as_str())))
}

/// The `location` of a redirect.
pub fn redirect_location(
    redirect: &Redirect,
    matches: &RouteMatch,
    request: &RouteRequest<'_>,
) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
    let host = match &redirect.host {
        Some(host) => host,
        None => redirect_host(request, scheme, redirect.port),
    };
    let port = redirect.port.map_or(String::new(), |port| format!(":{port}"));
    let path = redirect_path(redirect, matches, request.path);
    format!("{scheme}://{host}{port}{path}")
}

/// The `location` for a request that must come again over TLS (`VirtualHost.require_tls`).
pub fn tls_redirect_location(request: &RouteRequest<'_>) -> String {
    format!("https://{}{}", request.authority, request.path)
}

/// The request's host, without its port if there is a new one or if it is the old scheme's default and the scheme changes.
fn redirect_host<'a>(request: &RouteRequest<'a>, scheme: &str, port: Option<u16>) -> &'a str {
    let host = super::host_map::without_port(request.authority);
    let old_port = &request.authority[host.len()..];
    let old_scheme = request.forwarded_proto();
    let is_default = matches!((old_scheme, old_port), ("http", ":80") | ("https", ":443"));
    match port.is_some() || (scheme != old_scheme && is_default) {
        true => host,
        false => request.authority,
    }
}

fn redirect_path<'a>(redirect: &'a Redirect, matches: &RouteMatch, path: &'a str) -> Cow<'a, str> {
    let query = |path: &str| path.find('?').map_or(path.len(), |start| start);
    let new = match &redirect.path {
        // A query of its own replaces the request's, and stays.
        Some(new) if new.contains('?') => return Cow::Borrowed(new),
        Some(new) => Cow::Owned([&**new, &path[query(path)..]].concat()),
        None => {
            rewrite_path(&redirect.rewrite, matches, path).map_or(Cow::Borrowed(path), Cow::Owned)
        }
    };
    match new {
        new if !redirect.strip_query => new,
        Cow::Borrowed(new) => Cow::Borrowed(&new[..query(new)]),
        Cow::Owned(mut new) => {
            new.truncate(query(&new));
            Cow::Owned(new)
        }
    }
}

#[cfg(test)]
mod tests;
