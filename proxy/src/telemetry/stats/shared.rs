//! Statistics that several holders of one prefix share, so that an update keeps its counts.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::telemetry::stats::{StatGroup, Store};

/// Groups of statistics by prefix, for as long as somebody holds them.
pub struct SharedStats<G>(Mutex<HashMap<String, Weak<G>>>);

impl<G> Default for SharedStats<G> {
    fn default() -> Self {
        SharedStats(Mutex::default())
    }
}

impl<G: StatGroup + 'static> SharedStats<G> {
    /// The group of this prefix; `make` makes it if nobody holds it.
    pub fn get(&self, store: &Store, prefix: String, make: impl FnOnce(Box<str>) -> G) -> Arc<G> {
        let mut groups = self.0.lock();
        if let Some(group) = groups.get(&prefix).and_then(Weak::upgrade) {
            return group;
        }
        // Those that nobody holds any more are swept when the table would have to grow.
        if groups.len() == groups.capacity() {
            groups.retain(|_, group| group.strong_count() > 0);
        }
        let group = store.register(make(prefix.as_str().into()));
        groups.insert(prefix, Arc::downgrade(&group));
        group
    }
}
