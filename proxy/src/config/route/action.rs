//! Translating `RouteAction`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use proto::envoy::config::core::v3::RoutingPriority;
use proto::envoy::config::route::v3 as pb;
use proto::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, MaxStreamDuration as PbMaxStreamDuration, UpgradeConfig,
};
use proto::google::protobuf::BoolValue;

use super::configuration::Inherited;
use super::internal_redirect::InternalRedirect;
use super::mirror::mirrors;
use super::retry::{RetryPolicy, hedge_on_per_try_timeout};
use super::{
    ClusterSpecifier, HostRewrite, MaxStreamDuration, PathRewrite, Resilience, RouteAction,
};
use crate::config::hash_policy::HashPolicies;
use crate::config::metadata_match::MetadataMatch;
use crate::config::value::{duration, enumeration, non_empty, timeout};
use crate::config::{At, ConfigError, Context};
use crate::{refuse_set, warn_set};

/// `timeout`, when it is not set.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

impl RouteAction {
    /// An `envoy.config.route.v3.RouteAction`.
    pub(super) fn from_proto(
        message: &pb::RouteAction,
        inherited: &Inherited,
        at: &At<'_>,
        context: &Context,
    ) -> Result<RouteAction, ConfigError> {
        check_unsupported(message, at, context)?;
        let metadata_match = MetadataMatch::from_proto(message.metadata_match.as_ref());
        let not_found = at.field("cluster_not_found_response_code");
        let priority: RoutingPriority = enumeration(message.priority, &at.field("priority"))?;
        let max_stream = message.max_stream_duration.as_ref();
        let specifier = message.host_rewrite_specifier.as_ref();
        Ok(RouteAction {
            cluster: ClusterSpecifier::from_proto(
                message.cluster_specifier.as_ref(),
                metadata_match.as_ref(),
                at,
                context,
            )?,
            cluster_not_found: match enumeration(
                message.cluster_not_found_response_code,
                &not_found,
            )? {
                ClusterNotFoundResponseCode::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
                ClusterNotFoundResponseCode::NotFound => StatusCode::NOT_FOUND,
                ClusterNotFoundResponseCode::InternalServerError => {
                    StatusCode::INTERNAL_SERVER_ERROR
                }
            },
            path_rewrite: PathRewrite::from_action(message, at, context)?,
            host_rewrite: HostRewrite::from_proto(specifier, at, context)?,
            append_x_forwarded_host: message.append_x_forwarded_host,
            timeout: timeout(message.timeout, Some(DEFAULT_TIMEOUT), &at.field("timeout"))?,
            idle_timeout: duration(message.idle_timeout, &at.field("idle_timeout"))?
                .map(|idle| (!idle.is_zero()).then_some(idle)),
            max_stream_duration: max_stream
                .map(|max| MaxStreamDuration::from_proto(max, &at.field("max_stream_duration")))
                .transpose()?,
            max_grpc_timeout: duration(message.max_grpc_timeout, &at.field("max_grpc_timeout"))?,
            grpc_timeout_offset: duration(
                message.grpc_timeout_offset,
                &at.field("grpc_timeout_offset"),
            )?
            .unwrap_or_default(),
            high_priority: priority == RoutingPriority::High,
            hash_policies: HashPolicies::from_proto(&message.hash_policy, at, context)?,
            metadata_match,
            upgrades: upgrades(&message.upgrade_configs, at)?,
            terminates_connect: terminates_connect(&message.upgrade_configs, at)?,
            resilience: Resilience::from_proto(message, inherited, at, context)?,
        })
    }
}

fn check_unsupported(
    message: &pb::RouteAction,
    at: &At<'_>,
    context: &Context,
) -> Result<(), ConfigError> {
    const NO_FILTER: &str = "only an HTTP filter reads it, and Pillion has no such filter";
    refuse_set!(at, message, [retry_policy_typed_config]);
    refuse_set!(at, message, [internal_redirect_action, max_internal_redirects]);
    warn_set!(context, at, message, [rate_limits, include_vh_rate_limits, cors], NO_FILTER);
    warn_set!(context, at, message, [early_data_policy], "early data is never accepted");
    warn_set!(context, at, message, [flush_timeout], "idle_timeout applies to flushing too");
    Ok(())
}

