//! Translating the TCP proxy.

use std::sync::Arc;
use std::time::Duration;

use proto::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use proto::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster,
};

use super::TcpProxy;
use crate::config::access_log::AccessLog;
use crate::config::value::{duration_above, non_empty, timeout, within};
use crate::config::{At, ConfigError, Context};
use crate::{refuse_set, warn_set};

/// `idle_timeout`, when it is not set.
const DEFAULT_IDLE: Duration = Duration::from_secs(3600);

impl TcpProxy {
    /// An `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.
    pub(super) fn from_proto(
        message: &pb::TcpProxy,
        at: &At<'_>,
        context: &Context,
    ) -> Result<TcpProxy, ConfigError> {
        check_unsupported(message, at, context)?;
        let max_duration = at.field("max_downstream_connection_duration");
        let attempts = at.field("max_connect_attempts");
        let logs = message.access_log.iter().enumerate().map(|(index, log)| {
            AccessLog::from_proto(log, &at.index("access_log", index), context)
        });
        Ok(TcpProxy {
            stat_prefix: non_empty(&message.stat_prefix, &at.field("stat_prefix"))?.into(),
            clusters: clusters(message.cluster_specifier.as_ref(), at)?,
            idle_timeout: timeout(
                message.idle_timeout,
                Some(DEFAULT_IDLE),
                &at.field("idle_timeout"),
            )?,
            // The API allows a millisecond and more.
            max_duration: duration_above(
                Duration::from_nanos(999_999),
                message.max_downstream_connection_duration,
                &max_duration,
            )?,
            max_connect_attempts: within(
                message.max_connect_attempts,
                1,
                (1, u32::MAX),
                &attempts,
            )?,
            access_log: logs.collect::<Result<_, _>>()?,
        })
    }
}

fn check_unsupported(
    message: &pb::TcpProxy,
    at: &At<'_>,
    context: &Context,
) -> Result<(), ConfigError> {
    const LOG_ONCE: &str = "a connection is logged once, when it ends";
    refuse_set!(at, message, [on_demand, metadata_match, hash_policy, tunneling_config]);
    refuse_set!(at, message, [proxy_protocol_tlvs, proxy_protocol_tlv_merge_policy]);
    refuse_set!(at, message, [upstream_connect_mode, max_early_data_bytes]);
    warn_set!(context, at, message, [access_log_flush_interval, access_log_options], LOG_ONCE);
    warn_set!(context, at, message, [flush_access_log_on_connected], LOG_ONCE);
    warn_set!(context, at, message, [backoff_options], "attempts follow each other at once");
    warn_set!(
        context,
        at,
        message,
        [max_downstream_connection_duration_jitter_percentage],
        "connections end exactly after max_downstream_connection_duration"
    );
    warn_set!(
        context,
        at,
        message,
        [downstream_idle_timeout, upstream_idle_timeout],
        "Envoy does not implement it either; idle_timeout applies"
    );
    warn_set!(context, at, message, [check_drain_close], "draining always closes connections");
    Ok(())
}

fn clusters(
    specifier: Option<&ClusterSpecifier>,
    at: &At<'_>,
) -> Result<Vec<(Arc<str>, u32)>, ConfigError> {
    match specifier {
        None => Err(at.error("names no cluster; set cluster or weighted_clusters")),
        Some(ClusterSpecifier::Cluster(name)) => {
            Ok(vec![(non_empty(name, &at.field("cluster"))?.into(), 1)])
        }
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted_clusters(weighted, &at.field("weighted_clusters"))
        }
    }
}

fn weighted_clusters(
    message: &WeightedCluster,
    at: &At<'_>,
) -> Result<Vec<(Arc<str>, u32)>, ConfigError> {
    if message.clusters.is_empty() {
        return Err(at.field("clusters").error("must not be empty"));
    }
    let clusters = message.clusters.iter().enumerate().map(|(index, cluster)| {
        let at = at.index("clusters", index);
        refuse_set!(at, cluster, [metadata_match]);
        if cluster.weight == 0 {
            return Err(at.field("weight").error("must be above 0"));
        }
        Ok((non_empty(&cluster.name, &at.field("name"))?.into(), cluster.weight))
    });
    clusters.collect()
}
