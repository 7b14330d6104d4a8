//! The choice of a request's cluster.

use std::sync::Arc;

use http::request::Parts;

use super::affinity::hash_for_cluster;
use crate::config::route::{ClusterSpecifier, RouteAction, WeightedCluster};
use crate::http::local_reply::LocalReply;
use crate::http::manager::{Route, Slot};
use crate::http::service::route_request;
use crate::http::stream::Stream;
use crate::route::action::ClusterTarget;
use crate::telemetry::response_flags::ResponseFlags;
use crate::upstream::cluster::Cluster;

/// The cluster of the request, or why there is none.
pub fn choose_cluster<'a>(
    stream: &Stream,
    route: &'a Route,
    action: &RouteAction,
    parts: &Parts,
    random: u64,
) -> Result<(Arc<Cluster>, Option<&'a WeightedCluster>), LocalReply> {
    let (cluster, weighted) = look_up(stream, route, action, parts, random);
    match cluster {
        Some(cluster) => {
            let mut info = stream.shared.info.borrow_mut();
            info.upstream.cluster = Some(Arc::clone(cluster.name()));
            Ok((cluster, weighted))
        }
        None => {
            stream.connection.manager.stats.no_cluster.inc();
            let status = action.cluster_not_found;
            let reply = LocalReply::new(status, "cluster_not_found", "");
            Err(reply.flag(ResponseFlags::NO_CLUSTER_FOUND))
        }
    }
}

/// The cluster that the request would go to, if it is there, and its entry of `weighted_clusters`.
pub fn look_up<'a>(
    stream: &Stream,
    route: &'a Route,
    action: &RouteAction,
    parts: &Parts,
    random: u64,
) -> (Option<Arc<Cluster>>, Option<&'a WeightedCluster>) {
    match route.only_cluster() {
        Some(slot) => (slot.get(), None),
        None => {
            let random = random_value(stream, action, parts, random);
            choose_by_request(stream, route, parts, random)
        }
    }
}

/// What weighted clusters are chosen by: the request's hash in place of the random number, if the route says so.
fn random_value(stream: &Stream, action: &RouteAction, parts: &Parts, random: u64) -> u64 {
    match (&action.cluster, &action.hash_policies) {
        (ClusterSpecifier::Weighted(weighted), Some(policies)) if weighted.by_hash => {
            hash_for_cluster(policies, stream, parts).unwrap_or(random)
        }
        _ => random,
    }
}

/// The cluster where it depends on the request: on a weighted choice or on a header.
fn choose_by_request<'a>(
    stream: &Stream,
    route: &'a Route,
    parts: &Parts,
    random: u64,
) -> (Option<Arc<Cluster>>, Option<&'a WeightedCluster>) {
    let wanted = route_request(parts, stream, random);
    let choice = route.choose_cluster(&wanted);
    let cluster = match choice.target {
        ClusterTarget::Known(slot) => Slot::get(slot),
        ClusterTarget::Named(name) => stream.connection.worker.registry.get(name),
        ClusterTarget::Missing => None,
    };
    (cluster, choice.weighted)
}
