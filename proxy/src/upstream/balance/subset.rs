//! Subsets of hosts by metadata, each with a balancer of its own, and what happens when a request's subset has no host.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::balancer::{Balancer, Known, Setting};
use super::locality::LocalityWeights;
use super::{HostList, PickContext};
use crate::config::cluster::load_balancing::{
    Fallback, LocalityPolicy, SelectorFallback, SubsetSelector, Subsets,
};
use crate::config::metadata_match::{self, MetadataMatch};
use crate::upstream::cluster::TrafficStats;
use crate::upstream::cluster::host::Host;

/// The choice among the subsets of a cluster's hosts.
#[derive(Debug)]
pub struct SubsetBalancer {
    config: Arc<Subsets>,
    /// By the key of their metadata.
    subsets: HashMap<Box<str>, Subset>,
    any: Option<Balancer>,
    default: Option<Balancer>,
    /// Hosts that have no place in a subset of a single host.
    surplus: usize,
}

#[derive(Debug)]
enum Subset {
    Hosts(Balancer),
    /// `single_host_per_subset`: picked whatever its health, as in Envoy.
    Single(Arc<Host>),
}

/// The criterion that holds replacements for others.
const FALLBACK_LIST: &str = "fallback_list";

impl SubsetBalancer {
    /// Reads the hosts' metadata, health and weights as they are now.
    pub fn build(config: &Arc<Subsets>, hosts: &HostList, setting: &Setting<'_>) -> Self {
        let mut members: HashMap<Box<str>, (bool, Vec<Arc<Host>>)> = HashMap::new();
        let mut surplus = 0;
        for host in hosts.iter() {
            let Some(metadata) = host.metadata() else { continue };
            let Some(fields) = metadata_match::of_host(&metadata) else { continue };
            for selector in &config.selectors {
                for key in keys(fields, selector, config.list_as_any) {
                    let (single, members) =
                        members.entry(key).or_insert_with(|| (selector.single_host, Vec::new()));
                    if *single && !members.is_empty() {
                        surplus += 1;
                    } else {
                        members.push(Arc::clone(host));
                    }
                }
            }
        }
        let balancer =
            |members: Vec<Arc<Host>>| subset_balancer(config, hosts, members.into(), setting);
        let subsets = members.into_iter().filter_map(|(key, (single, members))| {
            let first = Arc::clone(members.first()?);
            let subset =
                if single { Subset::Single(first) } else { Subset::Hosts(balancer(members)) };
            Some((key, subset))
        });
        let is_default = |host: &&Arc<Host>| matches(host, config);
        SubsetBalancer {
            config: Arc::clone(config),
            subsets: subsets.collect(),
            any: needs(config, Fallback::Any).then(|| balancer(hosts.to_vec())),
            default: needs(config, Fallback::Default)
                .then(|| balancer(hosts.iter().filter(is_default).cloned().collect())),
            surplus,
        }
    }

    fn balancers(&self) -> impl Iterator<Item = &Balancer> {
        let subsets = self.subsets.values().filter_map(|subset| match subset {
            Subset::Hosts(balancer) => Some(balancer),
            Subset::Single(_) => None,
        });
        subsets.chain(&self.any).chain(&self.default)
    }

    /// Notes the pickers, to build the next balancers from.
    pub fn note_pickers(&self, known: &mut Known) {
        self.balancers().for_each(|balancer| balancer.note_pickers(known));
    }

    /// Counts what has become of the subsets since `before`.
    pub fn count(&self, before: Option<&SubsetBalancer>, stats: &TrafficStats) {
        let had = |key: &str| before.is_some_and(|before| before.subsets.contains_key(key));
        let added = self.subsets.keys().filter(|key| !had(key)).count();
        stats.lb_subsets_created.add(added as u64);
        if let Some(before) = before {
            let gone = before.subsets.keys().filter(|key| !self.subsets.contains_key(&***key));
            stats.lb_subsets_removed.add(gone.count() as u64);
        }
        stats.lb_subsets_active.set(self.subsets.len() as u64);
        stats.lb_subsets_single_host_per_subset_duplicate.set(self.surplus as u64);
    }

    /// Picks from the subset that the request's metadata names, or as the fallback says.
    pub fn pick(&self, context: &PickContext<'_>, stats: &TrafficStats) -> Option<&Arc<Host>> {
        let list = context.metadata.filter(|_| self.config.fallback_list);
        let list = list.and_then(|wanted| Some((wanted, wanted.criteria().get(FALLBACK_LIST)?)));
        let Some((wanted, Value::Array(replacements))) = list else {
            return self.pick_for(context.metadata, context, stats);
        };
        let mut criteria = wanted.criteria().clone();
        criteria.remove(FALLBACK_LIST);
        if replacements.is_empty() {
            let wanted = MetadataMatch::new(criteria);
            return self.pick_for(wanted.as_deref(), context, stats);
        }
        replacements.iter().find_map(|replacement| {
            let mut criteria = criteria.clone();
            criteria.extend(replacement.as_object().cloned().unwrap_or_default());
            self.pick_for(MetadataMatch::new(criteria).as_deref(), context, stats)
        })
    }

