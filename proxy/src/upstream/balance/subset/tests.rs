use serde_json::json;

use super::*;
use crate::config::cluster::load_balancing::LoadBalancing;
use crate::config::endpoint::{Endpoint, Target};
use crate::io::Address;
use crate::upstream::cluster::HealthFlags;

/// Hosts on ports 1, 2 and so on with this metadata.
fn hosts(metadata: &[Value]) -> HostList {
    let host = |(metadata, port): (&Value, u16)| {
        let address = Address::Ip(([127, 0, 0, 1], port).into());
        let endpoint = Endpoint {
            target: Target::Address(address.clone()),
            hostname: None,
            weight: 1,
            health: Default::default(),
            metadata: Some(Arc::new([("envoy.lb".to_owned(), metadata.clone())].into())),
            check: None,
        };
        Host::new(address, &endpoint, Arc::default(), 0)
    };
    metadata.iter().zip(1..).map(host).collect()
}

fn selector(keys: &[&str], fallback: Option<SelectorFallback>) -> SubsetSelector {
    let keys = keys.iter().map(|key| (*key).into()).collect();
    SubsetSelector { keys, fallback, single_host: false }
}

fn config(fallback: Fallback, selectors: Vec<SubsetSelector>) -> Subsets {
    Subsets {
        fallback,
        default_subset: None,
        selectors,
        allow_redundant_keys: false,
        locality_weight_aware: false,
        scale_locality_weight: false,
        panic_mode_any: false,
        list_as_any: false,
        fallback_list: false,
    }
}

const NONE: [u16; 0] = [];

struct Fixture {
    balancer: SubsetBalancer,
    stats: TrafficStats,
}

impl Fixture {
    fn new(config: Subsets, hosts: &HostList) -> Self {
        let lb = LoadBalancing::default();
        let (weights, known) = (LocalityWeights::new(), Known::new());
        let setting = Setting {
            lb: &lb,
            overprovisioning: 140,
            weighted_health: false,
            weights: &weights,
            zone: None,
            known: &known,
        };
        let balancer = SubsetBalancer::build(&Arc::new(config), hosts, &setting);
        Fixture { balancer, stats: TrafficStats::new("c.") }
    }

    /// The ports that 12 picks fall on; empty if there is no host.
    fn ports(&self, wanted: Value) -> Vec<u16> {
        let wanted = MetadataMatch::new(wanted.as_object().unwrap().clone());
        let context = PickContext { metadata: wanted.as_deref(), ..PickContext::default() };
        let picks = (0..12).filter_map(|_| self.balancer.pick(&context, &self.stats));
        let ports: std::collections::BTreeSet<_> =
            picks.map(|host| host.address().port().unwrap()).collect();
        ports.into_iter().collect()
    }
}

fn versions() -> HostList {
    hosts(&[
        json!({"version": "1", "stage": "prod"}),
        json!({"version": "1", "stage": "test"}),
        json!({"version": "2", "stage": "prod"}),
    ])
}

#[test]
fn criteria_choose_the_subset_of_exactly_their_keys() {
    let selectors = vec![selector(&["version"], None), selector(&["stage", "version"], None)];
    let fixture = Fixture::new(config(Fallback::Nothing, selectors), &versions());
    assert_eq!(fixture.ports(json!({"version": "1"})), [1, 2]);
    assert_eq!(fixture.ports(json!({"version": "1", "stage": "test"})), [2]);
    assert_eq!(fixture.ports(json!({"stage": "prod"})), NONE);
    assert_eq!(fixture.ports(json!({"version": 1.0})), NONE, "a number is no text");
    assert_eq!(fixture.ports(json!({})), NONE);
    assert_eq!(fixture.stats.lb_subsets_selected.get(), 24);
    fixture.balancer.count(None, &fixture.stats);
    assert_eq!(fixture.stats.lb_subsets_active.get(), 5);
    assert_eq!(fixture.stats.lb_subsets_created.get(), 5);
}

