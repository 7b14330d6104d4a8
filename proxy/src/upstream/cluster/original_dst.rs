//! Hosts of an `ORIGINAL_DST` cluster: made for the address that a connection wanted to reach.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Cluster;
use super::host::Host;
use crate::config::cluster::Discovery;
use crate::config::endpoint::{EdsHealth, Endpoint, Target};
use crate::io::Address;
use crate::upstream::balance::PickContext;

/// The hosts by address. Readers take no lock; a new address copies the table.
#[derive(Debug, Default)]
pub struct OriginalDstHosts {
    hosts: ArcSwap<HashMap<SocketAddr, Arc<Host>>>,
}

impl OriginalDstHosts {
    /// The host for the original destination, made if there is none yet; none without a destination.
    pub(super) fn pick(&self, cluster: &Cluster, context: &PickContext<'_>) -> Option<Arc<Host>> {
        let Discovery::OriginalDst { port_override, .. } = &cluster.config().discovery else {
            return None;
        };
        let mut address = context.original_dst?;
        if let Some(port) = port_override {
            address.set_port(*port);
        }
        if let Some(host) = self.hosts.load().get(&address) {
            return Some(Arc::clone(host));
        }
        let made = new_host(address);
        self.hosts.rcu(|hosts| {
            let mut hosts = HashMap::clone(hosts);
            hosts.entry(address).or_insert_with(|| Arc::clone(&made));
            hosts
        });
        // Another worker may have been first; then its host is the one that counts.
        Some(self.hosts.load().get(&address).map_or(made, Arc::clone))
    }

    /// Every host, in no order.
    pub fn all(&self) -> Vec<Arc<Host>> {
        self.hosts.load().values().cloned().collect()
    }

    /// Gives up hosts that had no request since the last call and have no connection in use. Pools keep connections
    /// to a host by themselves, so that a host with idle connections only goes as well.
    pub(super) fn clean_up(&self, requests_before: &mut HashMap<SocketAddr, u64>) {
        let now: HashMap<SocketAddr, u64> =
            self.hosts.load().iter().map(|(at, host)| (*at, host.stats.rq_total.get())).collect();
        let unused = |address: &SocketAddr, host: &Host| {
            host.active_requests() == 0
                && requests_before.get(address) == Some(&host.stats.rq_total.get())
        };
        let mut gone = Vec::new();
        self.hosts.rcu(|hosts| {
            gone.clear();
            let mut hosts = HashMap::clone(hosts);
            hosts.retain(|address, host| {
                let keep = !unused(address, host);
                if !keep {
                    gone.push(Arc::clone(host));
                }
                keep
            });
            hosts
        });
        gone.iter().for_each(|host| host.remove());
        *requests_before = now;
    }

    pub(super) fn clear(&self) {
        let hosts = self.hosts.swap(Arc::default());
        hosts.values().for_each(|host| host.remove());
    }
}

fn new_host(address: SocketAddr) -> Arc<Host> {
    let address = Address::Ip(address);
    let target = Target::Address(address.clone());
    let health = EdsHealth::Healthy;
    let endpoint =
        Endpoint { target, hostname: None, weight: 1, health, metadata: None, check: None };
    Host::new(address, &endpoint, Arc::default(), 0)
}
