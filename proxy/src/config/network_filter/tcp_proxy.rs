//! Translating the TCP proxy.

use std::sync::Arc;
use std::time::Duration;

use proto::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use proto::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster,
};
use proto::envoy::r#type::v3::HashPolicy;
use proto::envoy::r#type::v3::hash_policy::PolicySpecifier;

use super::{TcpCluster, TcpProxy};
use crate::config::access_log::AccessLog;
use crate::config::metadata_match::MetadataMatch;
use crate::config::value::{duration_above, non_empty, required, timeout, within};
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
        Ok(TcpProxy {
            stat_prefix: non_empty(&message.stat_prefix, &at.field("stat_prefix"))?.into(),
            clusters: clusters(message, at)?,
            hash_source_ip: hash_source_ip(&message.hash_policy, at, context)?,
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
            access_log: AccessLog::from_list(&message.access_log, "access_log", at, context)?,
        })
    }
}

fn check_unsupported(
    message: &pb::TcpProxy,
    at: &At<'_>,
    context: &Context,
) -> Result<(), ConfigError> {
    const LOG_ONCE: &str = "a connection is logged once, when it ends";
    refuse_set!(at, message, [on_demand, tunneling_config]);
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

/// Whether connections hash by their client's address.
fn hash_source_ip(
    policies: &[HashPolicy],
    at: &At<'_>,
    context: &Context,
) -> Result<bool, ConfigError> {
    let at = at.index("hash_policy", 0);
    match policies {
        [] => Ok(false),
        [policy] => match required(&policy.policy_specifier, &at)? {
            PolicySpecifier::SourceIp(_) => Ok(true),
            PolicySpecifier::FilterState(_) => {
                let reason = "no filter sets such state, so that it gives no hash";
                context.warn(&at.field("filter_state"), reason);
                Ok(false)
            }
        },
        _ => Err(at.error("there may be one policy only")),
    }
}

fn clusters(message: &pb::TcpProxy, at: &At<'_>) -> Result<Vec<TcpCluster>, ConfigError> {
    let metadata_match = MetadataMatch::from_proto(message.metadata_match.as_ref());
    match &message.cluster_specifier {
        None => Err(at.error("names no cluster; set cluster or weighted_clusters")),
        Some(ClusterSpecifier::Cluster(name)) => {
            let name = non_empty(name, &at.field("cluster"))?.into();
            Ok(vec![TcpCluster { name, weight: 1, metadata_match }])
        }
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted_clusters(weighted, metadata_match.as_ref(), &at.field("weighted_clusters"))
        }
    }
}

fn weighted_clusters(
    message: &WeightedCluster,
    metadata: Option<&Arc<MetadataMatch>>,
    at: &At<'_>,
) -> Result<Vec<TcpCluster>, ConfigError> {
    if message.clusters.is_empty() {
        return Err(at.field("clusters").error("must not be empty"));
    }
    let clusters = message.clusters.iter().enumerate().map(|(index, cluster)| {
        let at = at.index("clusters", index);
        if cluster.weight == 0 {
            return Err(at.field("weight").error("must be above 0"));
        }
        let own = MetadataMatch::from_proto(cluster.metadata_match.as_ref());
        let metadata_match = own.map(|own| own.over(metadata)).or_else(|| metadata.cloned());
        let name = non_empty(&cluster.name, &at.field("name"))?.into();
        Ok(TcpCluster { name, weight: cluster.weight, metadata_match })
    });
    clusters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::message;

    fn translate(yaml: &str) -> Result<TcpProxy, ConfigError> {
        TcpProxy::from_proto(&message(yaml), &At::resource("listener", "l"), &Context::default())
    }

    #[test]
    fn one_or_several_clusters_are_named() {
        let one = translate("{stat_prefix: s, cluster: c}").unwrap();
        let shares = |proxy: &TcpProxy| -> Vec<(String, u32)> {
            proxy.clusters.iter().map(|c| (c.name.to_string(), c.weight)).collect()
        };
        assert_eq!(shares(&one), [("c".to_owned(), 1)]);
        assert_eq!(one.idle_timeout, Some(DEFAULT_IDLE));
        assert_eq!(one.max_connect_attempts, 1);
        let two = translate(
            "{stat_prefix: s, idle_timeout: 0s, max_connect_attempts: 3, weighted_clusters:
              {clusters: [{name: a, weight: 1}, {name: b, weight: 2}]}}",
        );
        let two = two.unwrap();
        assert_eq!(shares(&two), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        assert_eq!((two.idle_timeout, two.max_connect_attempts), (None, 3));
    }

    #[test]
    fn bad_and_unsupported_fields_are_refused_by_their_path() {
        for (yaml, path) in [
            ("{cluster: c}", ": stat_prefix"),
            ("{stat_prefix: s}", ""),
            ("{stat_prefix: s, cluster: ''}", ": cluster"),
            ("{stat_prefix: s, cluster: c, on_demand: {}}", ": on_demand"),
            ("{stat_prefix: s, cluster: c, max_connect_attempts: 0}", ": max_connect_attempts"),
            ("{stat_prefix: s, weighted_clusters: {}}", ": weighted_clusters.clusters"),
            (
                "{stat_prefix: s, weighted_clusters: {clusters: [{name: a}]}}",
                ": weighted_clusters.clusters[0].weight",
            ),
            (
                "{stat_prefix: s, cluster: c, max_downstream_connection_duration: 0s}",
                ": max_downstream_connection_duration",
            ),
        ] {
            let error = translate(yaml).unwrap_err();
            assert_eq!(error.path, format!("listener \"l\"{path}"), "{error}");
        }
    }
}
