//! Response codes counted by class and by code.

use std::sync::OnceLock;

use super::Counter;

/// Counts `<prefix>_1xx` to `_5xx`, each single code and `_completed` of one name (`upstream_rq`, `downstream_rq`).
///
/// The table of single codes is made when the first answer is counted, since most clusters are never called.
#[derive(Debug, Default)]
pub struct ResponseCodes {
    classes: [Counter; 5],
    codes: OnceLock<Box<[Counter; 500]>>,
}

impl ResponseCodes {
    /// Counts one answer; codes outside 100 to 599 are not counted.
    pub fn record(&self, code: u16) {
        let Some(index) = usize::from(code).checked_sub(100).filter(|index| *index < 500) else {
            return;
        };
        self.classes[index / 100].inc();
        self.table()[index].inc();
    }

    fn table(&self) -> &[Counter; 500] {
        self.codes.get_or_init(|| Box::new([const { Counter::zero() }; 500]))
    }

    /// Adds what another process has counted: by class, and by code.
    pub fn add(&self, classes: &[u64; 5], codes: &[(u16, u64)]) {
        for (class, count) in self.classes.iter().zip(classes) {
            class.add(*count);
        }
        for (code, count) in codes.iter().filter(|(_, count)| *count > 0) {
            if let Some(index) = usize::from(*code).checked_sub(100).filter(|index| *index < 500) {
                self.table()[index].add(*count);
            }
        }
    }

    /// Counts one answer in its class only.
    pub fn record_class(&self, code: u16) {
        if let Some(class) = usize::from(code / 100).checked_sub(1).filter(|class| *class < 5) {
            self.classes[class].inc();
        }
    }

    /// The counters of the classes 1xx to 5xx.
    pub fn classes(&self) -> &[Counter; 5] {
        &self.classes
    }

    /// The codes counted so far, with their counts, in ascending order.
    pub fn codes(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let counted = self.codes.get().into_iter().flat_map(|codes| codes.iter().enumerate());
        counted.filter_map(|(index, counter)| {
            let count = counter.get();
            (count > 0).then(|| (index as u16 + 100, count))
        })
    }

    /// How many answers were counted in all.
    pub fn completed(&self) -> u64 {
        self.classes.iter().map(Counter::get).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_class_and_code() {
        let codes = ResponseCodes::default();
        for code in [200, 200, 503, 42, 999] {
            codes.record(code);
        }
        assert_eq!(codes.codes().collect::<Vec<_>>(), [(200, 2), (503, 1)]);
        assert_eq!((codes.classes()[1].get(), codes.classes()[4].get()), (2, 1));
        assert_eq!(codes.completed(), 3);
    }
}
