//! Translating route configurations, virtual hosts and routes.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use proto::envoy::config::route::v3 as pb;
use proto::envoy::config::route::v3::virtual_host::TlsRequirementType;
use proto::google::protobuf::{UInt32Value, UInt64Value};
use proto::xds::core::v3::TypedExtensionConfig;

use super::mirror::mirrors;
use super::retry::hedge_on_per_try_timeout;
use super::{
    Action, DirectResponse, Mirror, Redirect, RequireTls, RetryPolicy, Route, RouteAction,
    RouteConfiguration, RouteMatch, RouteTree, VirtualHost,
};
use crate::config::headers::HeaderMutations;
use crate::config::http_filter::RouteFilters;
use crate::config::matcher::tree::{Scope, Tree};
use crate::config::value::{enumeration, header_name, metadata, non_empty, required};
use crate::config::{At, ConfigError, Context, any};
use crate::{refuse_set, warn_set};

/// `max_direct_response_body_size_bytes`, when it is not set.
const DEFAULT_BODY_LIMIT: u32 = 4096;

/// Why settings of HTTP filters outside of filters have no effect.
const NO_FILTER: &str = "only an HTTP filter reads it, and Pillion has no such filter";

/// What routes have from the levels above them.
#[derive(Clone, Default)]
pub(super) struct Inherited {
    /// `max_direct_response_body_size_bytes`
    body_limit: usize,
    /// `retry_policy`
    pub(super) retry: Option<Arc<RetryPolicy>>,
    /// `hedge_policy`
    pub(super) hedge_on_per_try_timeout: bool,
    /// `request_mirror_policies`
    pub(super) mirrors: Vec<Arc<Mirror>>,
    /// `request_body_buffer_limit`, `per_request_buffer_limit_bytes`
    pub(super) buffer_limit: Option<u64>,
}

impl RouteConfiguration {
    /// An `envoy.config.route.v3.RouteConfiguration`.
    pub fn from_proto(
        message: &pb::RouteConfiguration,
        at: &At<'_>,
        context: &Context,
    ) -> Result<RouteConfiguration, ConfigError> {
        refuse_set!(at, message, [vhds, cluster_specifier_plugins]);
        refuse_set!(at, message, [vhost_header, route_specifiers]);
        warn_set!(context, at, message, [metadata], "nothing in Pillion reads it");
        let limit = message.max_direct_response_body_size_bytes;
        let inherited = Inherited {
            body_limit: limit.map_or(DEFAULT_BODY_LIMIT, |limit| limit.value) as usize,
            mirrors: mirrors(&message.request_mirror_policies, at, context)?,
            ..Inherited::default()
        };
        let hosts = message.virtual_hosts.iter().enumerate().map(|(index, host)| {
            VirtualHost::from_proto(host, &inherited, &at.index("virtual_hosts", index), context)
                .map(Arc::new)
        });
        let virtual_hosts = hosts.collect::<Result<Vec<_>, _>>()?;
        check_domains(&virtual_hosts, at)?;
        let internal_only = message.internal_only_headers.iter().enumerate();
        let (request_headers, response_headers) = HeaderMutations::both_from_proto(
            (&message.request_headers_to_add, &message.request_headers_to_remove),
            (&message.response_headers_to_add, &message.response_headers_to_remove),
            at,
        )?;
        Ok(RouteConfiguration {
            name: message.name.as_str().into(),
            virtual_hosts,
            ignore_port: message.ignore_port_in_host_matching,
            request_headers,
            response_headers,
            most_specific_wins: message.most_specific_header_mutations_wins,
            internal_only_headers: internal_only
                .map(|(index, name)| header_name(name, &at.index("internal_only_headers", index)))
                .collect::<Result<_, _>>()?,
            validate_clusters: message.validate_clusters.map(|value| value.value),
            ignore_path_parameters: message.ignore_path_parameters_in_path_matching,
            filters: RouteFilters::from_proto(&message.typed_per_filter_config, at, context)?,
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
        inherited: &Inherited,
        at: &At<'_>,
        context: &Context,
    ) -> Result<VirtualHost, ConfigError> {
        refuse_set!(at, message, [retry_policy_typed_config, route_specifiers]);
        warn_set!(context, at, message, [virtual_clusters], "they only have statistics");
        warn_set!(context, at, message, [rate_limits, cors], NO_FILTER);
        warn_set!(context, at, message, [metadata], "nothing in Pillion reads it");
        if message.domains.is_empty() {
            return Err(at.field("domains").error("must not be empty"));
        }
        let inherited = inherited.with_virtual_host(message, at, context)?;
        let (routes, tree) = routes(message, &inherited, at, context)?;
        let (request_headers, response_headers) = HeaderMutations::both_from_proto(
            (&message.request_headers_to_add, &message.request_headers_to_remove),
            (&message.response_headers_to_add, &message.response_headers_to_remove),
            at,
        )?;
        Ok(VirtualHost {
            name: non_empty(&message.name, &at.field("name"))?.into(),
            domains: message
                .domains
                .iter()
                .map(|domain| domain.to_ascii_lowercase().into())
                .collect(),
            routes,
            tree,
            require_tls: match enumeration(message.require_tls, &at.field("require_tls"))? {
                TlsRequirementType::None => RequireTls::None,
                TlsRequirementType::ExternalOnly => RequireTls::ExternalOnly,
                TlsRequirementType::All => RequireTls::All,
            },
            request_headers,
            response_headers,
            include_attempt_count: message.include_request_attempt_count,
            include_attempt_count_in_response: message.include_attempt_count_in_response,
            include_is_timeout_retry: message.include_is_timeout_retry_header,
            filters: RouteFilters::from_proto(&message.typed_per_filter_config, at, context)?,
        })
    }
}

/// `routes`, or those of the actions of `matcher` with the tree that chooses among them.
fn routes(
    message: &pb::VirtualHost,
    inherited: &Inherited,
    at: &At<'_>,
    context: &Context,
) -> Result<(Vec<Arc<Route>>, Option<RouteTree>), ConfigError> {
    let translate = |routes: &[pb::Route], at: &At<'_>| {
        let routes = routes.iter().enumerate().map(|(index, route)| {
            Route::from_proto(route, inherited, &at.index("routes", index), context).map(Arc::new)
        });
        routes.collect::<Result<Vec<_>, _>>()
    };
    let routes = translate(&message.routes, at)?;
    let Some(matcher) = &message.matcher else { return Ok((routes, None)) };
    let at = at.field("matcher");
    if !routes.is_empty() {
        return Err(at.error("only one of routes and matcher can be set"));
    }
    let all = RefCell::new(routes);
    let action = |extension: &TypedExtensionConfig, at: &At<'_>| {
        let config = extension.typed_config.as_ref();
        let at = at.field("typed_config");
        let more = if any::is::<pb::Route>(config) {
            vec![Arc::new(Route::from_proto(&any::open(config, &at)?, inherited, &at, context)?)]
        } else if any::is::<pb::RouteList>(config) {
            translate(&any::open::<pb::RouteList>(config, &at)?.routes, &at)?
        } else {
            return Err(any::unknown(&extension.name, config, &at));
        };
        let mut all = all.borrow_mut();
        let start = all.len();
        all.extend(more);
        Ok(start..all.len())
    };
    let tree = Tree::from_proto(matcher, Scope::Route, &action, &at, context)?;
    Ok((all.into_inner(), Some(tree)))
}

