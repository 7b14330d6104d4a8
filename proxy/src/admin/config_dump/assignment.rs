//! A cluster's hosts as a `ClusterLoadAssignment`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::admin::json::{address, locality};
use crate::config::cluster::Discovery;
use crate::config::endpoint::Locality;
use crate::upstream::cluster::{Cluster, HealthFlags, Host};

/// Whether the hosts come from the cluster's own configuration, by address or by name.
pub(super) fn is_static(cluster: &Cluster) -> bool {
    !matches!(cluster.config().discovery, Discovery::Eds { .. })
}

/// The hosts now, by priority and locality.
pub(super) fn of(cluster: &Cluster) -> Value {
    let snapshot = cluster.hosts();
    let mut groups: BTreeMap<(u32, &Arc<Locality>), Vec<Value>> = BTreeMap::new();
    for host in snapshot.hosts().iter() {
        groups.entry((host.priority(), host.locality())).or_default().push(endpoint(host));
    }
    let endpoints = groups.into_iter().map(|((priority, at), hosts)| {
        let mut group = json!({"locality": locality(at), "lb_endpoints": hosts});
        if priority > 0 {
            group["priority"] = priority.into();
        }
        group
    });
    json!({
        "@type": proto::type_url::CLUSTER_LOAD_ASSIGNMENT,
        "cluster_name": &**cluster.name(),
        "endpoints": endpoints.collect::<Vec<_>>(),
        "policy": {"overprovisioning_factor": snapshot.membership().overprovisioning_factor},
    })
}

fn endpoint(host: &Host) -> Value {
    let mut endpoint = json!({"address": address(host.address()), "health_check_config": {}});
    if let Some(hostname) = host.hostname().filter(|name| !name.is_empty()) {
        endpoint["hostname"] = (**hostname).into();
    }
    let mut out = json!({
        "endpoint": endpoint,
        "health_status": health_status(host.health_flags()),
        "load_balancing_weight": host.weight(),
    });
    if let Some(metadata) = host.metadata() {
        out["metadata"] = json!({"filter_metadata": &*metadata});
    }
    out
}

/// `envoy.config.core.v3.HealthStatus`.
fn health_status(flags: HealthFlags) -> &'static str {
    let names = [
        (HealthFlags::EDS_STATUS_DRAINING, "DRAINING"),
        (HealthFlags::FAILED_ACTIVE_HC, "UNHEALTHY"),
        (HealthFlags::FAILED_OUTLIER_CHECK, "UNHEALTHY"),
        (HealthFlags::FAILED_EDS_HEALTH, "UNHEALTHY"),
        (HealthFlags::DEGRADED_ACTIVE_HC, "DEGRADED"),
        (HealthFlags::DEGRADED_EDS_HEALTH, "DEGRADED"),
    ];
    names.into_iter().find(|(flag, _)| flags.intersects(*flag)).map_or("HEALTHY", |(_, name)| name)
}
