//! What a bootstrap needs for its management servers and its local cluster.

use super::Bootstrap;
use crate::config::error::{At, ConfigError};
use crate::config::source::{ApiConfigSource, ConfigSource, GrpcTarget, SourceKind};

/// Management servers and the local cluster must be static clusters, and servers are told who asks.
pub(super) fn check(bootstrap: &Bootstrap, at: &At<'_>) -> Result<(), ConfigError> {
    if let Some(local) = &bootstrap.local_cluster_name
        && !bootstrap.clusters.iter().any(|(cluster, _)| cluster.name == *local)
    {
        let at = at.field("cluster_manager");
        let rule = format_args!("local cluster '{local}' must be defined in static_resources");
        return Err(at.field("local_cluster_name").error(rule));
    }
    let dynamic = at.field("dynamic_resources");
    let sources = [
        ("ads_config", bootstrap.ads.as_ref()),
        ("lds_config", api_of(bootstrap.lds.as_ref())),
        ("cds_config", api_of(bootstrap.cds.as_ref())),
    ];
    let manager = at.field("cluster_manager");
    let sources = sources.map(|(field, source)| (dynamic.field(field), source));
    let load = (manager.field("load_stats_config"), bootstrap.load_stats.as_ref());
    for (at_source, source) in sources.into_iter().chain([load]) {
        let Some(source) = source else { continue };
        check_clusters(bootstrap, source, &at_source)?;
        if bootstrap.node.id.is_empty() || bootstrap.node.cluster.is_empty() {
            return Err(at.field("node").error(
                "id and cluster are required, as resources come from a server; set them here, or with \
                 --service-node and --service-cluster",
            ));
        }
    }
    Ok(())
}

fn api_of(source: Option<&ConfigSource>) -> Option<&ApiConfigSource> {
    match &source?.kind {
        SourceKind::Api(api) => Some(api),
        SourceKind::Ads | SourceKind::Path { .. } => None,
    }
}

fn check_clusters(
    bootstrap: &Bootstrap,
    source: &ApiConfigSource,
    at: &At<'_>,
) -> Result<(), ConfigError> {
    for (index, service) in source.services.iter().enumerate() {
        let GrpcTarget::Cluster { name, .. } = &service.target else { continue };
        if !bootstrap.clusters.iter().any(|(cluster, _)| *cluster.name == **name) {
            let rule = format_args!("{name:?} is none of static_resources.clusters");
            if source.polling.is_some() {
                return Err(at.index("cluster_names", index).error(rule));
            }
            let at = at.index("grpc_services", index);
            return Err(at.field("envoy_grpc").field("cluster_name").error(rule));
        }
    }
    Ok(())
}
