//! Counters that go on over a restart: one process tells them, the next one adds them to its own.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Metric, ResponseCodes, Store};

/// What the counters of a process say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    counters: HashMap<String, u64>,
    codes: HashMap<String, CodeCounts>,
}

/// What a table of response codes says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct CodeCounts {
    classes: [u64; 5],
    codes: Vec<(u16, u64)>,
}

impl Counts {
    /// The counters now that are not at zero.
    pub fn of(store: &Store) -> Counts {
        let mut counts = Counts::default();
        for group in store.groups() {
            let prefix = group.prefix();
            group.visit(&mut |name, metric| match metric {
                Metric::Counter(counter) if counter.get() > 0 => {
                    counts.counters.insert(format!("{prefix}{name}"), counter.get());
                }
                Metric::Codes(codes) if codes.completed() > 0 => {
                    counts.codes.insert(format!("{prefix}{name}"), CodeCounts::of(codes));
                }
                _ => {}
            });
        }
        counts
    }
}

impl CodeCounts {
    fn of(codes: &ResponseCodes) -> CodeCounts {
        let classes = codes.classes().each_ref().map(super::Counter::get);
        CodeCounts { classes, codes: codes.codes().collect() }
    }

    /// What has come to these since `before`.
    fn since(&self, before: &CodeCounts) -> CodeCounts {
        let classes =
            std::array::from_fn(|class| self.classes[class].saturating_sub(before.classes[class]));
        let counted = |code| before.codes.iter().find(|(before, _)| *before == code);
        let codes = self.codes.iter().map(|(code, count)| {
            (*code, count.saturating_sub(counted(*code).map_or(0, |(_, count)| *count)))
        });
        CodeCounts { classes, codes: codes.collect() }
    }
}

/// The counters of the process before, and what of them was added to one's own already.
#[derive(Debug, Default)]
pub struct Inherited {
    latest: Counts,
    added: Counts,
}

impl Inherited {
    /// Takes what the other process says now.
    pub fn learn(&mut self, latest: Counts) {
        self.latest = latest;
    }

    /// Adds what has come to the other process's counters since the last call. Those that are not here yet, such as a
    /// cluster's that nobody has called, are added once they are here.
    pub fn add_to(&mut self, store: &Store) {
        let Inherited { latest, added } = self;
        if latest == added {
            return;
        }
        for group in store.groups() {
            let prefix = group.prefix();
            group.visit(&mut |name, metric| {
                let name = format!("{prefix}{name}");
                match metric {
                    Metric::Counter(counter) => {
                        let Some(count) = latest.counters.get(&name) else { return };
                        let before = added.counters.insert(name, *count).unwrap_or(0);
                        counter.add(count.saturating_sub(before));
                    }
                    Metric::Codes(table) => {
                        let Some(counts) = latest.codes.get(&name) else { return };
                        let before = added.codes.insert(name, counts.clone()).unwrap_or_default();
                        let CodeCounts { classes, codes } = counts.since(&before);
                        table.add(&classes, &codes);
                    }
                    _ => {}
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat_group;

    stat_group! {
        /// For the test.
        pub struct Sample { counter hits, gauge active, codes rq }
    }

    #[test]
    fn counters_go_on_and_nothing_is_added_twice() {
        let (old, new) = (Store::default(), Store::default());
        let before = old.register(Sample::new("a."));
        before.hits.add(3);
        before.active.inc();
        before.rq.record(200);
        let mut inherited = Inherited::default();
        inherited.learn(Counts::of(&old));
        inherited.add_to(&new);
        // It appears only now.
        let after = new.register(Sample::new("a."));
        after.hits.inc();
        for _ in 0..2 {
            inherited.learn(Counts::of(&old));
            inherited.add_to(&new);
        }
        assert_eq!((after.hits.get(), after.active.get()), (4, 0));
        before.hits.add(5);
        before.rq.record(200);
        before.rq.record_class(503);
        inherited.learn(Counts::of(&old));
        inherited.add_to(&new);
        assert_eq!(after.hits.get(), 9);
        assert_eq!(after.rq.codes().collect::<Vec<_>>(), [(200, 2)]);
        assert_eq!(after.rq.completed(), 3);
    }
}
