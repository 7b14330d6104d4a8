//! What the scripted upstreams and the steps of a case tell each other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokio::sync::watch;

/// What was received, and which holds were released.
pub struct Stage {
    received: watch::Sender<BTreeMap<String, Vec<Value>>>,
    released: watch::Sender<BTreeSet<String>>,
}

impl Stage {
    /// Nothing received, nothing released.
    pub fn new() -> Self {
        Self { received: watch::Sender::default(), released: watch::Sender::default() }
    }

    /// Notes a request (TCP: a connection) of an upstream; returns its place for `update`.
    pub fn receive(&self, upstream: &str, what: Value) -> usize {
        let mut place = 0;
        self.received.send_modify(|all| {
            let list = all.entry(upstream.to_owned()).or_default();
            place = list.len();
            list.push(what);
        });
        place
    }

    /// Sets one field of what `receive` noted.
    pub fn update(&self, upstream: &str, place: usize, field: &str, value: Value) {
        self.received.send_modify(|all| {
            if let Some(entry) = all.get_mut(upstream).and_then(|list| list.get_mut(place)) {
                entry[field] = value;
            }
        });
    }

    /// Everything that was received so far.
    pub fn received(&self) -> BTreeMap<String, Vec<Value>> {
        self.received.borrow().clone()
    }

    /// Waits until an upstream has received `count` times.
    pub async fn wait_received(&self, upstream: &str, count: usize) {
        let enough =
            |all: &BTreeMap<String, Vec<Value>>| all.get(upstream).map_or(0, Vec::len) >= count;
        // The sender lives as long as `self`.
        let _ = self.received.subscribe().wait_for(enough).await;
    }

    /// Lets the replies that hold for `name` go.
    pub fn release(&self, name: &str) {
        self.released.send_modify(|all| {
            all.insert(name.to_owned());
        });
    }

    /// Waits for `release`.
    pub async fn wait_released(&self, name: &str) {
        let _ = self.released.subscribe().wait_for(|all| all.contains(name)).await;
    }
}
