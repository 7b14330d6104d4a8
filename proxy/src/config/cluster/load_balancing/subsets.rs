//! Protobuf to model: subsets, of `lb_subset_config` and of the subset policy, which have the same fields.

use std::sync::Arc;

use proto::envoy::config::cluster::v3::cluster::LbSubsetConfig;
use proto::envoy::config::cluster::v3::cluster::lb_subset_config::LbSubsetSelector;
use proto::envoy::config::cluster::v3::cluster::lb_subset_config::lb_subset_selector::LbSubsetSelectorFallbackPolicy as PbSelectorFallback;
use proto::envoy::config::cluster::v3::cluster::lb_subset_config::{
    LbSubsetFallbackPolicy, LbSubsetMetadataFallbackPolicy,
};
use proto::envoy::extensions::load_balancing_policies::subset::v3::Subset;

use super::{Fallback, SelectorFallback, SubsetSelector, Subsets};
use crate::config::error::{At, ConfigError};
use crate::config::metadata_match::MetadataMatch;
use crate::config::value;

impl Subsets {
    /// `lb_subset_config`; none without selectors, as in Envoy.
    pub(super) fn from_cluster(
        message: &LbSubsetConfig,
        at: &At<'_>,
    ) -> Result<Option<Arc<Subsets>>, ConfigError> {
        if message.subset_selectors.is_empty() {
            return Ok(None);
        }
        let at_fallback = at.field("fallback_policy");
        let fallback = match value::enumeration(message.fallback_policy, &at_fallback)? {
            LbSubsetFallbackPolicy::NoFallback => Fallback::Nothing,
            LbSubsetFallbackPolicy::AnyEndpoint => Fallback::Any,
            LbSubsetFallbackPolicy::DefaultSubset => Fallback::Default,
        };
        let at_list = at.field("metadata_fallback_policy");
        let list: LbSubsetMetadataFallbackPolicy =
            value::enumeration(message.metadata_fallback_policy, &at_list)?;
        let selectors = message.subset_selectors.iter().enumerate().map(|(index, selector)| {
            SubsetSelector::from_proto(selector, &at.index("subset_selectors", index))
        });
        let default_subset = message.default_subset.as_ref();
        Ok(Some(Arc::new(Subsets {
            fallback,
            default_subset: default_subset
                .and_then(|fields| MetadataMatch::new(proto::convert::struct_to_json(fields))),
            selectors: selectors.collect::<Result<_, _>>()?,
            allow_redundant_keys: false,
            locality_weight_aware: message.locality_weight_aware,
            scale_locality_weight: message.scale_locality_weight,
            panic_mode_any: message.panic_mode_any,
            list_as_any: message.list_as_any,
            fallback_list: list == LbSubsetMetadataFallbackPolicy::FallbackList,
        })))
    }

    /// The subset policy: the fields of `lb_subset_config` with the same numbers, and one more.
    pub(super) fn from_extension(
        message: &Subset,
        at: &At<'_>,
    ) -> Result<Option<Arc<Subsets>>, ConfigError> {
        let selectors = message.subset_selectors.iter().map(|selector| LbSubsetSelector {
            keys: selector.keys.clone(),
            single_host_per_subset: selector.single_host_per_subset,
            fallback_policy: selector.fallback_policy,
            fallback_keys_subset: selector.fallback_keys_subset.clone(),
        });
        let config = LbSubsetConfig {
            fallback_policy: message.fallback_policy,
            default_subset: message.default_subset.clone(),
            subset_selectors: selectors.collect(),
            locality_weight_aware: message.locality_weight_aware,
            scale_locality_weight: message.scale_locality_weight,
            panic_mode_any: message.panic_mode_any,
            list_as_any: message.list_as_any,
            metadata_fallback_policy: message.metadata_fallback_policy,
        };
        let subsets = Subsets::from_cluster(&config, at)?;
        Ok(subsets.map(|subsets| {
            let allow_redundant_keys = message.allow_redundant_keys;
            Arc::new(Subsets { allow_redundant_keys, ..Subsets::clone(&subsets) })
        }))
    }
}

impl SubsetSelector {
    fn from_proto(message: &LbSubsetSelector, at: &At<'_>) -> Result<SubsetSelector, ConfigError> {
        let keys = sorted(&message.keys);
        if message.single_host_per_subset && keys.len() != 1 {
            let rule = "may only be set with exactly one key";
            return Err(at.field("single_host_per_subset").error(rule));
        }
        let at_policy = at.field("fallback_policy");
        let policy = value::enumeration(message.fallback_policy, &at_policy)?;
        let at_subset = at.field("fallback_keys_subset");
        let subset = sorted(&message.fallback_keys_subset);
        if policy != PbSelectorFallback::KeysSubset && !subset.is_empty() {
            return Err(at_subset.error("can be set only for the KEYS_SUBSET fallback_policy"));
        }
        let fallback = match policy {
            PbSelectorFallback::NotDefined => None,
            PbSelectorFallback::NoFallback => Some(SelectorFallback::Plain(Fallback::Nothing)),
            PbSelectorFallback::AnyEndpoint => Some(SelectorFallback::Plain(Fallback::Any)),
            PbSelectorFallback::DefaultSubset => Some(SelectorFallback::Plain(Fallback::Default)),
            PbSelectorFallback::KeysSubset => {
                if subset.is_empty() {
                    return Err(at_subset.error("cannot be empty"));
                }
                if !subset.iter().all(|key| keys.contains(key)) {
                    return Err(at_subset.error("must be a subset of the selector's keys"));
                }
                if subset.len() == keys.len() {
                    return Err(at_subset.error("cannot be equal to the selector's keys"));
                }
                Some(SelectorFallback::Keys(subset))
            }
        };
        Ok(SubsetSelector { keys, fallback, single_host: message.single_host_per_subset })
    }
}

/// Each key once, in order.
fn sorted(keys: &[String]) -> Vec<Box<str>> {
    let keys: std::collections::BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    keys.into_iter().map(Box::from).collect()
}
