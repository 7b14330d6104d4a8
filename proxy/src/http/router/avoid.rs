//! Which hosts an attempt passes over because of those before it (`retry_host_predicate`, `retry_priority`).

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::config::metadata_match::of_host;
use crate::config::route::{HostPredicate, RetryPolicy};
use crate::upstream::cluster::Host;

/// The hosts that were tried.
#[derive(Default)]
pub struct Tried {
    hosts: Vec<Arc<Host>>,
    /// The priorities of those that count for the next update.
    attempted: Vec<u32>,
    /// Priorities that are passed over from now on.
    priorities: Vec<u32>,
}

impl Tried {
    /// A host is tried.
    pub fn add(&mut self, host: &Arc<Host>, policy: Option<&RetryPolicy>) {
        self.hosts.push(Arc::clone(host));
        let frequency = policy.and_then(|policy| policy.priority_update_frequency);
        let Some(frequency) = frequency else { return };
        // One that was to be passed over is picked only when no other had a host: then it all begins anew, as in Envoy.
        if self.priorities.contains(&host.priority()) {
            self.attempted.clear();
            self.priorities.clear();
        }
        self.attempted.push(host.priority());
        if self.attempted.len().is_multiple_of(frequency as usize) {
            self.priorities.clone_from(&self.attempted);
        }
    }

    /// The priorities that are passed over.
    pub fn priorities(&self) -> &[u32] {
        &self.priorities
    }

    /// Whether a host is passed over.
    pub fn is_avoided(&self, host: &Host, policy: &RetryPolicy) -> bool {
        policy.host_predicates.iter().any(|predicate| match predicate {
            HostPredicate::PreviousHosts => {
                self.hosts.iter().any(|tried| tried.address() == host.address())
            }
            HostPredicate::CanaryHosts => {
                let metadata = host.metadata();
                let canary = metadata.as_deref().and_then(of_host).and_then(|lb| lb.get("canary"));
                canary.and_then(Value::as_bool).unwrap_or_default()
            }
            HostPredicate::Metadata(labels) => {
                let metadata = host.metadata();
                has_labels(metadata.as_deref().and_then(of_host), labels)
            }
        })
    }
}

/// Whether metadata has all labels; a list of values has each of them.
fn has_labels(metadata: Option<&Map<String, Value>>, labels: &Map<String, Value>) -> bool {
    labels.iter().all(|(name, wanted)| match metadata.and_then(|metadata| metadata.get(name)) {
        Some(Value::Array(values)) => values.contains(wanted),
        Some(value) => value == wanted,
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn labels_must_all_be_there() {
        let metadata = map(json!({"stage": "canary", "zones": ["a", "b"]}));
        for (labels, expected) in [
            (json!({"stage": "canary"}), true),
            (json!({"stage": "canary", "zones": "b"}), true),
            (json!({"stage": "prod"}), false),
            (json!({"other": 1}), false),
            (json!({}), true),
        ] {
            assert_eq!(has_labels(Some(&metadata), &map(labels.clone())), expected, "{labels}");
        }
        assert!(!has_labels(None, &map(json!({"stage": "canary"}))));
    }
}
