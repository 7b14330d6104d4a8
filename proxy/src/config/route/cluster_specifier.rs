//! Translating cluster specifiers.

use std::sync::Arc;

use proto::envoy::config::route::v3 as pb;
use proto::envoy::config::route::v3::route_action::ClusterSpecifier as PbSpecifier;
use proto::envoy::config::route::v3::weighted_cluster::cluster_weight::HostRewriteSpecifier;
use proto::envoy::config::route::v3::weighted_cluster::{ClusterWeight, RandomValueSpecifier};

use super::{ClusterSpecifier, WeightedCluster, WeightedClusters, WeightedTarget};
use crate::config::headers::HeaderMutations;
use crate::config::http_filter::RouteFilters;
use crate::config::metadata_match::MetadataMatch;
use crate::config::value::{header_name, non_empty, required};
use crate::config::{At, ConfigError, Context};
use crate::warn_set;

impl ClusterSpecifier {
    /// The cluster specifier of a `RouteAction`, which has this `metadata_match`.
    pub(super) fn from_proto(
        specifier: Option<&PbSpecifier>,
        metadata: Option<&Arc<MetadataMatch>>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<ClusterSpecifier, ConfigError> {
        match specifier {
            None => {
                Err(at.error("names no cluster; set cluster, cluster_header or weighted_clusters"))
            }
            Some(PbSpecifier::Cluster(name)) => {
                Ok(ClusterSpecifier::Cluster(non_empty(name, &at.field("cluster"))?.into()))
            }
            Some(PbSpecifier::ClusterHeader(name)) => {
                request_header(name, &at.field("cluster_header")).map(ClusterSpecifier::Header)
            }
            Some(PbSpecifier::WeightedClusters(weighted)) => {
                let at = at.field("weighted_clusters");
                let weighted = WeightedClusters::from_proto(weighted, metadata, &at, context)?;
                Ok(ClusterSpecifier::Weighted(weighted))
            }
            Some(PbSpecifier::ClusterSpecifierPlugin(_)) => {
                Err(at.field("cluster_specifier_plugin").unsupported())
            }
            Some(PbSpecifier::InlineClusterSpecifierPlugin(_)) => {
                Err(at.field("inline_cluster_specifier_plugin").unsupported())
            }
        }
    }
}

impl WeightedClusters {
    fn from_proto(
        message: &pb::WeightedCluster,
        metadata: Option<&Arc<MetadataMatch>>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<WeightedClusters, ConfigError> {
        warn_set!(context, at, message, [total_weight], "the sum of the weights is used");
        warn_set!(context, at, message, [runtime_key_prefix], "the weights given are always used");
        let (header, by_hash) = match &message.random_value_specifier {
            None => (None, false),
            Some(RandomValueSpecifier::HeaderName(name)) if name.is_empty() => (None, false),
            Some(RandomValueSpecifier::HeaderName(name)) => {
                (Some(header_name(name, &at.field("header_name"))?), false)
            }
            Some(RandomValueSpecifier::UseHashPolicy(value)) => (None, value.value),
        };
        let clusters = message.clusters.iter().enumerate().map(|(index, cluster)| {
            let at = at.index("clusters", index);
            WeightedCluster::from_proto(cluster, metadata, &at, context)
        });
        let clusters = clusters.collect::<Result<Vec<_>, _>>()?;
        let total = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
        match total {
            0 => Err(at.field("clusters").error("the sum of the weights must be above 0")),
            total if total > u64::from(u32::MAX) => Err(at
                .field("clusters")
                .error(format_args!("the sum of the weights, {total}, is above {}", u32::MAX))),
            total => Ok(WeightedClusters { clusters, total, header, by_hash }),
        }
    }
}

impl WeightedCluster {
    fn from_proto(
        message: &ClusterWeight,
        metadata: Option<&Arc<MetadataMatch>>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<WeightedCluster, ConfigError> {
        let own_metadata = MetadataMatch::from_proto(message.metadata_match.as_ref());
        let cluster = match (message.name.as_str(), message.cluster_header.as_str()) {
            ("", "") => return Err(at.error("either name or cluster_header must be set")),
            (name, "") => WeightedTarget::Cluster(name.into()),
            ("", header) => {
                WeightedTarget::Header(request_header(header, &at.field("cluster_header"))?)
            }
            _ => return Err(at.error("only one of name and cluster_header can be set")),
        };
        let host_rewrite = match &message.host_rewrite_specifier {
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) if !host.is_empty() => {
                let authority = host.parse().map_err(|error| {
                    at.field("host_rewrite_literal").error(format_args!("{host:?}: {error}"))
                });
                Some(authority?)
            }
            _ => None,
        };
        let (request_headers, response_headers) = HeaderMutations::both_from_proto(
            (&message.request_headers_to_add, &message.request_headers_to_remove),
            (&message.response_headers_to_add, &message.response_headers_to_remove),
            at,
        )?;
        Ok(WeightedCluster {
            cluster,
            metadata_match: own_metadata
                .map(|own| own.over(metadata))
                .or_else(|| metadata.cloned()),
            filters: RouteFilters::from_proto(&message.typed_per_filter_config, at, context)?,
            weight: required(&message.weight, &at.field("weight"))?.value,
            request_headers,
            response_headers,
            host_rewrite,
        })
    }
}

/// The name of a header that names a cluster; pseudo headers may.
pub(super) fn request_header(name: &str, at: &At<'_>) -> Result<Box<str>, ConfigError> {
    let name = non_empty(name, at)?.to_ascii_lowercase();
    match name.as_str() {
        "host" => Ok(":authority".into()),
        pseudo if pseudo.starts_with(':') => Ok(name.into()),
        plain => Ok(header_name(plain, at)?.as_str().into()),
    }
}
