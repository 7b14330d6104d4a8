//! Translating route configurations, virtual hosts and routes.

use std::collections::HashSet;
use std::sync::Arc;

use proto::envoy::config::route::v3 as pb;
use proto::envoy::config::route::v3::virtual_host::TlsRequirementType;

use super::{
    Action, DirectResponse, Redirect, RequireTls, Route, RouteAction, RouteConfiguration,
    RouteMatch, VirtualHost,
};
use crate::config::headers::HeaderMutations;
use crate::config::http_filter::RouteFilters;
use crate::config::value::{enumeration, header_name, metadata, non_empty, required};
use crate::config::{At, ConfigError, Context};
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
        let limit = message.max_direct_response_body_size_bytes;
        let limit = limit.map_or(DEFAULT_BODY_LIMIT, |limit| limit.value) as usize;
        let hosts = message.virtual_hosts.iter().enumerate().map(|(index, host)| {
            VirtualHost::from_proto(host, limit, &at.index("virtual_hosts", index), context)
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
        if message.domains.is_empty() {
            return Err(at.field("domains").error("must not be empty"));
        }
        let routes = message.routes.iter().enumerate().map(|(index, route)| {
            Route::from_proto(route, body_limit, &at.index("routes", index), context).map(Arc::new)
        });
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
            routes: routes.collect::<Result<_, _>>()?,
            require_tls: match enumeration(message.require_tls, &at.field("require_tls"))? {
                TlsRequirementType::None => RequireTls::None,
                TlsRequirementType::ExternalOnly => RequireTls::ExternalOnly,
                TlsRequirementType::All => RequireTls::All,
            },
            request_headers,
            response_headers,
            include_attempt_count: message.include_request_attempt_count,
            include_attempt_count_in_response: message.include_attempt_count_in_response,
            filters: RouteFilters::from_proto(&message.typed_per_filter_config, at, context)?,
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
            action: Action::from_proto(message.action.as_ref(), body_limit, at, context)?,
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

#[cfg(test)]
mod tests;
