use std::time::Duration;

use proto::Registry;
use proto::envoy::config::cluster::v3 as pb;

use super::*;
use crate::config::cluster::Cluster;
use crate::config::error::{At, Context};

fn translated(fields: &str) -> Result<Arc<LoadBalancing>, String> {
    let yaml = format!("{{name: a, {fields}}}");
    let message: pb::Cluster =
        Registry::load().from_yaml(&yaml).expect("the test's YAML is a message");
    let at = At::resource("cluster", &message.name);
    let cluster = Cluster::from_proto(&message, &at, &Context::default());
    cluster.map(|cluster| cluster.lb).map_err(|error| error.to_string())
}

fn translate(fields: &str) -> LoadBalancing {
    LoadBalancing::clone(&translated(fields).expect("it is valid"))
}

/// Asserts that the cluster is refused with this error, after the cluster's name.
fn refuses(fields: &str, error: &str) {
    assert_eq!(translated(fields).expect_err(fields), format!("cluster \"a\": {error}"));
}

/// A list of policies, each by its type and fields.
fn policies(list: &[&str]) -> String {
    let entry = |policy: &&str| {
        format!(
            "{{typed_extension_config: {{name: p, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.load_balancing_policies.{policy}}}}}}}"
        )
    };
    let list: Vec<_> = list.iter().map(entry).collect();
    format!("load_balancing_policy: {{policies: [{}]}}", list.join(", "))
}

const AT: &str = "load_balancing_policy.policies[0].typed_extension_config.typed_config";

#[test]
fn the_first_policy_that_exists_is_used() {
    let list = ["pick_first.v3.PickFirst", "random.v3.Random", "round_robin.v3.RoundRobin"];
    assert_eq!(translate(&policies(&list)).policy, LbPolicy::Random);
    refuses(
        &policies(&["pick_first.v3.PickFirst"]),
        "load_balancing_policy: didn't find a registered load balancer factory with names from \
         [p]; Pillion has round_robin, least_request, random, ring_hash, maglev, subset, \
         wrr_locality, client_side_weighted_round_robin, peak_ewma and cluster_provided",
    );
}

#[test]
fn least_request_has_choices_a_bias_and_a_scan() {
    let fields = "lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 3, \
                  active_request_bias: {default_value: 0.5, runtime_key: k}}";
    let expected = LeastRequest {
        choice_count: 3,
        active_request_bias: 0.5,
        full_scan: false,
        slow_start: None,
    };
    assert_eq!(translate(fields).policy, LbPolicy::LeastRequest(expected));
    refuses(
        "lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 1}",
        "least_request_lb_config.choice_count: 1 is not within 2 and 4294967295",
    );
    for scan in ["selection_method: FULL_SCAN", "enable_full_scan: true"] {
        let list = policies(&[&format!("least_request.v3.LeastRequest, {scan}")]);
        let scanning = LeastRequest { full_scan: true, ..LeastRequest::default() };
        assert_eq!(translate(&list).policy, LbPolicy::LeastRequest(scanning));
    }
}

#[test]
fn slow_start_has_a_window() {
    let fields = "round_robin_lb_config: {slow_start_config: {slow_start_window: 60s, \
                  aggression: {default_value: 2, runtime_key: k}, min_weight_percent: {value: 5}}}";
    let window = Duration::from_secs(60);
    let slow_start = Some(SlowStart { window, aggression: 2.0, min_weight: 0.05 });
    assert_eq!(translate(fields).policy, LbPolicy::RoundRobin { slow_start });
    let without = "round_robin_lb_config: {slow_start_config: {}}";
    assert_eq!(translate(without).policy, LbPolicy::RoundRobin { slow_start: None });
    refuses(
        "round_robin_lb_config: {slow_start_config: {aggression: {default_value: 0, runtime_key: k}}}",
        "round_robin_lb_config.slow_start_config.aggression: 0 is not above 0",
    );
}

#[test]
fn rings_have_sizes_and_a_function() {
    let hashing = Hashing { by_hostname: true, balance_factor: Some(150) };
    let expected = LbPolicy::RingHash(RingHash {
        min_size: 10,
        max_size: 100,
        function: HashFunction::MurmurHash2,
        hashing,
    });
    let sizes = "minimum_ring_size: 10, maximum_ring_size: 100, hash_function: MURMUR_HASH_2";
    let common = "use_hostname_for_hashing: true, hash_balance_factor: 150";
    let cluster = format!(
        "lb_policy: RING_HASH, ring_hash_lb_config: {{{sizes}}}, \
         common_lb_config: {{consistent_hashing_lb_config: {{{common}}}}}"
    );
    assert_eq!(translate(&cluster).policy, expected);
    let list = policies(&[&format!("ring_hash.v3.RingHash, {sizes}, {common}")]);
    assert_eq!(translate(&list).policy, expected);
    let list = policies(&[&format!(
        "ring_hash.v3.RingHash, {sizes}, consistent_hashing_lb_config: {{{common}, hash_policy: \
         [{{header: {{header_name: x}}}}]}}"
    )]);
    let lb = translate(&list);
    assert_eq!(lb.policy, expected);
    assert_eq!(lb.hash_policies.expect("it has its own").iter().count(), 1);
    refuses(
        "lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 10, maximum_ring_size: 9}",
        "ring_hash_lb_config: ring hash: minimum_ring_size (10) > maximum_ring_size (9)",
    );
    refuses(
        &policies(&["ring_hash.v3.RingHash, hash_balance_factor: 99"]),
        &format!("{AT}.hash_balance_factor: 99 is not within 100 and 4294967295"),
    );
}

