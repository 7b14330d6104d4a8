//! Translating route configurations, virtual hosts and routes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use proto::envoy::config::route::v3 as pb;
use proto::envoy::config::route::v3::virtual_host::TlsRequirementType;
use proto::google::protobuf::Any;

use super::{
    Action, DirectResponse, Redirect, RequireTls, Route, RouteAction, RouteConfiguration,
    RouteMatch, VirtualHost,
};
use crate::config::headers::HeaderMutations;
use crate::config::value::{enumeration, header_name, metadata, non_empty, required};
use crate::config::{At, ConfigError, Context, any};
use crate::{refuse_set, warn_set};

/// `max_direct_response_body_size_bytes`, when it is not set.
const DEFAULT_BODY_LIMIT: u32 = 4096;

/// Why limits on buffered request bodies have no effect.
const NO_BUFFER: &str = "no request body is buffered";
/// Why settings of HTTP filters outside of filters have no effect.
const NO_FILTER: &str = "only an HTTP filter reads it, and Pillion has no such filter";

impl RouteConfiguration {
    /// An `envoy.config.route.v3.RouteConfiguration`.
    pub fn from_proto(
        message: &pb::RouteConfiguration,
        at: &At<'_>,
        context: &Context,
    ) -> Result<RouteConfiguration, ConfigError> {
        refuse_set!(at, message, [vhds, cluster_specifier_plugins, request_mirror_policies]);
        refuse_set!(at, message, [vhost_header, route_specifiers]);
        warn_set!(context, at, message, [metadata], "nothing in Pillion reads it");
        per_filter_config(&message.typed_per_filter_config, at, context)?;
        let limit = message.max_direct_response_body_size_bytes;
        let limit = limit.map_or(DEFAULT_BODY_LIMIT, |limit| limit.value) as usize;
        let hosts = message.virtual_hosts.iter().enumerate().map(|(index, host)| {
            VirtualHost::from_proto(host, limit, &at.index("virtual_hosts", index), context)
                .map(Arc::new)
        });
        let virtual_hosts = hosts.collect::<Result<Vec<_>, _>>()?;
        check_domains(&virtual_hosts, at)?;
        let internal_only = message.internal_only_headers.iter().enumerate();
        Ok(RouteConfiguration {
            name: message.name.as_str().into(),
            virtual_hosts,
            ignore_port: message.ignore_port_in_host_matching,
            request_headers: HeaderMutations::request_from_proto(
                &message.request_headers_to_add,
                &message.request_headers_to_remove,
                at,
            )?,
            response_headers: HeaderMutations::response_from_proto(
                &message.response_headers_to_add,
                &message.response_headers_to_remove,
                at,
            )?,
            most_specific_wins: message.most_specific_header_mutations_wins,
            internal_only_headers: internal_only
                .map(|(index, name)| header_name(name, &at.index("internal_only_headers", index)))
                .collect::<Result<_, _>>()?,
            validate_clusters: message.validate_clusters.map(|value| value.value),
            ignore_path_parameters: message.ignore_path_parameters_in_path_matching,
        })
    }
}

/// Every domain may stand only once, whatever its case.
fn check_domains(virtual_hosts: &[Arc<VirtualHost>], at: &At<'_>) -> Result<(), ConfigError> {
    let mut seen = HashSet::new();
    for (host_index, host) in virtual_hosts.iter().enumerate() {
        for (index, domain) in host.domains.iter().enumerate() {
            if seen.insert(domain) {
                continue;
            }
            let at = at.index("virtual_hosts", host_index);
            let at = at.index("domains", index);
            return Err(match &**domain {
                "*" => at.error("only a single wildcard domain is permitted"),
                _ => at.error(format_args!("{domain:?} stands in another place already")),
            });
        }
    }
    Ok(())
}

