//! Localities: which hosts are where, and which locality a request goes to by weight.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::strides::Strides;
use super::{HostList, PickContext, Picker};
use crate::config::endpoint::Locality;
use crate::upstream::cluster::host::{Health, Host};

/// `load_balancing_weight` of localities by priority; localities without one are left out.
pub type LocalityWeights = BTreeMap<(u32, Arc<Locality>), u32>;

/// The hosts of one locality and priority.
pub(super) struct Group {
    pub locality: Arc<Locality>,
    /// All hosts.
    pub hosts: Vec<Arc<Host>>,
    /// `load_balancing_weight`; 0 if it has none.
    pub weight: u32,
}

impl Group {
    /// The hosts of this health.
    pub fn of(&self, health: Health) -> HostList {
        self.hosts.iter().filter(|host| host.health() == health).cloned().collect()
    }

    /// The locality's weight, less when too few of its hosts are in this health. `overprovisioning` is in percent.
    pub fn effective_weight(&self, health: Health, overprovisioning: u32) -> f64 {
        let counted = self.hosts.iter().filter(|host| !host.is_excluded()).count();
        if counted == 0 {
            return 0.0;
        }
        let available = self.hosts.iter().filter(|host| host.health() == health).count();
        let ratio = available as f64 / counted as f64;
        f64::from(self.weight) * (f64::from(overprovisioning) / 100.0 * ratio).min(1.0)
    }
}

/// The hosts by locality, in Envoy's order: the own locality if it has any, then by region, zone and sub-zone.
pub(super) fn group(
    hosts: &[Arc<Host>],
    priority: u32,
    weights: &LocalityWeights,
    own: Option<&Locality>,
) -> Vec<Group> {
    let mut groups: BTreeMap<(bool, &Arc<Locality>), Vec<Arc<Host>>> = BTreeMap::new();
    for host in hosts {
        let is_foreign = own != Some(&**host.locality());
        groups.entry((is_foreign, host.locality())).or_default().push(Arc::clone(host));
    }
    let groups = groups.into_iter().map(|((_, locality), hosts)| Group {
        locality: Arc::clone(locality),
        weight: weights.get(&(priority, Arc::clone(locality))).copied().unwrap_or(0),
        hosts,
    });
    groups.collect()
}

/// A locality by weight, then a host of it.
#[derive(Debug)]
pub(super) struct WeightedLocalities {
    schedule: Strides,
    pickers: Vec<Arc<dyn Picker>>,
}

impl WeightedLocalities {
    /// Localities with their weights, all above 0, and the pickers of their hosts.
    pub(super) fn new(localities: Vec<(f64, Arc<dyn Picker>)>) -> Self {
        let (weights, pickers): (Vec<f64>, _) = localities.into_iter().unzip();
        WeightedLocalities { schedule: Strides::new(&weights), pickers }
    }

    pub(super) fn pick(&self, context: &PickContext<'_>) -> Option<&Arc<Host>> {
        self.pickers[self.schedule.next()?].pick(context)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::host_in;
    use super::*;
    use crate::upstream::cluster::HealthFlags;

    #[test]
    fn the_own_locality_is_first_and_others_in_order() {
        let hosts = [host_in(1, 1, 0, "c"), host_in(2, 1, 0, "a"), host_in(3, 1, 0, "b")];
        let zones = |own: Option<&Locality>| -> Vec<String> {
            let groups = group(&hosts, 0, &LocalityWeights::new(), own);
            groups.iter().map(|group| group.locality.zone.to_string()).collect()
        };
        assert_eq!(zones(None), ["a", "b", "c"]);
        assert_eq!(zones(Some(hosts[0].locality())), ["c", "a", "b"]);
    }

    #[test]
    fn weights_shrink_with_availability_beyond_overprovisioning() {
        let hosts: Vec<_> = (1..=10).map(|port| host_in(port, 1, 0, "a")).collect();
        let weights = LocalityWeights::from([((0, Arc::clone(hosts[0].locality())), 10)]);
        let weight = || group(&hosts, 0, &weights, None)[0].effective_weight(Health::Healthy, 140);
        assert_eq!(weight(), 10.0);
        for host in &hosts[..5] {
            host.set_health_flag(HealthFlags::FAILED_EDS_HEALTH, true);
        }
        assert_eq!(weight(), 7.0);
        for host in &hosts {
            host.set_health_flag(HealthFlags::PENDING_ACTIVE_HC, true);
        }
        assert_eq!(weight(), 0.0);
    }
}
