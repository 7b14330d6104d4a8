//! Statistics: counters, gauges and histograms under Envoy's names.
//!
//! Metrics come in groups. A group is one struct of atomics, declared by `stat_group!`, that shares one name prefix
//! (`cluster.backend.`); ten thousand clusters cost one allocation each, and the request path only adds.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

pub mod codes;
pub mod histogram;
mod inherited;
pub mod render;
mod shared;
mod tags;

pub use codes::ResponseCodes;
pub use histogram::Histogram;
pub use inherited::{Counts, Inherited};
pub use shared::SharedStats;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub const fn zero() -> Self {
        Counter(AtomicU64::new(0))
    }

    /// Adds one.
    pub fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Back to zero (`POST /reset_counters`).
    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// A number that goes up and down.
///
/// Twice the value, and one more once somebody has set it: a gauge that was set to 0 counts as used, as in Envoy.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds one.
    pub fn inc(&self) {
        self.0.fetch_add(2, Relaxed);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.fetch_sub(2, Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(doubled(n), Relaxed);
    }

    /// Takes `n` away.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(doubled(n), Relaxed);
    }

    /// Sets the value.
    pub fn set(&self, value: u64) {
        self.0.store(doubled(value) | 1, Relaxed);
    }

    /// The value now; never below zero.
    pub fn get(&self) -> u64 {
        u64::try_from(self.0.load(Relaxed) >> 1).unwrap_or(0)
    }

    /// Whether it was ever set, or is not at zero.
    pub fn is_used(&self) -> bool {
        self.0.load(Relaxed) != 0
    }
}

fn doubled(value: u64) -> i64 {
    i64::try_from(value).map_or(i64::MAX - 1, |value| value.saturating_mul(2) & !1)
}

/// One metric of a group, as an exporter sees it.
#[derive(Clone, Copy)]
pub enum Metric<'a> {
    /// A counter.
    Counter(&'a Counter),
    /// A gauge.
    Gauge(&'a Gauge),
    /// A histogram.
    Histogram(&'a Histogram),
    /// The `<name>_2xx`, `<name>_200` and `<name>_completed` counters of a response code table.
    Codes(&'a ResponseCodes),
    /// A text readout.
    Text(&'a Mutex<String>),
}

/// A group of metrics with one prefix; implemented by `stat_group!`.
pub trait StatGroup: Send + Sync {
    /// What stands before each metric's name, with its trailing dot.
    fn prefix(&self) -> &str;
    /// Calls `visit` with the name (without prefix) and the metric, for every metric of the group.
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'static str, Metric<'a>));
}

/// Every group that is alive. Groups are held by their users; one that nobody holds disappears from the output.
#[derive(Default)]
pub struct Store {
    groups: Mutex<Vec<Weak<dyn StatGroup>>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("groups", &self.groups.lock().len()).finish()
    }
}

impl Store {
    /// Takes a group into the output for as long as somebody holds it.
    pub fn register<G: StatGroup + 'static>(&self, group: G) -> Arc<G> {
        let group = Arc::new(group);
        let weak: Weak<dyn StatGroup> = Arc::downgrade(&(Arc::clone(&group) as Arc<dyn StatGroup>));
        let mut groups = self.groups.lock();
        // Dead groups are swept when the list would have to grow, so that churn costs amortised constant time.
        if groups.len() == groups.capacity() {
            groups.retain(|group| group.strong_count() > 0);
        }
        groups.push(weak);
        group
    }

    /// Every group that is alive, in order of registration.
    pub fn groups(&self) -> Vec<Arc<dyn StatGroup>> {
        self.groups.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

/// Declares a struct of metrics that share a prefix: `stat_group! { /// doc pub struct Name { counter a, gauge b } }`.
///
/// Kinds: `counter`, `gauge`, `histogram`, `codes`, `text`. `Name::new(prefix)` makes one with all metrics at zero;
/// register it with [`Store::register`].
#[macro_export]
macro_rules! stat_group {
    ($(#[$doc:meta])* pub struct $name:ident { $($kind:ident $field:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug)]
        #[allow(missing_docs, reason = "the metric's name is Envoy's and says it")]
        pub struct $name {
            prefix: Box<str>,
            $(pub $field: $crate::stat_group!(@type $kind)),*
        }

        impl $name {
            /// All metrics at zero under `prefix`, which ends in a dot.
            pub fn new(prefix: impl Into<Box<str>>) -> Self {
                Self { prefix: prefix.into(), $($field: Default::default()),* }
            }
        }

        impl $crate::telemetry::stats::StatGroup for $name {
            fn prefix(&self) -> &str {
                &self.prefix
            }

            fn visit<'a>(
                &'a self,
                visit: &mut dyn FnMut(&'static str, $crate::telemetry::stats::Metric<'a>),
            ) {
                $(visit(stringify!($field), $crate::stat_group!(@metric $kind &self.$field));)*
            }
        }
    };
    (@type counter) => { $crate::telemetry::stats::Counter };
    (@type gauge) => { $crate::telemetry::stats::Gauge };
    (@type histogram) => { $crate::telemetry::stats::Histogram };
    (@type codes) => { $crate::telemetry::stats::ResponseCodes };
    (@type text) => { ::parking_lot::Mutex<String> };
    (@metric counter $e:expr) => { $crate::telemetry::stats::Metric::Counter($e) };
    (@metric gauge $e:expr) => { $crate::telemetry::stats::Metric::Gauge($e) };
    (@metric histogram $e:expr) => { $crate::telemetry::stats::Metric::Histogram($e) };
    (@metric codes $e:expr) => { $crate::telemetry::stats::Metric::Codes($e) };
    (@metric text $e:expr) => { $crate::telemetry::stats::Metric::Text($e) };
}

#[cfg(test)]
mod tests {
    use super::*;

    stat_group! {
        /// For the test.
        pub struct Sample { counter hits, gauge active }
    }

    #[test]
    fn a_gauge_that_was_set_counts_as_used() {
        let gauge = Gauge::default();
        gauge.inc();
        gauge.dec();
        assert!(!gauge.is_used());
        gauge.dec();
        assert_eq!(gauge.get(), 0);
        gauge.set(0);
        assert!(gauge.is_used());
        gauge.add(3);
        gauge.sub(1);
        assert_eq!(gauge.get(), 2);
        gauge.set(u64::MAX);
        assert_eq!(gauge.get(), i64::MAX as u64 / 2);
    }

    #[test]
    fn a_group_is_listed_while_it_is_held() {
        let store = Store::default();
        let group = store.register(Sample::new("sample."));
        group.hits.add(2);
        group.active.inc();
        let listed = store.groups();
        let mut seen = Vec::new();
        listed[0].visit(&mut |name, metric| match metric {
            Metric::Counter(c) => seen.push((name, c.get())),
            Metric::Gauge(g) => seen.push((name, g.get())),
            _ => {}
        });
        assert_eq!(seen, [("hits", 2), ("active", 1)]);
        drop((group, listed));
        assert!(store.groups().is_empty());
    }
}
