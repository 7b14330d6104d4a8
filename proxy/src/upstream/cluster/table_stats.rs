//! Statistics of the tables of policies that hash: `cluster.<name>.ring_hash_lb.*` and `maglev_lb.*`.

use std::sync::Arc;

use crate::config::cluster::{Cluster as Config, LbPolicy};
use crate::stat_group;
use crate::telemetry::stats::Store;
use crate::upstream::balance::TableSize;

stat_group! {
    /// `cluster.<name>.ring_hash_lb.*`
    pub struct RingStats {
        gauge max_hashes_per_host,
        gauge min_hashes_per_host,
        gauge size,
    }
}

stat_group! {
    /// `cluster.<name>.maglev_lb.*`
    pub struct MaglevStats {
        gauge max_entries_per_host,
        gauge min_entries_per_host,
    }
}

/// The statistics that the cluster's policy has.
pub(super) enum TableStats {
    Ring(Arc<RingStats>),
    Maglev(Arc<MaglevStats>),
}

impl TableStats {
    /// None for policies without a table.
    pub(super) fn new(config: &Config, store: &Store) -> Option<Self> {
        let name = &config.stat_name;
        match &config.lb.policy {
            LbPolicy::RingHash(_) => {
                let stats = RingStats::new(format!("cluster.{name}.ring_hash_lb."));
                Some(TableStats::Ring(store.register(stats)))
            }
            LbPolicy::Maglev(_) => {
                let stats = MaglevStats::new(format!("cluster.{name}.maglev_lb."));
                Some(TableStats::Maglev(store.register(stats)))
            }
            _ => None,
        }
    }

    pub(super) fn set(&self, size: &TableSize) {
        match self {
            TableStats::Ring(stats) => {
                stats.size.set(size.entries);
                stats.min_hashes_per_host.set(size.min_per_host);
                stats.max_hashes_per_host.set(size.max_per_host);
            }
            TableStats::Maglev(stats) => {
                stats.min_entries_per_host.set(size.min_per_host);
                stats.max_entries_per_host.set(size.max_per_host);
            }
        }
    }
}
