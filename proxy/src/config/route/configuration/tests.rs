use super::*;
use crate::config::route::{
    ClusterSpecifier, HostRewrite, MaxStreamDuration, PathMatch, PathRewrite,
};
use crate::config::testing::message;
use std::time::Duration;

fn translate(yaml: &str) -> (Result<RouteConfiguration, ConfigError>, Vec<String>) {
    let context = Context::default();
    let at = At::resource("route configuration", "r");
    let config = RouteConfiguration::from_proto(&message(yaml), &at, &context);
    (config, context.take_warnings())
}

/// The only route of a configuration, from its JSON.
fn route(json: &str) -> Result<Arc<Route>, ConfigError> {
    let yaml = format!("virtual_hosts: [{{name: a, domains: ['*'], routes: [{json}]}}]");
    Ok(translate(&yaml).0?.virtual_hosts[0].routes[0].clone())
}

/// A route that forwards, from the JSON of further fields of its action.
fn forward(fields: &str) -> Result<RouteAction, ConfigError> {
    let route = route(&format!("{{match: {{prefix: /}}, route: {{{fields}}}}}"))?;
    match &route.action {
        Action::Forward(action) => Ok((**action).clone()),
        _ => panic!("not forwarded"),
    }
}

#[test]
fn an_action_has_envoys_defaults() {
    let action = forward("cluster: c").unwrap();
    assert!(matches!(&action.cluster, ClusterSpecifier::Cluster(name) if &**name == "c"));
    assert_eq!(action.timeout, Some(Duration::from_secs(15)));
    assert_eq!(action.idle_timeout, None);
    assert_eq!(action.cluster_not_found, 503);
    assert!(matches!(action.path_rewrite, PathRewrite::None));
    assert!(matches!(action.host_rewrite, HostRewrite::None));
    assert!(!action.high_priority);
}

#[test]
fn what_an_action_sets_is_translated() {
    let action = forward(
        "cluster: c, timeout: 0s, idle_timeout: 0s, priority: HIGH, max_grpc_timeout: 0s,
         cluster_not_found_response_code: NOT_FOUND, host_rewrite_literal: b,
         max_stream_duration: {max_stream_duration: 2s, grpc_timeout_header_max: 0s},
         upgrade_configs: [{upgrade_type: WebSocket}, {upgrade_type: x, enabled: false}]",
    );
    let action = action.unwrap();
    assert_eq!(action.timeout, None);
    assert_eq!(action.idle_timeout, Some(None));
    assert_eq!(action.max_grpc_timeout, Some(Duration::ZERO));
    assert_eq!(action.cluster_not_found, 404);
    assert!(matches!(&action.host_rewrite, HostRewrite::Literal(host) if &**host == "b"));
    assert!(action.high_priority);
    let stream = MaxStreamDuration {
        max: Some(Duration::from_secs(2)),
        grpc_timeout_max: Some(Duration::ZERO),
        grpc_timeout_offset: None,
    };
    assert_eq!(action.max_stream_duration, Some(stream));
    assert_eq!(action.upgrades, [("websocket".into(), true), ("x".into(), false)]);
}

#[test]
fn patterns_are_folded_when_case_is_ignored() {
    let matches = |json: &str| route(json).unwrap().matches.clone();
    let folded = matches("{match: {prefix: /Ab, case_sensitive: false}, route: {cluster: c}}");
    assert!(matches!(folded.path, PathMatch::Prefix(prefix) if &*prefix == "/ab"));
    let exact = matches("{match: {path: /Ab}, route: {cluster: c}}");
    assert!(matches!(exact.path, PathMatch::Exact(path) if &*path == "/Ab"));
}

