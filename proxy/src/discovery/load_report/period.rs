//! What happens on a cluster between two reports.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use proto::convert::to_proto_duration;
use proto::envoy::config::core::v3::{self as core, Address as PbAddress};
use proto::envoy::config::endpoint::v3::cluster_stats::DroppedRequests;
use proto::envoy::config::endpoint::v3::{
    ClusterStats, UpstreamEndpointStats, UpstreamLocalityStats,
};

use crate::config::cluster::Discovery;
use crate::config::endpoint::Locality;
use crate::io::Address;
use crate::upstream::cluster::{Cluster, Host};

/// The counters of a cluster where the last report has left them.
pub struct Period {
    since: Instant,
    /// By the hosts' ids; those that are gone until their last request is.
    hosts: HashMap<u64, (Arc<Host>, Counts)>,
    dropped: u64,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    issued: u64,
    success: u64,
    error: u64,
}

impl Counts {
    fn of(host: &Host) -> Self {
        let stats = &host.stats;
        Counts {
            issued: stats.rq_total.get(),
            success: stats.rq_success.get(),
            error: stats.rq_error.get(),
        }
    }

    /// What has come since; counters may have been reset by hand.
    fn since(self, before: Counts) -> Counts {
        Counts {
            issued: self.issued.saturating_sub(before.issued),
            success: self.success.saturating_sub(before.success),
            error: self.error.saturating_sub(before.error),
        }
    }
}

impl Period {
    /// Begins now.
    pub fn begin(cluster: &Cluster) -> Self {
        let hosts = cluster.hosts();
        let known = |host: &Arc<Host>| (host.id(), (Arc::clone(host), Counts::of(host)));
        Period {
            since: Instant::now(),
            hosts: hosts.hosts().iter().map(known).collect(),
            dropped: cluster.traffic().dropped.get(),
        }
    }

    /// Ends now, and another one begins. As in Envoy, localities that got no request are left out.
    pub fn end(&mut self, cluster: &Cluster, by_endpoint: bool) -> ClusterStats {
        let snapshot = cluster.hosts();
        for host in snapshot.hosts().iter() {
            self.hosts.entry(host.id()).or_insert_with(|| (Arc::clone(host), Counts::default()));
        }
        let mut localities: BTreeMap<_, UpstreamLocalityStats> = BTreeMap::new();
        for (host, before) in self.hosts.values_mut() {
            let now = Counts::of(host);
            let new = now.since(*before);
            *before = now;
            let Locality { region, zone, sub_zone } = &**host.locality();
            let key = (host.priority(), [region, zone, sub_zone].map(Clone::clone));
            let of_locality = localities.entry(key).or_insert_with(|| UpstreamLocalityStats {
                locality: Some(locality(host.locality())),
                priority: host.priority(),
                ..UpstreamLocalityStats::default()
            });
            add(of_locality, host, new, by_endpoint);
        }
        let members: HashSet<u64> = snapshot.hosts().iter().map(|host| host.id()).collect();
        self.hosts.retain(|id, (host, _)| members.contains(id) || host.stats.rq_active.get() > 0);
        let is_used = |locality: &UpstreamLocalityStats| locality.total_issued_requests > 0;
        let elapsed = std::mem::replace(&mut self.since, Instant::now()).elapsed();
        ClusterStats {
            cluster_name: cluster.name().to_string(),
            cluster_service_name: service_name(cluster),
            upstream_locality_stats: localities.into_values().filter(is_used).collect(),
            dropped_requests: self.dropped(cluster),
            load_report_interval: Some(to_proto_duration(elapsed)),
            ..ClusterStats::default()
        }
    }

    fn dropped(&mut self, cluster: &Cluster) -> Vec<DroppedRequests> {
        let now = cluster.traffic().dropped.get();
        let dropped_count = now.saturating_sub(std::mem::replace(&mut self.dropped, now));
        let hosts = cluster.hosts();
        let policy = hosts.membership().drop_overload.as_ref();
        let category = policy.map(|(category, _)| category.to_string()).unwrap_or_default();
        (dropped_count > 0)
            .then_some(DroppedRequests { category, dropped_count })
            .into_iter()
            .collect()
    }
}

fn add(locality: &mut UpstreamLocalityStats, host: &Host, new: Counts, by_endpoint: bool) {
    let active = host.stats.rq_active.get();
    locality.total_issued_requests += new.issued;
    locality.total_successful_requests += new.success;
    locality.total_error_requests += new.error;
    locality.total_requests_in_progress += active;
    if by_endpoint && new.issued > 0 {
        locality.upstream_endpoint_stats.push(UpstreamEndpointStats {
            address: address(host.address()),
            total_issued_requests: new.issued,
            total_successful_requests: new.success,
            total_error_requests: new.error,
            total_requests_in_progress: active,
            ..UpstreamEndpointStats::default()
        });
    }
}

fn service_name(cluster: &Cluster) -> String {
    match &cluster.config().discovery {
        Discovery::Eds { service_name, .. } if **service_name != **cluster.name() => {
            service_name.to_string()
        }
        _ => String::new(),
    }
}

fn locality(locality: &Locality) -> core::Locality {
    core::Locality {
        region: locality.region.to_string(),
        zone: locality.zone.to_string(),
        sub_zone: locality.sub_zone.to_string(),
    }
}

fn address(address: &Address) -> Option<PbAddress> {
    use core::{SocketAddress, address::Address as Kind, socket_address::PortSpecifier};
    let ip = address.ip()?;
    let socket = SocketAddress {
        address: ip.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(ip.port().into())),
        ..SocketAddress::default()
    };
    Some(PbAddress { address: Some(Kind::SocketAddress(socket)) })
}