#[test]
fn a_maglev_table_has_a_prime_size() {
    let maglev = |fields: &str| translate(&policies(&[&format!("maglev.v3.Maglev{fields}")]));
    let hashing = Hashing::default();
    let default = LbPolicy::Maglev(Maglev { table_size: 65_537, hashing });
    assert_eq!(maglev("").policy, default);
    assert_eq!(translate("lb_policy: MAGLEV").policy, default);
    assert_eq!(maglev(", locality_weighted_lb_config: {}").locality, LocalityPolicy::Weighted);
    refuses(
        "lb_policy: MAGLEV, maglev_lb_config: {table_size: 9}",
        "maglev_lb_config.table_size: 9: the table size of maglev must be a prime number",
    );
}

#[test]
fn localities_are_weighted_or_zones() {
    let weighted = "common_lb_config: {locality_weighted_lb_config: {}}";
    assert_eq!(translate(weighted).locality, LocalityPolicy::Weighted);
    let zones = "common_lb_config: {zone_aware_lb_config: {routing_enabled: {value: 40.4}, \
                 min_cluster_size: 3, fail_traffic_on_panic: true}}";
    let expected = ZoneAware {
        routing_enabled: 40,
        min_cluster_size: 3,
        fail_on_panic: true,
        ..ZoneAware::default()
    };
    assert_eq!(translate(zones).locality, LocalityPolicy::ZoneAware(expected));
    let list = policies(&[
        "round_robin.v3.RoundRobin, locality_lb_config: {zone_aware_lb_config: {force_local_zone: {}}}",
    ]);
    let expected = ZoneAware { force_local: Some(1), ..ZoneAware::default() };
    assert_eq!(translate(&list).locality, LocalityPolicy::ZoneAware(expected));
    let child =
        policies(&["random.v3.Random"]).replace("load_balancing_policy", "endpoint_picking_policy");
    let lb = translate(&policies(&[&format!("wrr_locality.v3.WrrLocality, {child}")]));
    assert_eq!((lb.policy, lb.locality), (LbPolicy::Random, LocalityPolicy::Weighted));
}

#[test]
fn reported_weights_have_periods() {
    let list = policies(&["client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin, \
         blackout_period: 1s, weight_update_period: 0.01s, \
         metric_names_for_computing_utilization: [named_metrics.a]"]);
    let expected = ClientSideWeighted {
        blackout: Duration::from_secs(1),
        expiration: Duration::from_secs(180),
        update: Duration::from_millis(100),
        error_penalty: 1.0,
        metrics: vec!["named_metrics.a".into()],
        slow_start: None,
    };
    assert_eq!(translate(&list).policy, LbPolicy::ClientSideWeighted(expected));
    refuses(
        &policies(&[
            "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin, enable_oob_load_report: true",
        ]),
        &format!(
            "{AT}.enable_oob_load_report: is not supported by this version of Pillion; remove the field"
        ),
    );
}

#[test]
fn peak_ewma_comes_as_a_typed_struct() {
    let list = "load_balancing_policy: {policies: [{typed_extension_config: {name: p, typed_config: \
                {'@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: \
                type.googleapis.com/envoy.extensions.load_balancing_policies.peak_ewma.v3alpha.PeakEwma, \
                value: {decay_time: 2.5s}}}}]}";
    let (decay, default_rtt) = (Duration::from_millis(2500), Duration::from_millis(10));
    assert_eq!(translate(list).policy, LbPolicy::PeakEwma(PeakEwma { decay, default_rtt }));
    refuses(
        &list.replace("2.5s", "2"),
        &format!("{AT}.value.decay_time: 2 is no duration above 0, such as \"0.5s\""),
    );
    refuses(
        &list.replace("decay_time", "penalty"),
        &format!(
            "{AT}.value.penalty: is not supported by this version of Pillion; remove the field"
        ),
    );
}

#[test]
fn subsets_have_selectors_with_fallbacks() {
    let fields = "fallback_policy: DEFAULT_SUBSET, default_subset: {v: one}, list_as_any: true, \
                  subset_selectors: [{keys: [v, s], fallback_policy: KEYS_SUBSET, \
                  fallback_keys_subset: [v]}, {keys: [v], single_host_per_subset: true}]";
    let subsets =
        translate(&format!("lb_subset_config: {{{fields}}}")).subsets.expect("it has some");
    assert_eq!((subsets.fallback, subsets.list_as_any), (Fallback::Default, true));
    let [both, single] = &subsets.selectors[..] else { panic!("two") };
    assert_eq!(both.keys, ["s".into(), "v".into()]);
    assert_eq!(both.fallback, Some(SelectorFallback::Keys(vec!["v".into()])));
    assert!(single.single_host && single.fallback.is_none());
    let child =
        policies(&["maglev.v3.Maglev"]).replace("load_balancing_policy", "subset_lb_policy");
    let list = policies(&[&format!("subset.v3.Subset, {fields}, {child}")]);
    let lb = translate(&list);
    assert_eq!(lb.subsets.expect("it has some"), subsets);
    assert!(matches!(lb.policy, LbPolicy::Maglev(_)));
    assert_eq!(translate("lb_subset_config: {fallback_policy: ANY_ENDPOINT}").subsets, None);
    let selector = |selector: &str, error: &str| {
        let fields = format!("lb_subset_config: {{subset_selectors: [{{{selector}}}]}}");
        refuses(&fields, &format!("lb_subset_config.subset_selectors[0].{error}"));
    };
    selector("keys: [a], fallback_policy: KEYS_SUBSET", "fallback_keys_subset: cannot be empty");
    selector(
        "keys: [a], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [b]",
        "fallback_keys_subset: must be a subset of the selector's keys",
    );
    selector(
        "keys: [a, b], single_host_per_subset: true",
        "single_host_per_subset: may only be set with exactly one key",
    );
}
