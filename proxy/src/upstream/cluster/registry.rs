//! Every cluster of the process by name.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use parking_lot::Mutex;

use super::Cluster;
use super::stats::ClusterManagerStats;
use crate::config::endpoint::Locality;
use crate::telemetry::stats::Store;
use crate::upstream::balance::zone::LocalZone;

type Table = HashMap<Arc<str>, Arc<ClusterSlot>>;

/// Where the cluster of a name is, if there is one. Routes hold slots: one atomic load finds the cluster of now.
#[derive(Debug)]
pub struct ClusterSlot {
    name: Arc<str>,
    cluster: ArcSwapOption<Cluster>,
}

impl ClusterSlot {
    /// The name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The cluster now; none if it does not exist.
    pub fn load(&self) -> Guard<Option<Arc<Cluster>>> {
        self.cluster.load()
    }

    /// The cluster now, to hold for long.
    pub fn get(&self) -> Option<Arc<Cluster>> {
        self.cluster.load_full()
    }
}

/// The clusters, shared by all threads.
pub struct ClusterRegistry {
    /// Every slot, empty ones too.
    slots: Mutex<Table>,
    /// The slots that have a cluster, to look up without a lock.
    present: ArcSwap<Table>,
    /// Names of clusters that will serve once they are warm.
    warming: Mutex<HashSet<Arc<str>>>,
    local_zone: OnceLock<Arc<LocalZone>>,
    stats: Arc<ClusterManagerStats>,
}

impl ClusterRegistry {
    /// No clusters yet; `cluster_manager.*` is counted in `store`.
    pub fn new(store: &Store) -> Arc<Self> {
        Arc::new(ClusterRegistry {
            slots: Mutex::default(),
            present: ArcSwap::default(),
            warming: Mutex::default(),
            local_zone: OnceLock::new(),
            stats: store.register(ClusterManagerStats::new("cluster_manager.")),
        })
    }

    /// Says which clusters warm.
    pub fn set_warming(&self, names: impl Iterator<Item = Arc<str>>) {
        let mut warming = self.warming.lock();
        warming.clear();
        warming.extend(names);
        self.stats.warming_clusters.set(warming.len() as u64);
    }

    /// Whether there is such a cluster, or one warms.
    pub fn is_known(&self, name: &str) -> bool {
        self.get(name).is_some() || self.warming.lock().contains(name)
    }

    /// `cluster_manager.*`
    pub fn stats(&self) -> &Arc<ClusterManagerStats> {
        &self.stats
    }

    /// Says where this proxy is, before any cluster is made: clusters route by zone from then on.
    pub fn set_local_zone(&self, locality: Locality, cluster: &str) {
        // The first call counts.
        let _ = self.local_zone.set(Arc::new(LocalZone { locality, cluster: self.slot(cluster) }));
    }

    /// Where this proxy is, if it is known.
    pub fn local_zone(&self) -> Option<&Arc<LocalZone>> {
        self.local_zone.get()
    }

    /// The slot of a name, made empty if there is none.
    pub fn slot(&self, name: &str) -> Arc<ClusterSlot> {
        slot_in(&mut self.slots.lock(), name)
    }

    /// The cluster of a name, for names that requests carry.
    pub fn get(&self, name: &str) -> Option<Arc<Cluster>> {
        self.present.load().get(name)?.get()
    }

    /// Every cluster, by name.
    pub fn list(&self) -> Vec<Arc<Cluster>> {
        let mut clusters: Vec<_> =
            self.present.load().values().filter_map(|slot| slot.get()).collect();
        clusters.sort_by(|a, b| a.name().cmp(b.name()));
        clusters
    }