impl Resilience {
    /// What the action says, and for the rest what its virtual host and the route configuration say.
    fn from_proto(
        message: &pb::RouteAction,
        inherited: &Inherited,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Resilience, ConfigError> {
        let retry = message.retry_policy.as_ref().map(|policy| {
            RetryPolicy::from_proto(policy, &at.field("retry_policy"), context).map(Arc::new)
        });
        let hedge = message.hedge_policy.as_ref();
        let hedge = hedge
            .map(|policy| hedge_on_per_try_timeout(policy, &at.field("hedge_policy"), context));
        let mirrors = mirrors(&message.request_mirror_policies, at, context)?;
        let redirect = message.internal_redirect_policy.as_ref().map(|policy| {
            let at = at.field("internal_redirect_policy");
            InternalRedirect::from_proto(policy, &at).map(Box::new)
        });
        Ok(Resilience {
            retry: retry.transpose()?.or_else(|| inherited.retry.clone()),
            hedge_on_per_try_timeout: hedge.unwrap_or(inherited.hedge_on_per_try_timeout),
            mirrors: if mirrors.is_empty() { inherited.mirrors.clone() } else { mirrors },
            internal_redirect: redirect.transpose()?,
            buffer_limit: inherited.buffer_limit,
        })
    }
}

impl MaxStreamDuration {
    fn from_proto(
        message: &PbMaxStreamDuration,
        at: &At<'_>,
    ) -> Result<MaxStreamDuration, ConfigError> {
        let max = at.field("grpc_timeout_header_max");
        let offset = at.field("grpc_timeout_header_offset");
        Ok(MaxStreamDuration {
            max: duration(message.max_stream_duration, &at.field("max_stream_duration"))?,
            grpc_timeout_max: duration(message.grpc_timeout_header_max, &max)?,
            grpc_timeout_offset: duration(message.grpc_timeout_header_offset, &offset)?,
        })
    }
}

fn upgrades(configs: &[UpgradeConfig], at: &At<'_>) -> Result<Vec<(Box<str>, bool)>, ConfigError> {
    upgrade_types(configs.iter().map(|config| (&*config.upgrade_type, config.enabled)), at)
}

/// Whether the entry for CONNECT has a `connect_config`.
fn terminates_connect(configs: &[UpgradeConfig], at: &At<'_>) -> Result<bool, ConfigError> {
    let mut terminates = false;
    for (index, config) in configs.iter().enumerate() {
        let Some(connect) = &config.connect_config else { continue };
        let at = at.index("upgrade_configs", index);
        let at = at.field("connect_config");
        if !config.upgrade_type.eq_ignore_ascii_case("CONNECT") {
            let kind = &config.upgrade_type;
            return Err(at.error(format_args!("belongs to CONNECT only, and not to {kind:?}")));
        }
        refuse_set!(at, connect, [proxy_protocol_config, allow_post]);
        terminates = true;
    }
    Ok(terminates)
}

/// `upgrade_configs` of the message that stands here: each type once, in lower case, with whether it is enabled.
pub(in crate::config) fn upgrade_types<'a>(
    configs: impl Iterator<Item = (&'a str, Option<BoolValue>)>,
    at: &At<'_>,
) -> Result<Vec<(Box<str>, bool)>, ConfigError> {
    let mut seen = HashSet::new();
    let upgrades = configs.enumerate().map(|(index, (name, enabled))| {
        let at = at.index("upgrade_configs", index);
        let at = at.field("upgrade_type");
        let name = non_empty(name, &at)?.to_ascii_lowercase();
        if !seen.insert(name.clone()) {
            return Err(at.error(format_args!("{name:?} stands in another place already")));
        }
        Ok((name.into(), enabled.is_none_or(|enabled| enabled.value)))
    });
    upgrades.collect()
}