    fn pick_for(
        &self,
        wanted: Option<&MetadataMatch>,
        context: &PickContext<'_>,
        stats: &TrafficStats,
    ) -> Option<&Arc<Host>> {
        let narrowed = wanted.and_then(|wanted| self.without_redundant(wanted));
        let wanted = narrowed.as_deref().or(wanted);
        if let Some(wanted) = wanted {
            if let Some(subset) = self.subsets.get(wanted.key()) {
                stats.lb_subsets_selected.inc();
                return match subset {
                    Subset::Hosts(balancer) => balancer.pick(context, stats),
                    Subset::Single(host) => Some(host),
                };
            }
            match self.selector_of(wanted).and_then(|selector| selector.fallback.as_ref()) {
                Some(SelectorFallback::Plain(fallback)) => {
                    return self.fallback(*fallback)?.pick(context, stats);
                }
                Some(SelectorFallback::Keys(keys)) => {
                    return self.pick_for(wanted.only(keys).as_deref(), context, stats);
                }
                None => {}
            }
        }
        let fallback = self.fallback(self.config.fallback)?;
        if let Some(host) = fallback.pick(context, stats) {
            stats.lb_subsets_fallback.inc();
            return Some(host);
        }
        let any = self.any.as_ref().filter(|_| self.config.panic_mode_any)?;
        let host = any.pick(context, stats)?;
        stats.lb_subsets_fallback_panic.inc();
        Some(host)
    }

    fn fallback(&self, fallback: Fallback) -> Option<&Balancer> {
        match fallback {
            Fallback::Nothing => None,
            Fallback::Any => self.any.as_ref(),
            Fallback::Default => self.default.as_ref(),
        }
    }

    /// The selector whose keys are exactly those of the criteria.
    fn selector_of(&self, wanted: &MetadataMatch) -> Option<&SubsetSelector> {
        let criteria = wanted.criteria();
        self.config.selectors.iter().find(|selector| {
            selector.keys.len() == criteria.len()
                && selector.keys.iter().all(|key| criteria.contains_key(&**key))
        })
    }

    /// Only the criteria of the first selector that is among them, where redundant ones are allowed.
    fn without_redundant(&self, wanted: &MetadataMatch) -> Option<Arc<MetadataMatch>> {
        if !self.config.allow_redundant_keys {
            return None;
        }
        let among = |selector: &&SubsetSelector| {
            selector.keys.iter().all(|key| wanted.criteria().contains_key(&**key))
        };
        wanted.only(&self.config.selectors.iter().find(among)?.keys)
    }
}

/// Whether a request may come to this fallback.
fn needs(config: &Subsets, fallback: Fallback) -> bool {
    let of_selector = Some(SelectorFallback::Plain(fallback));
    config.fallback == fallback
        || (fallback == Fallback::Any && config.panic_mode_any)
        || config.selectors.iter().any(|selector| selector.fallback == of_selector)
}

/// The keys of the subsets that a host with this metadata is in, by one selector.
fn keys(
    fields: &Map<String, Value>,
    selector: &SubsetSelector,
    list_as_any: bool,
) -> Vec<Box<str>> {
    let mut combined: Vec<Vec<(&str, &Value)>> = vec![Vec::new()];
    for name in &selector.keys {
        let Some(value) = fields.get(&**name) else { return Vec::new() };
        let values = match value {
            Value::Array(values) if list_as_any => &values[..],
            value => std::slice::from_ref(value),
        };
        let with =
            |value| combined.iter().map(move |before| [&before[..], &[(&**name, value)]].concat());
        combined = values.iter().flat_map(with).collect();
    }
    combined.into_iter().map(|pairs| metadata_match::key(pairs.into_iter())).collect()
}

/// Whether the host is in the default subset.
fn matches(host: &Host, config: &Subsets) -> bool {
    let Some(wanted) = &config.default_subset else { return true };
    let metadata = host.metadata();
    let fields = metadata.as_deref().and_then(metadata_match::of_host);
    wanted.criteria().iter().all(|(name, wanted)| {
        match fields.and_then(|fields| fields.get(name)) {
            Some(Value::Array(values)) if config.list_as_any => values.contains(wanted),
            value => value == Some(wanted),
        }
    })
}

/// A balancer of some of the cluster's hosts. Localities keep a part of their weights only if the configuration says so.
fn subset_balancer(
    config: &Subsets,
    all: &HostList,
    hosts: HostList,
    setting: &Setting<'_>,
) -> Balancer {
    let none = LocalityWeights::new();
    let is_weighted = setting.lb.locality == LocalityPolicy::Weighted;
    let scaled = match config.scale_locality_weight && is_weighted {
        true => scaled_weights(setting.weights, all, &hosts),
        false => LocalityWeights::new(),
    };
    let weights = match (config.locality_weight_aware, config.scale_locality_weight) {
        (false, _) => &none,
        (true, true) => &scaled,
        (true, false) => setting.weights,
    };
    Balancer::build(&hosts, &Setting { weights, ..*setting }).0
}

/// Each locality's weight by the part of its hosts that is in the subset.
fn scaled_weights(weights: &LocalityWeights, all: &HostList, some: &HostList) -> LocalityWeights {
    let count = |hosts: &HostList| {
        let mut counts: LocalityWeights = LocalityWeights::new();
        for host in hosts.iter() {
            *counts.entry((host.priority(), Arc::clone(host.locality()))).or_default() += 1;
        }
        counts
    };
    let (all, some) = (count(all), count(some));
    let scaled = weights.iter().map(|(place, weight)| {
        let [all, some] = [&all, &some].map(|counts| counts.get(place).copied().unwrap_or(0));
        let ratio = f64::from(some) / f64::from(all.max(1));
        (place.clone(), (f64::from(*weight) * ratio).round() as u32)
    });
    scaled.collect()
}

#[cfg(test)]
mod tests;