#[test]
fn fallbacks_are_the_clusters_or_the_selectors() {
    let keys = SelectorFallback::Keys(vec!["version".into()]);
    let none = SelectorFallback::Plain(Fallback::Nothing);
    let any = SelectorFallback::Plain(Fallback::Any);
    let selectors = vec![
        selector(&["version"], None),
        selector(&["stage", "version"], Some(keys)),
        selector(&["stage"], Some(none)),
        selector(&["region"], Some(any)),
    ];
    let default = MetadataMatch::new(json!({"version": "2"}).as_object().unwrap().clone());
    let config = Subsets { default_subset: default, ..config(Fallback::Default, selectors) };
    let fixture = Fixture::new(config, &versions());
    assert_eq!(fixture.ports(json!({"version": "9"})), [3]);
    assert_eq!(fixture.ports(json!({})), [3]);
    assert_eq!(fixture.stats.lb_subsets_fallback.get(), 24);
    assert_eq!(fixture.ports(json!({"version": "1", "stage": "x"})), [1, 2]);
    assert_eq!(fixture.ports(json!({"stage": "x"})), NONE);
    assert_eq!(fixture.ports(json!({"region": "x"})), [1, 2, 3]);
}

#[test]
fn a_subset_without_healthy_hosts_is_still_chosen_and_panics() {
    let list = versions();
    list[2].set_health_flag(HealthFlags::FAILED_EDS_HEALTH, true);
    let selectors = vec![selector(&["version"], None)];
    let fixture = Fixture::new(config(Fallback::Any, selectors), &list);
    assert_eq!(fixture.ports(json!({"version": "2"})), [3]);
    assert_eq!(fixture.stats.lb_healthy_panic.get(), 12);
}

#[test]
fn panic_mode_any_helps_an_empty_default_subset() {
    let default = MetadataMatch::new(json!({"version": "9"}).as_object().unwrap().clone());
    let config = Subsets {
        default_subset: default,
        panic_mode_any: true,
        ..config(Fallback::Default, vec![selector(&["version"], None)])
    };
    let fixture = Fixture::new(config, &versions());
    assert_eq!(fixture.ports(json!({"version": "7"})), [1, 2, 3]);
    assert_eq!(fixture.stats.lb_subsets_fallback_panic.get(), 12);
}

#[test]
fn lists_stand_for_each_value_and_redundant_keys_may_be_dropped() {
    let list = hosts(&[json!({"version": ["1", "2"]}), json!({"version": "2"})]);
    let base = config(Fallback::Nothing, vec![selector(&["version"], None)]);
    let fixture = Fixture::new(
        Subsets { list_as_any: true, allow_redundant_keys: true, ..base.clone() },
        &list,
    );
    assert_eq!(fixture.ports(json!({"version": "1"})), [1]);
    assert_eq!(fixture.ports(json!({"version": "2"})), [1, 2]);
    assert_eq!(fixture.ports(json!({"version": "2", "more": "x"})), [1, 2]);
    let exact = Fixture::new(base, &list);
    assert_eq!(exact.ports(json!({"version": ["1", "2"]})), [1]);
    assert_eq!(exact.ports(json!({"version": "1"})), NONE);
}

#[test]
fn a_fallback_list_is_tried_in_turn() {
    let base = config(Fallback::Nothing, vec![selector(&["version"], None)]);
    let fixture = Fixture::new(Subsets { fallback_list: true, ..base }, &versions());
    let list = |list: Value| json!({"version": "1", "fallback_list": list});
    assert_eq!(fixture.ports(list(json!([{"version": "9"}, {"version": "2"}]))), [3]);
    assert_eq!(fixture.ports(list(json!([]))), [1, 2]);
    assert_eq!(fixture.ports(list(json!([{"version": "9"}]))), NONE);
}

#[test]
fn a_subset_of_a_single_host_keeps_the_first() {
    let mut one = selector(&["version"], None);
    one.single_host = true;
    let fixture = Fixture::new(config(Fallback::Nothing, vec![one]), &versions());
    assert_eq!(fixture.ports(json!({"version": "1"})), [1]);
    fixture.balancer.count(None, &fixture.stats);
    assert_eq!(fixture.stats.lb_subsets_single_host_per_subset_duplicate.get(), 1);
}
