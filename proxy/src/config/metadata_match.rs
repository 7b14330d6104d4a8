//! What a route wants of hosts' metadata (`metadata_match`): the key of a subset.

use std::fmt::Write;
use std::sync::Arc;

use proto::envoy::config::core::v3 as core;
use serde_json::{Map, Value};

use crate::config::endpoint::Metadata;

/// The namespace of metadata that load balancing looks at.
pub const NAMESPACE: &str = "envoy.lb";

/// Values that a host's metadata under `envoy.lb` must have, with the key of the subset of such hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataMatch {
    /// By name, in the order of the names.
    criteria: Map<String, Value>,
    key: Box<str>,
}

impl MetadataMatch {
    /// Criteria with their key; none without criteria.
    pub fn new(criteria: Map<String, Value>) -> Option<Arc<MetadataMatch>> {
        let key = key(criteria.iter().map(|(name, value)| (name.as_str(), value)));
        (!criteria.is_empty()).then(|| Arc::new(MetadataMatch { criteria, key }))
    }

    /// The criteria in `filter_metadata["envoy.lb"]`; all else of the message is for others.
    pub fn from_proto(message: Option<&core::Metadata>) -> Option<Arc<MetadataMatch>> {
        let fields = message?.filter_metadata.get(NAMESPACE)?;
        MetadataMatch::new(proto::convert::struct_to_json(fields))
    }

    /// These criteria over those of a wider scope (a weighted cluster's over its route's).
    pub fn over(self: &Arc<Self>, wider: Option<&Arc<MetadataMatch>>) -> Arc<MetadataMatch> {
        let Some(wider) = wider else { return Arc::clone(self) };
        let mut criteria = wider.criteria.clone();
        criteria.extend(self.criteria.iter().map(|(name, value)| (name.clone(), value.clone())));
        MetadataMatch::new(criteria).unwrap_or_else(|| Arc::clone(self))
    }

    /// The criteria of these names only; none if there are none of them.
    pub fn only(&self, names: &[Box<str>]) -> Option<Arc<MetadataMatch>> {
        let wanted = |name: &String| names.iter().any(|wanted| **wanted == **name);
        let kept = self.criteria.iter().filter(|(name, _)| wanted(name));
        MetadataMatch::new(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The criteria by name.
    pub fn criteria(&self) -> &Map<String, Value> {
        &self.criteria
    }

    /// What [`key`] makes of the criteria.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// One text for names with values, which come in the order of their names: the same for equal ones only.
pub fn key<'a>(criteria: impl Iterator<Item = (&'a str, &'a Value)>) -> Box<str> {
    let mut key = String::new();
    for (name, value) in criteria {
        // Names are written as JSON too, so that nothing in them can pass for a separator. Writing to a string never fails.
        let _ = write!(key, "{}:{value},", Value::from(name));
    }
    key.into()
}

/// The metadata under `envoy.lb`, if there is any.
pub fn of_host(metadata: &Metadata) -> Option<&Map<String, Value>> {
    metadata.get(NAMESPACE)?.as_object()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn criteria(value: Value) -> Arc<MetadataMatch> {
        MetadataMatch::new(value.as_object().unwrap().clone()).unwrap()
    }

    #[test]
    fn equal_criteria_have_equal_keys() {
        let one = criteria(json!({"b": 1.0, "a": "x"}));
        assert_eq!(one.key(), criteria(json!({"a": "x", "b": 1.0})).key());
        assert_ne!(one.key(), criteria(json!({"a": "x", "b": "1.0"})).key());
        assert!(MetadataMatch::new(Map::new()).is_none());
    }

    #[test]
    fn narrower_criteria_win() {
        let route = criteria(json!({"a": 1.0, "b": 1.0}));
        let cluster = criteria(json!({"b": 2.0}));
        assert_eq!(cluster.over(Some(&route)).key(), criteria(json!({"a": 1.0, "b": 2.0})).key());
        assert_eq!(cluster.over(None).key(), cluster.key());
        assert_eq!(route.only(&["a".into(), "z".into()]).unwrap().criteria().len(), 1);
        assert!(route.only(&["z".into()]).is_none());
    }
}