#[test]
fn bad_routes_are_refused_with_path_and_rule() {
    let long = "x".repeat(4097);
    for (json, path, rule) in [
        ("{match: {prefix: /}}", "", "has no action"),
        ("{route: {cluster: c}}", "match", "is required"),
        ("{match: {}, route: {cluster: c}}", "match", "no path specifier"),
        ("{match: {prefix: /}, route: {}}", "route", "names no cluster"),
        ("{match: {prefix: /}, route: {cluster: ''}}", "route.cluster", "empty"),
        (
            "{match: {path_separated_prefix: /a/}, route: {cluster: c}}",
            "match.path_separated_prefix",
            "no / at its end",
        ),
        (
            "{match: {path_separated_prefix: /}, route: {cluster: c}}",
            "match.path_separated_prefix",
            "two characters",
        ),
        (
            "{match: {safe_regex: {regex: '('}}, route: {cluster: c}}",
            "match.safe_regex.regex",
            "unclosed",
        ),
        (
            "{match: {prefix: /}, route: {cluster: c, prefix_rewrite: /a,
              regex_rewrite: {pattern: {regex: a}, substitution: b}}}",
            "route.regex_rewrite",
            "prefix_rewrite is set already",
        ),
        (
            "{match: {prefix: /}, route: {cluster: c,
              regex_rewrite: {pattern: {regex: a}, substitution: '\\1'}}}",
            "route.regex_rewrite.substitution",
            "group 1",
        ),
        (
            "{match: {prefix: /}, route: {cluster: c, upgrade_configs: [
              {upgrade_type: a}, {upgrade_type: A}]}}",
            "route.upgrade_configs[1].upgrade_type",
            "already",
        ),
        (
            "{match: {prefix: /}, route: {weighted_clusters: {clusters: [
              {name: a, weight: 0}]}}}",
            "route.weighted_clusters.clusters",
            "above 0",
        ),
        (
            "{match: {prefix: /}, route: {weighted_clusters: {clusters: [
              {name: a, weight: 4294967295}, {name: b, weight: 1}]}}}",
            "route.weighted_clusters.clusters",
            "4294967296",
        ),
        (
            "{match: {prefix: /}, route: {weighted_clusters: {clusters: [
              {name: a, cluster_header: b, weight: 1}]}}}",
            "route.weighted_clusters.clusters[0]",
            "only one of",
        ),
        (
            "{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: a}]}}}",
            "route.weighted_clusters.clusters[0].weight",
            "required",
        ),
        ("{match: {prefix: /}, direct_response: {status: 199}}", "direct_response.status", "199"),
        ("{match: {prefix: /}, direct_response: {status: 600}}", "direct_response.status", "600"),
        (
            &format!(
                "{{match: {{prefix: /}}, direct_response: {{status: 200,
                  body: {{inline_string: {long}}}}}}}"
            ),
            "direct_response.body",
            "4097 bytes; maximum is 4096",
        ),
        (
            "{match: {prefix: /}, redirect: {port_redirect: 65536}}",
            "redirect.port_redirect",
            "65536",
        ),
        (
            "{match: {prefix: /}, route: {cluster: c, retry_policy_typed_config: {}}}",
            "route.retry_policy_typed_config",
            "not supported",
        ),
        (
            "{match: {prefix: /}, route: {cluster: c}, typed_per_filter_config: {
              my: {'@type': type.googleapis.com/envoy.config.route.v3.VirtualHost}}}",
            "typed_per_filter_config[\"my\"]",
            "envoy.config.route.v3.VirtualHost",
        ),
    ] {
        let error = route(json).unwrap_err();
        let path = match path {
            "" => String::new(),
            path => format!(".{path}"),
        };
        let path = format!("route configuration \"r\": virtual_hosts[0].routes[0]{path}");
        assert_eq!(error.path, path, "{error}");
        assert!(error.message.contains(rule), "{error}");
    }
}

#[test]
fn a_direct_response_may_be_longer_on_demand() {
    let yaml = "
        max_direct_response_body_size_bytes: 1
        virtual_hosts:
        - name: a
          domains: ['*']
          routes: [{match: {prefix: /}, direct_response: {status: 503, body: {inline_string: ab}}}]";
    let error = translate(yaml).0.unwrap_err();
    assert!(error.message.contains("2 bytes; maximum is 1"), "{error}");
    let config = translate(&yaml.replace("bytes: 1", "bytes: 2")).0.unwrap();
    let Action::Direct(direct) = &config.virtual_hosts[0].routes[0].action else {
        panic!("no direct response");
    };
    assert_eq!((direct.status.as_u16(), &*direct.body), (503, &b"ab"[..]));
}

#[test]
fn domains_stand_once_whatever_their_case() {
    for (hosts, rule) in [
        ("{name: h, domains: [a, A]}", "stands in another place already"),
        ("{name: h, domains: [a]}, {name: i, domains: [b, a]}", "stands in another place"),
        ("{name: h, domains: ['*']}, {name: i, domains: ['*']}", "single wildcard"),
    ] {
        let error = translate(&format!("virtual_hosts: [{hosts}]")).0.unwrap_err();
        assert!(error.message.contains(rule), "{error}");
    }
    let error = translate("virtual_hosts: [{name: h}]").0.unwrap_err();
    assert_eq!(error.path, "route configuration \"r\": virtual_hosts[0].domains");
}

#[test]
fn filter_settings_without_their_filter_are_warned_of() {
    let (config, warnings) = translate(
        "
        virtual_hosts:
        - name: a
          domains: ['*']
          typed_per_filter_config:
            cors:
              '@type': type.googleapis.com/envoy.config.route.v3.FilterConfig
              is_optional: true
              config: {'@type': type.googleapis.com/envoy.config.route.v3.VirtualHost}",
    );
    assert!(config.is_ok(), "{config:?}");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("typed_per_filter_config[\"cors\"]"), "{warnings:?}");
}
