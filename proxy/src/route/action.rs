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
fn choose_weighted(clusters: &WeightedClusters, request: &RouteRequest<'_>) -> usize {
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
            match pattern.replace_all(plain, &**substitution) {
                Cow::Borrowed(_) => None,
                Cow::Owned(plain) => Some(plain + query),
            }
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
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::config::route::RouteConfiguration;
    use crate::config::{At, Context};
    use crate::route::{Found, RouteTable};
    use http::{HeaderName, HeaderValue, Method};
    use proto::envoy::config::route::v3 as pb;
    use proto::envoy::config::route::v3::redirect_action::{
        PathRewriteSpecifier, SchemeRewriteSpecifier,
    };
    use proto::envoy::config::route::v3::route_action::{
        ClusterSpecifier as PbCluster, HostRewriteSpecifier,
    };
    use proto::envoy::config::route::v3::route_match::PathSpecifier;
    use proto::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};
    use proto::google::protobuf::{BoolValue, UInt32Value};

    fn regex(pattern: &str, substitution: &str) -> RegexMatchAndSubstitute {
        let pattern = RegexMatcher { regex: pattern.into(), engine_type: None };
        RegexMatchAndSubstitute { pattern: Some(pattern), substitution: substitution.into() }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }

    fn request<'a>(
        authority: &'a str,
        path: &'a str,
        headers: &'a HeaderMap,
        random: u64,
    ) -> RouteRequest<'a> {
        RouteRequest { method: &Method::GET, scheme: "http", authority, path, headers, random }
    }

    /// The only route of a table.
    fn entry(path: PathSpecifier, action: pb::route::Action) -> Arc<RouteEntry<String>> {
        let route = pb::Route {
            r#match: Some(pb::RouteMatch { path_specifier: Some(path), ..Default::default() }),
            action: Some(action),
            ..Default::default()
        };
        let host = pb::VirtualHost {
            name: "all".into(),
            domains: vec!["*".into()],
            routes: vec![route],
            ..Default::default()
        };
        let message = pb::RouteConfiguration { virtual_hosts: vec![host], ..Default::default() };
        let at = At::resource("route configuration", "test");
        let config = RouteConfiguration::from_proto(&message, &at, &Context::default()).unwrap();
        let table = RouteTable::build(&Arc::new(config), |name| name.to_string());
        let Found::Route(entry) = table.find(&request("a", "/old/x", &HeaderMap::new(), 0)) else {
            panic!("the route does not match");
        };
        entry.clone()
    }

    fn forward(cluster: PbCluster) -> pb::RouteAction {
        pb::RouteAction { cluster_specifier: Some(cluster), ..Default::default() }
    }

    fn chooser(cluster: PbCluster) -> Arc<RouteEntry<String>> {
        let path = PathSpecifier::Prefix("/".into());
        entry(path, pb::route::Action::Route(forward(cluster)))
    }

    fn weighted(header_name: &str, weights: &[(&str, &str, u32)]) -> Arc<RouteEntry<String>> {
        let clusters = weights.iter().map(|(name, cluster_header, weight)| {
            pb::weighted_cluster::ClusterWeight {
                name: (*name).into(),
                cluster_header: (*cluster_header).into(),
                weight: Some(UInt32Value { value: *weight }),
                ..Default::default()
            }
        });
        let by = pb::weighted_cluster::RandomValueSpecifier::HeaderName(header_name.into());
        chooser(PbCluster::WeightedClusters(pb::WeightedCluster {
            clusters: clusters.collect(),
            random_value_specifier: Some(by),
            ..Default::default()
        }))
    }

    fn chosen(entry: &RouteEntry<String>, headers: &HeaderMap, random: u64) -> String {
        match entry.choose_cluster(&request("a", "/", headers, random)).target {
            ClusterTarget::Known(name) => name.clone(),
            ClusterTarget::Named(name) => format!("named {name}"),
            ClusterTarget::Missing => "missing".into(),
        }
    }

    #[test]
    fn a_cluster_is_named_by_the_route_or_by_a_header() {
        let known = chooser(PbCluster::Cluster("c".into()));
        assert_eq!(chosen(&known, &HeaderMap::new(), 0), "c");
        let named = chooser(PbCluster::ClusterHeader("X-Cluster".into()));
        assert_eq!(chosen(&named, &headers(&[("x-cluster", "d")]), 0), "named d");
        assert_eq!(chosen(&named, &headers(&[("x-cluster", "")]), 0), "missing");
        assert_eq!(chosen(&named, &HeaderMap::new(), 0), "missing");
        let authority = chooser(PbCluster::ClusterHeader(":authority".into()));
        assert_eq!(chosen(&authority, &HeaderMap::new(), 0), "named a");
    }

    #[test]
    fn weights_divide_the_random_numbers_exactly() {
        let entry = weighted("", &[("a", "", 1), ("none", "", 0), ("", "x-c", 2), ("b", "", 3)]);
        let headers = headers(&[("x-c", "c")]);
        let choices: Vec<String> = (0..7).map(|random| chosen(&entry, &headers, random)).collect();
        assert_eq!(choices, ["a", "named c", "named c", "b", "b", "b", "a"]);
        let choice = entry.choose_cluster(&request("a", "/", &headers, 5));
        assert_eq!(choice.weighted.map(|weighted| weighted.weight), Some(3));
        assert_eq!(chosen(&entry, &headers, u64::MAX), "b", "2^64 - 1 leaves 3");
    }

    #[test]
    fn a_number_in_a_header_replaces_the_random_one() {
        let entry = weighted("x-n", &[("a", "", 1), ("b", "", 1)]);
        for (pairs, expected) in [
            (&[("x-n", "1")][..], "b"),
            (&[("x-n", "2")], "a"),
            (&[("x-n", "1"), ("x-n", "1")], "a"),
            (&[("x-n", "one")], "a"),
            (&[], "a"),
        ] {
            assert_eq!(chosen(&entry, &headers(pairs), 0), expected, "{pairs:?}");
        }
    }

    #[test]
    fn paths_are_rewritten_and_keep_their_query() {
        let prefix = |text: &str| pb::RouteAction {
            prefix_rewrite: text.into(),
            ..forward(PbCluster::Cluster("c".into()))
        };
        let by_regex = |pattern: &str, substitution: &str| pb::RouteAction {
            regex_rewrite: Some(regex(pattern, substitution)),
            ..forward(PbCluster::Cluster("c".into()))
        };
        let any = || PathSpecifier::Prefix("/".into());
        let whole = RegexMatcher { regex: "/old/.*".into(), engine_type: None };
        for (path, action, original, expected) in [
            (PathSpecifier::Prefix("/old".into()), prefix("/new"), "/old/x?q", Some("/new/x?q")),
            (PathSpecifier::Prefix("/old/".into()), prefix("/"), "/old/x", Some("/x")),
            (PathSpecifier::Path("/old/x".into()), prefix("/new"), "/old/x?q", Some("/new?q")),
            (
                PathSpecifier::PathSeparatedPrefix("/old".into()),
                prefix("/new"),
                "/old/x",
                Some("/new/x"),
            ),
            (PathSpecifier::SafeRegex(whole), prefix("/new"), "/old/x?q", Some("/new?q")),
            (any(), by_regex("o", "0"), "/foo/o?o", Some("/f00/0?o")),
            (any(), by_regex("^/([^/]+)/(.*)$", r"/\2/\1"), "/a/b?q", Some("/b/a?q")),
            (any(), by_regex("z", "y"), "/a", None),
            (any(), forward(PbCluster::Cluster("c".into())), "/a", None),
        ] {
            let entry = entry(path, pb::route::Action::Route(action));
            let Action::Forward(action) = &entry.config.action else { unreachable!() };
            let found = rewrite_path(&action.path_rewrite, &entry.config.matches, original);
            assert_eq!(found.as_deref(), expected, "{:?} {original}", action.path_rewrite);
        }
    }

    #[test]
    fn hosts_are_rewritten_by_the_route_or_else_by_the_weighted_cluster() {
        let with = |specifier: Option<HostRewriteSpecifier>| pb::RouteAction {
            host_rewrite_specifier: specifier,
            ..forward(PbCluster::Cluster("c".into()))
        };
        let headers = headers(&[("x-host", "from-header"), ("x-empty", "")]);
        let weighted = WeightedCluster {
            cluster: WeightedTarget::Cluster("c".into()),
            weight: 1,
            request_headers: Default::default(),
            response_headers: Default::default(),
            host_rewrite: Some("weighted".parse().unwrap()),
        };
        use HostRewriteSpecifier::*;
        for (specifier, weighted, expected) in [
            (None, None, None),
            (Some(AutoHostRewrite(BoolValue { value: true })), None, None),
            (Some(HostRewriteLiteral("b".into())), None, Some("b")),
            (Some(HostRewriteLiteral("b".into())), Some(&weighted), Some("b")),
            (None, Some(&weighted), Some("weighted")),
            (Some(HostRewriteHeader("X-Host".into())), None, Some("from-header")),
            (Some(HostRewriteHeader("x-empty".into())), None, None),
            (Some(HostRewriteHeader("x-none".into())), None, None),
            (Some(HostRewritePathRegex(regex("^/(.+)/.*$", r"\1.local"))), None, Some("h.local")),
        ] {
            let action = pb::route::Action::Route(with(specifier.clone()));
            let entry = entry(PathSpecifier::Prefix("/".into()), action);
            let Action::Forward(action) = &entry.config.action else { unreachable!() };
            let found = rewrite_host(action, weighted, &headers, "/h/x?q");
            assert_eq!(found.as_deref(), expected, "{specifier:?}");
        }
    }

    #[test]
    fn redirects_change_only_what_they_name() {
        let plain = pb::RedirectAction::default;
        let to_path = |path: &str| Some(PathRewriteSpecifier::PathRedirect(path.into()));
        let https = || Some(SchemeRewriteSpecifier::HttpsRedirect(true));
        for (redirect, authority, expected) in [
            (plain(), "h:80", "http://h:80/old/x?q"),
            (
                pb::RedirectAction { host_redirect: "b".into(), ..plain() },
                "h:80",
                "http://b/old/x?q",
            ),
            (pb::RedirectAction { port_redirect: 81, ..plain() }, "h:80", "http://h:81/old/x?q"),
            (
                pb::RedirectAction { port_redirect: 81, ..plain() },
                "[::1]:80",
                "http://[::1]:81/old/x?q",
            ),
            (
                pb::RedirectAction { scheme_rewrite_specifier: https(), ..plain() },
                "h:80",
                "https://h/old/x?q",
            ),
            (
                pb::RedirectAction { scheme_rewrite_specifier: https(), ..plain() },
                "h:8080",
                "https://h:8080/old/x?q",
            ),
            (
                pb::RedirectAction { path_rewrite_specifier: to_path("/new"), ..plain() },
                "h",
                "http://h/new?q",
            ),
            (
                pb::RedirectAction {
                    path_rewrite_specifier: to_path("/new?own"),
                    strip_query: true,
                    ..plain()
                },
                "h",
                "http://h/new?own",
            ),
            (
                pb::RedirectAction {
                    path_rewrite_specifier: to_path("/new"),
                    strip_query: true,
                    ..plain()
                },
                "h",
                "http://h/new",
            ),
            (pb::RedirectAction { strip_query: true, ..plain() }, "h", "http://h/old/x"),
            (
                pb::RedirectAction {
                    path_rewrite_specifier: Some(PathRewriteSpecifier::PrefixRewrite("/n".into())),
                    strip_query: true,
                    ..plain()
                },
                "h",
                "http://h/n/x",
            ),
            (
                pb::RedirectAction {
                    path_rewrite_specifier: Some(PathRewriteSpecifier::RegexRewrite(regex(
                        "/(old)/x", r"/\1/y",
                    ))),
                    ..plain()
                },
                "h",
                "http://h/old/y?q",
            ),
        ] {
            let action = pb::route::Action::Redirect(redirect);
            let entry = entry(PathSpecifier::Prefix("/old".into()), action);
            let Action::Redirect(redirect) = &entry.config.action else { unreachable!() };
            let headers = HeaderMap::new();
            let request = request(authority, "/old/x?q", &headers, 0);
            let found = redirect_location(redirect, &entry.config.matches, &request);
            assert_eq!(found, expected, "{redirect:?}");
        }
    }

    #[test]
    fn a_redirect_to_http_drops_the_port_of_https() {
        let scheme = SchemeRewriteSpecifier::SchemeRedirect("http".into());
        let redirect =
            pb::RedirectAction { scheme_rewrite_specifier: Some(scheme), ..Default::default() };
        let entry = entry(PathSpecifier::Prefix("/".into()), pb::route::Action::Redirect(redirect));
        let Action::Redirect(redirect) = &entry.config.action else { unreachable!() };
        let headers = headers(&[("x-forwarded-proto", "https")]);
        let request = request("h:443", "/", &headers, 0);
        assert_eq!(redirect_location(redirect, &entry.config.matches, &request), "http://h/");
        assert_eq!(tls_redirect_location(&request), "https://h:443/");
    }
}
