//! Filter state: texts that filters leave for others, by key.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What filters have left so far. Usually nothing, which takes no memory of its own.
#[derive(Clone, Debug, Default)]
pub struct FilterState(BTreeMap<Box<str>, Arc<str>>);

impl FilterState {
    /// The text under `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|text| &**text)
    }

    /// Leaves a text under `key`, in the place of what was there.
    pub fn set(&mut self, key: &str, text: impl Into<Arc<str>>) {
        self.0.insert(key.into(), text.into());
    }
}
