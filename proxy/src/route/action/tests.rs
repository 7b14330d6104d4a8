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
    let certificate = Default::default();
    let method = &Method::GET;
    RouteRequest {
        method,
        scheme: "http",
        authority,
        path,
        headers,
        certificate,
        info: None,
        random,
    }
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
    let clusters =
        weights.iter().map(|(name, cluster_header, weight)| pb::weighted_cluster::ClusterWeight {
            name: (*name).into(),
            cluster_header: (*cluster_header).into(),
            weight: Some(UInt32Value { value: *weight }),
            ..Default::default()
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
        (any(), by_regex("z", "y"), "/a", Some("/a")),
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
        metadata_match: None,
        cluster: WeightedTarget::Cluster("c".into()),
        filters: Default::default(),
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
        (pb::RedirectAction { host_redirect: "b".into(), ..plain() }, "h:80", "http://b/old/x?q"),
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