impl Inherited {
    /// With what a virtual host says over it.
    fn with_virtual_host(
        &self,
        message: &pb::VirtualHost,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Inherited, ConfigError> {
        let retry = message.retry_policy.as_ref().map(|policy| {
            RetryPolicy::from_proto(policy, &at.field("retry_policy"), context).map(Arc::new)
        });
        let hedge = message.hedge_policy.as_ref();
        let mirrors = mirrors(&message.request_mirror_policies, at, context)?;
        Ok(Inherited {
            body_limit: self.body_limit,
            retry: retry.transpose()?,
            hedge_on_per_try_timeout: hedge.is_some_and(|policy| {
                hedge_on_per_try_timeout(policy, &at.field("hedge_policy"), context)
            }),
            mirrors: if mirrors.is_empty() { self.mirrors.clone() } else { mirrors },
            buffer_limit: buffer_limit(
                message.request_body_buffer_limit,
                message.per_request_buffer_limit_bytes,
            ),
        })
    }
}

/// The newer of the two limits on buffered bodies; the older one cannot exceed what a connection may buffer.
fn buffer_limit(newer: Option<UInt64Value>, older: Option<UInt32Value>) -> Option<u64> {
    newer.map(|limit| limit.value).or_else(|| older.map(|limit| u64::from(limit.value)))
}

impl Route {
    fn from_proto(
        message: &pb::Route,
        inherited: &Inherited,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Route, ConfigError> {
        refuse_set!(at, message, [route_specifiers]);
        warn_set!(context, at, message, [decorator, tracing], "Pillion writes no spans");
        warn_set!(context, at, message, [stat_prefix], "routes have no statistics of their own");
        let limit =
            buffer_limit(message.request_body_buffer_limit, message.per_request_buffer_limit_bytes);
        let mut inherited = inherited.clone();
        inherited.buffer_limit = limit.or(inherited.buffer_limit);
        let at_match = at.field("match");
        let (request_headers, response_headers) = HeaderMutations::both_from_proto(
            (&message.request_headers_to_add, &message.request_headers_to_remove),
            (&message.response_headers_to_add, &message.response_headers_to_remove),
            at,
        )?;
        Ok(Route {
            name: message.name.as_str().into(),
            matches: RouteMatch::from_proto(
                required(&message.r#match, &at_match)?,
                &at_match,
                context,
            )?,
            action: Action::from_proto(message.action.as_ref(), &inherited, at, context)?,
            request_headers,
            response_headers,
            metadata: metadata(message.metadata.as_ref(), &at.field("metadata"), context),
            filters: RouteFilters::from_proto(&message.typed_per_filter_config, at, context)?,
        })
    }
}

impl Action {
    fn from_proto(
        action: Option<&pb::route::Action>,
        inherited: &Inherited,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Action, ConfigError> {
        match action {
            None => Err(at.error("has no action; set route, redirect or direct_response")),
            Some(pb::route::Action::Route(action)) => {
                let action =
                    RouteAction::from_proto(action, inherited, &at.field("route"), context)?;
                Ok(Action::Forward(Box::new(action)))
            }
            Some(pb::route::Action::Redirect(redirect)) => {
                let redirect = Redirect::from_proto(redirect, &at.field("redirect"), context)?;
                Ok(Action::Redirect(Box::new(redirect)))
            }
            Some(pb::route::Action::DirectResponse(direct)) => {
                let at = at.field("direct_response");
                DirectResponse::from_proto(direct, inherited.body_limit, &at, context)
                    .map(Action::Direct)
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

#[cfg(test)]
mod tests;