    /// Adds clusters, or puts them in place of those of the same name.
    pub fn put(&self, clusters: Vec<Arc<Cluster>>) {
        let mut slots = self.slots.lock();
        let mut added = Vec::new();
        for cluster in clusters {
            let slot = slot_in(&mut slots, cluster.name());
            cluster.activate();
            match slot.cluster.swap(Some(Arc::clone(&cluster))) {
                Some(old) if Arc::ptr_eq(&old, &cluster) => {}
                Some(old) => {
                    old.retire(Some(&cluster));
                    self.stats.cluster_modified.inc();
                }
                None => {
                    self.stats.cluster_added.inc();
                    added.push(slot);
                }
            }
        }
        if !added.is_empty() {
            let mut present = Table::clone(&self.present.load());
            present.extend(added.into_iter().map(|slot| (Arc::clone(&slot.name), slot)));
            self.publish(present);
        }
    }

    /// Removes clusters; names that do not exist are passed over. Requests that hold one finish on it.
    pub fn remove<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut slots = self.slots.lock();
        let mut present = Table::clone(&self.present.load());
        for name in names {
            let Some(slot) = present.remove(name) else { continue };
            if let Some(cluster) = slot.cluster.swap(None) {
                cluster.retire(None);
                self.stats.cluster_removed.inc();
            }
        }
        self.publish(present);
        forget_unused(&mut slots);
    }

    fn publish(&self, present: Table) {
        self.stats.active_clusters.set(present.len() as u64);
        self.present.store(Arc::new(present));
    }
}

fn slot_in(slots: &mut Table, name: &str) -> Arc<ClusterSlot> {
    if let Some(slot) = slots.get(name) {
        return Arc::clone(slot);
    }
    // Empty slots that no route holds are swept when the table would have to grow.
    if slots.len() == slots.capacity() {
        forget_unused(slots);
    }
    let name: Arc<str> = name.into();
    let slot = Arc::new(ClusterSlot { name: Arc::clone(&name), cluster: ArcSwapOption::empty() });
    slots.insert(name, Arc::clone(&slot));
    slot
}

fn forget_unused(slots: &mut Table) {
    slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.load().is_some());
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, config};
    use super::*;

    #[test]
    fn a_slot_follows_its_name() {
        let store = Arc::new(Store::default());
        let registry = ClusterRegistry::new(&store);
        let slot = registry.slot("a");
        assert!(slot.load().is_none() && registry.get("a").is_none());

        let first = cluster(config("a", &["10.0.0.1:80"]), None);
        registry.put(vec![Arc::clone(&first), cluster(config("b", &[]), None)]);
        assert!(Arc::ptr_eq(&slot.get().unwrap(), &first));
        assert_eq!(registry.list().iter().map(|c| &**c.name()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(registry.stats().active_clusters.get(), 2);

        registry.remove(["a", "unknown"]);
        assert!(slot.load().is_none() && registry.get("a").is_none());
        assert!(first.is_retired() && first.hosts().hosts()[0].is_removed());
        let stats = registry.stats();
        assert_eq!((stats.cluster_added.get(), stats.cluster_removed.get()), (2, 1));
    }

    #[test]
    fn a_successor_keeps_hosts_and_drains_their_connections() {
        let store = Arc::new(Store::default());
        let registry = ClusterRegistry::new(&store);
        let first = cluster(config("a", &["10.0.0.1:80", "10.0.0.2:80"]), None);
        registry.put(vec![Arc::clone(&first)]);
        let hosts = first.hosts().hosts().clone();
        hosts[0].stats.rq_total.inc();
        first.stats().upstream_rq_total.inc();

        let second = cluster(config("a", &["10.0.0.1:80"]), Some(&first));
        registry.put(vec![Arc::clone(&second)]);
        assert!(Arc::ptr_eq(&second.hosts().hosts()[0], &hosts[0]));
        assert_eq!(second.stats().upstream_rq_total.get(), 1);
        assert_eq!((hosts[0].epoch(), hosts[0].is_removed()), (1, false));
        assert!(hosts[1].is_removed());

        // The old one has no say any more.
        first.set_assignment(&Default::default());
        assert!(!hosts[0].is_removed());
    }

    #[test]
    fn empty_slots_that_nobody_holds_are_forgotten() {
        let registry = ClusterRegistry::new(&Store::default());
        for name in 0..10_000 {
            registry.slot(&name.to_string());
        }
        assert!(registry.slots.lock().len() < 100);
    }
}
