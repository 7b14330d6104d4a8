//! Statistics that several holders of one prefix share, so that an update keeps its counts.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::telemetry::stats::{StatGroup, Store};

/// Groups of statistics by kind and prefix, for as long as somebody holds them.
#[derive(Default)]
pub struct SharedStats(Mutex<HashMap<(TypeId, String), Weak<dyn Any + Send + Sync>>>);

impl SharedStats {
    /// The group of this prefix; `make` makes it if nobody holds it.
    pub fn get<G: StatGroup + 'static>(
        &self,
        store: &Store,
        prefix: String,
        make: impl FnOnce(Box<str>) -> G,
    ) -> Arc<G> {
        let mut groups = self.0.lock();
        let key = (TypeId::of::<G>(), prefix);
        let held = groups.get(&key).and_then(Weak::upgrade);
        if let Some(group) = held.and_then(|group| group.downcast().ok()) {
            return group;
        }
        // Those that nobody holds any more are swept when the table would have to grow.
        if groups.len() == groups.capacity() {
            groups.retain(|_, group| group.strong_count() > 0);
        }
        let group = store.register(make(key.1.as_str().into()));
        let any: Arc<dyn Any + Send + Sync> = Arc::<G>::clone(&group);
        groups.insert(key, Arc::downgrade(&any));
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat_group;

    stat_group! {
        /// For the test.
        pub struct One { counter hits }
    }

    stat_group! {
        /// For the test.
        pub struct Two { counter hits }
    }

    #[test]
    fn a_group_is_shared_by_kind_and_prefix() {
        let (store, shared) = (Store::default(), SharedStats::default());
        let one = shared.get(&store, "a.".into(), One::new);
        assert!(Arc::ptr_eq(&one, &shared.get(&store, "a.".into(), One::new)));
        assert!(!Arc::ptr_eq(&one, &shared.get(&store, "b.".into(), One::new)));
        let two = shared.get(&store, "a.".into(), Two::new);
        assert!(Arc::ptr_eq(&two, &shared.get(&store, "a.".into(), Two::new)));
        one.hits.inc();
        drop(one);
        assert_eq!(shared.get(&store, "a.".into(), One::new).hits.get(), 0);
    }
}