impl VirtualHost {
    fn from_proto(
        message: &pb::VirtualHost,
        body_limit: usize,
        at: &At<'_>,
        context: &Context,
    ) -> Result<VirtualHost, ConfigError> {
        refuse_set!(at, message, [matcher, retry_policy, retry_policy_typed_config, hedge_policy]);
        refuse_set!(at, message, [request_mirror_policies, route_specifiers]);
        refuse_set!(at, message, [include_is_timeout_retry_header]);
        warn_set!(context, at, message, [virtual_clusters], "they only have statistics");
        warn_set!(context, at, message, [rate_limits, cors], NO_FILTER);
        warn_set!(context, at, message, [per_request_buffer_limit_bytes], NO_BUFFER);
        warn_set!(context, at, message, [request_body_buffer_limit], NO_BUFFER);
        warn_set!(context, at, message, [metadata], "nothing in Pillion reads it");
        per_filter_config(&message.typed_per_filter_config, at, context)?;
        if message.domains.is_empty() {
            return Err(at.field("domains").error("must not be empty"));
        }
        let routes = message.routes.iter().enumerate().map(|(index, route)| {
            Route::from_proto(route, body_limit, &at.index("routes", index), context).map(Arc::new)
        });
        Ok(VirtualHost {
            name: non_empty(&message.name, &at.field("name"))?.into(),
            domains: message
                .domains
                .iter()
                .map(|domain| domain.to_ascii_lowercase().into())
                .collect(),
            routes: routes.collect::<Result<_, _>>()?,
            require_tls: match enumeration(message.require_tls, &at.field("require_tls"))? {
                TlsRequirementType::None => RequireTls::None,
                TlsRequirementType::ExternalOnly => RequireTls::ExternalOnly,
                TlsRequirementType::All => RequireTls::All,
            },
            request_headers: HeaderMutations::request_from_proto(
                &message.request_headers_to_add,
                &message.request_headers_to_remove,
                at,
            )?,
            response_headers: HeaderMutations::response_from_proto(
                &message.response_headers_to_add,
                &message.response_headers_to_remove,
                at,
            )?,
            include_attempt_count: message.include_request_attempt_count,
            include_attempt_count_in_response: message.include_attempt_count_in_response,
        })
    }
}

impl Route {
    fn from_proto(
        message: &pb::Route,
        body_limit: usize,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Route, ConfigError> {
        refuse_set!(at, message, [route_specifiers]);
        warn_set!(context, at, message, [decorator, tracing], "Pillion writes no spans");
        warn_set!(context, at, message, [per_request_buffer_limit_bytes], NO_BUFFER);
        warn_set!(context, at, message, [request_body_buffer_limit], NO_BUFFER);
        warn_set!(context, at, message, [stat_prefix], "routes have no statistics of their own");
        per_filter_config(&message.typed_per_filter_config, at, context)?;
        let at_match = at.field("match");
        Ok(Route {
            name: message.name.as_str().into(),
            matches: RouteMatch::from_proto(
                required(&message.r#match, &at_match)?,
                &at_match,
                context,
            )?,
            action: Action::from_proto(message.action.as_ref(), body_limit, at, context)?,
            request_headers: HeaderMutations::request_from_proto(
                &message.request_headers_to_add,
                &message.request_headers_to_remove,
                at,
            )?,
            response_headers: HeaderMutations::response_from_proto(
                &message.response_headers_to_add,
                &message.response_headers_to_remove,
                at,
            )?,
            metadata: metadata(message.metadata.as_ref(), &at.field("metadata"), context),
        })
    }
}

impl Action {
    fn from_proto(
        action: Option<&pb::route::Action>,
        body_limit: usize,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Action, ConfigError> {
        match action {
            None => Err(at.error("has no action; set route, redirect or direct_response")),
            Some(pb::route::Action::Route(action)) => {
                let action = RouteAction::from_proto(action, &at.field("route"), context)?;
                Ok(Action::Forward(Box::new(action)))
            }
            Some(pb::route::Action::Redirect(redirect)) => {
                let redirect = Redirect::from_proto(redirect, &at.field("redirect"), context)?;
                Ok(Action::Redirect(Box::new(redirect)))
            }
            Some(pb::route::Action::DirectResponse(direct)) => {
                let at = at.field("direct_response");
                DirectResponse::from_proto(direct, body_limit, &at, context).map(Action::Direct)
            }
            Some(pb::route::Action::FilterAction(_)) => {
                Err(at.field("filter_action").unsupported())
            }
            Some(pb::route::Action::NonForwardingAction(_)) => {
                Err(at.field("non_forwarding_action").unsupported())
            }
        }
    }
}

/// Checks `typed_per_filter_config`. No HTTP filter takes a configuration for a route yet; what a `FilterConfig` calls
/// optional or only disables has no effect.
pub(super) fn per_filter_config(
    configs: &HashMap<String, Any>,
    at: &At<'_>,
    context: &Context,
) -> Result<(), ConfigError> {
    for (name, config) in configs {
        let at = at.key("typed_per_filter_config", name);
        if !any::is::<pb::FilterConfig>(config) {
            return Err(any::unknown(name, Some(config), &at));
        }
        let filter: pb::FilterConfig = any::open(config, &at)?;
        if filter.config.is_some() && !filter.is_optional {
            return Err(any::unknown(name, filter.config.as_ref(), &at.field("config")));
        }
        context.warn(&at, NO_FILTER);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
            (
                "{match: {prefix: /}, direct_response: {status: 199}}",
                "direct_response.status",
                "199",
            ),
            (
                "{match: {prefix: /}, direct_response: {status: 600}}",
                "direct_response.status",
                "600",
            ),
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
                "{match: {prefix: /}, route: {cluster: c, retry_policy: {retry_on: 5xx}}}",
                "route.retry_policy",
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
}
