//! Protobuf to model: `Cluster`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::envoy::config::cluster::v3 as pb;
use proto::envoy::config::core::v3 as core;

use super::circuit_breakers::circuit_breakers;
use super::discovery::Finding;
use super::http_options::HttpOptions;
use super::{Cluster, HealthCheck, LoadBalancing, OutlierDetection, SocketMatch, TcpKeepalive};
use crate::config::any;
use crate::config::error::{At, ConfigError, Context};
use crate::config::istio;
use crate::config::value;
use crate::{refuse_set, warn_set};

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_BUFFER_LIMIT: u32 = 1 << 20;

impl Cluster {
    /// Translates a `Cluster`.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported.
    pub fn from_proto(
        message: &pb::Cluster,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Cluster, ConfigError> {
        value::non_empty(&message.name, &at.field("name"))?;
        refuse_unsupported(message, at, context)?;
        warn_without_effect(message, at, context);
        let name: Arc<str> = message.name.as_str().into();
        let discovery = Finding { message, name: &name, at, context }.discovery()?;
        let lb = LoadBalancing::from_proto(message, &discovery, at, context)?;
        let (tls, socket_matches) = SocketMatch::sockets_from_proto(message, at, context)?;
        let speaks_tls = tls.is_some() || socket_matches.iter().any(|entry| entry.tls.is_some());
        let HttpOptions { protocol, common: http, http2, http1_trailers, auto_names } =
            HttpOptions::from_cluster(message, speaks_tls, at, context)?;
        let connect_timeout = at.field("connect_timeout");
        let [source_address, extra_source_address] = source_addresses(
            message.upstream_bind_config.as_ref(),
            &at.field("upstream_bind_config"),
        )?;
        Ok(Cluster {
            stat_name: stat_name(message, &name),
            discovery,
            connect_timeout: value::positive_duration(message.connect_timeout, &connect_timeout)?
                .unwrap_or(DEFAULT_CONNECT_TIMEOUT),
            buffer_limit: message
                .per_connection_buffer_limit_bytes
                .map_or(DEFAULT_BUFFER_LIMIT, |limit| limit.value),
            lb,
            circuit_breakers: circuit_breakers(message, at, context)?,
            health_check: HealthCheck::from_cluster(&message.health_checks, at, context)?,
            ignore_health_on_removal: message.ignore_health_on_host_removal,
            ignore_new_hosts_until_first_check: ignores_new_hosts(message),
            outlier_detection: outlier_detection(message, at, context)?,
            protocol,
            http,
            http2,
            http1_trailers,
            tls,
            socket_matches,
            auto_names: auto_names.filter(|_| speaks_tls).map(Box::new),
            tcp_keepalive: connection_options(
                message.upstream_connection_options.as_ref(),
                &at.field("upstream_connection_options"),
                context,
            ),
            source_address,
            extra_source_address,
            metadata: value::metadata(message.metadata.as_ref(), &at.field("metadata"), context),
            name,
        })
    }
}

fn ignores_new_hosts(message: &pb::Cluster) -> bool {
    message.common_lb_config.as_ref().is_some_and(|common| common.ignore_new_hosts_until_first_hc)
}

fn outlier_detection(
    message: &pb::Cluster,
    at: &At<'_>,
    context: &Context,
) -> Result<Option<Arc<OutlierDetection>>, ConfigError> {
    let message = message.outlier_detection.as_ref();
    let at = at.field("outlier_detection");
    let outlier = message.map(|message| OutlierDetection::from_proto(message, &at, context));
    Ok(outlier.transpose()?.map(Arc::new))
}

/// Refuses what would send requests elsewhere, to other hosts or in another form than the control plane asks for.
fn refuse_unsupported(
    message: &pb::Cluster,
    at: &At<'_>,
    context: &Context,
) -> Result<(), ConfigError> {
    refuse_set!(
        at,
        message,
        [
            transport_socket_matcher,
            per_connection_buffer_high_watermark_timeout,
            connection_pool_per_downstream_connection,
            queuing_policies,
        ]
    );
    for (index, filter) in message.filters.iter().enumerate() {
        let at = at.index("filters", index);
        match &filter.typed_config {
            Some(config) if istio::is_telemetry(config) => context.warn(&at, istio::LEFT_OUT),
            config => return Err(any::unknown(&filter.name, config.as_ref(), &at)),
        }
    }
    // The one connection pool that Envoy's default names explicitly.
    let pool =
        message.upstream_config.as_ref().map(|pool| any::type_name(pool.typed_config.as_ref()));
    match pool {
        None | Some("envoy.extensions.upstreams.http.generic.v3.GenericConnectionPoolProto") => {
            Ok(())
        }
        Some(_) => Err(at.field("upstream_config").unsupported()),
    }
}

fn warn_without_effect(message: &pb::Cluster, at: &At<'_>, context: &Context) {
    let reason = "these statistics are not kept";
    warn_set!(
        context,
        at,
        message,
        [stats_matcher, track_timeout_budgets, track_cluster_stats],
        reason
    );
    warn_set!(
        context,
        at,
        message,
        [lrs_server, lrs_report_endpoint_metrics],
        "no load is reported"
    );
    warn_set!(
        context,
        at,
        message,
        [preconnect_policy],
        "connections are made when they are needed"
    );
    if message.close_connections_on_host_health_failure {
        let at = at.field("close_connections_on_host_health_failure");
        context.warn(&at, "HTTP connections are closed after their requests, TCP sessions go on");
    }
    if message.wait_for_warm_on_init.is_some_and(|wait| !wait.value) {
        context.warn(&at.field("wait_for_warm_on_init"), "start waits for every cluster");
    }
}

/// The name in statistics, where a colon would end it.
fn stat_name(message: &pb::Cluster, name: &Arc<str>) -> Arc<str> {
    let stat_name =
        if message.alt_stat_name.is_empty() { &message.name } else { &message.alt_stat_name };
    if stat_name.contains(':') {
        stat_name.replace(':', "_").into()
    } else if **stat_name == **name {
        name.clone()
    } else {
        stat_name.as_str().into()
    }
}

/// The TCP keep-alive of `upstream_connection_options`.
fn connection_options(
    message: Option<&pb::UpstreamConnectionOptions>,
    at: &At<'_>,
    context: &Context,
) -> Option<TcpKeepalive> {
    let message = message?;
    let reason = "the interface is not recorded";
    warn_set!(context, at, message, [set_local_interface_name_on_upstream_connections], reason);
    let reason = "a host has one address";
    warn_set!(context, at, message, [happy_eyeballs_config], reason);
    let seconds = |value: u32| Duration::from_secs(value.into());
    message.tcp_keepalive.map(|keepalive| TcpKeepalive {
        probes: keepalive.keepalive_probes.map(|probes| probes.value),
        time: keepalive.keepalive_time.map(|time| seconds(time.value)),
        interval: keepalive.keepalive_interval.map(|interval| seconds(interval.value)),
    })
}

/// The source address, and the one of the other IP version.
fn source_addresses(
    message: Option<&core::BindConfig>,
    at: &At<'_>,
) -> Result<[Option<SocketAddr>; 2], ConfigError> {
    let Some(message) = message else {
        return Ok([None, None]);
    };
    refuse_set!(
        at,
        message,
        [
            socket_options,
            additional_source_addresses,
            local_address_selector,
            validate_network_namespaces
        ]
    );
    if message.freebind.is_some_and(|freebind| freebind.value) {
        return Err(at.field("freebind").unsupported());
    }
    let source = message.source_address.as_ref();
    let source = source
        .map(|source| value::socket_address(source, &at.field("source_address")))
        .transpose()?;
    let extra = match message.extra_source_addresses.as_slice() {
        [] => None,
        [extra] => Some(extra_source(extra, source, &at.index("extra_source_addresses", 0))?),
        _ => {
            let at = at.field("extra_source_addresses");
            return Err(at.error("more than one is given, Envoy takes one"));
        }
    };
    Ok([source, extra])
}

fn extra_source(
    message: &core::ExtraSourceAddress,
    source: Option<SocketAddr>,
    at: &At<'_>,
) -> Result<SocketAddr, ConfigError> {
    refuse_set!(at, message, [socket_options]);
    let address = at.field("address");
    let extra = value::socket_address(value::required(&message.address, &address)?, &address)?;
    match source {
        None => Err(at.error("upstream_bind_config.source_address must be set too")),
        Some(source) if source.is_ipv4() == extra.is_ipv4() => {
            Err(address.error("must be of the other IP version than source_address"))
        }
        Some(_) => Ok(extra),
    }
}

#[cfg(test)]
mod tests;
