use super::super::tests::{host_in, place};
use super::super::{Avoid, hashing};
use super::*;
use crate::config::cluster::load_balancing::{HashFunction, Hashing};
use crate::upstream::cluster::HealthFlags;

/// A balancer of hosts on ports 1, 2 and so on, in `n` picks.
fn counts(hosts: &HostList, lb: &LoadBalancing, weights: &LocalityWeights, n: usize) -> Vec<usize> {
    fastrand::seed(1);
    let balancer = balancer(hosts, lb, weights, &Known::new());
    let stats = TrafficStats::new("c.");
    let mut counts = vec![0; hosts.len()];
    for _ in 0..n {
        counts[place(balancer.pick(&PickContext::default(), &stats).unwrap())] += 1;
    }
    counts
}

fn balancer(
    hosts: &HostList,
    lb: &LoadBalancing,
    weights: &LocalityWeights,
    known: &Known,
) -> Balancer {
    let (overprovisioning, weighted_health) = (140, false);
    let setting = Setting { lb, overprovisioning, weighted_health, weights, zone: None, known };
    Balancer::build(hosts, &setting).0
}

fn weighted() -> LoadBalancing {
    LoadBalancing { locality: LocalityPolicy::Weighted, ..LoadBalancing::default() }
}

fn ring() -> LoadBalancing {
    let hashing = Hashing::default();
    let (min_size, max_size) = (1024, 1 << 20);
    let ring = RingHash { min_size, max_size, function: HashFunction::XxHash, hashing };
    LoadBalancing { policy: LbPolicy::RingHash(ring), ..LoadBalancing::default() }
}

/// Asserts counts up to 3 standard deviations of a fair draw.
fn assert_shares(counts: &[usize], shares: &[f64]) {
    let n: usize = counts.iter().sum();
    for (count, share) in counts.iter().zip(shares) {
        let expected = n as f64 * share;
        let deviation = (expected * (1.0 - share)).sqrt() * 3.0 + 1.0;
        assert!((*count as f64 - expected).abs() <= deviation, "{counts:?} for {shares:?}");
    }
}

#[test]
fn load_spills_over_to_the_next_priority_and_to_degraded_hosts() {
    // Priority 0: two of four are healthy (70 %), one is degraded (35 %, of which 30 % are left).
    let hosts: HostList = (1..=4).map(|port| host_in(port, 1, 0, "")).collect();
    hosts[2].set_health_flag(HealthFlags::DEGRADED_EDS_HEALTH, true);
    hosts[3].set_health_flag(HealthFlags::FAILED_EDS_HEALTH, true);
    let none = LocalityWeights::new();
    let counted = counts(&hosts, &LoadBalancing::default(), &none, 10_000);
    assert_shares(&counted, &[0.35, 0.35, 0.3, 0.0]);
    let hosts: HostList =
        hosts.iter().cloned().chain([host_in(5, 1, 1, ""), host_in(6, 1, 1, "")]).collect();
    let counted = counts(&hosts, &LoadBalancing::default(), &none, 10_000);
    assert_shares(&counted, &[0.35, 0.35, 0.0, 0.0, 0.15, 0.15]);
}

#[test]
fn localities_get_load_by_weight_and_health() {
    let hosts: HostList = [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c")]
        .into_iter()
        .map(|(port, zone)| host_in(port, 1, 0, zone))
        .collect();
    let weight = |host: usize, weight| ((0, Arc::clone(hosts[host].locality())), weight);
    let weights = LocalityWeights::from([weight(0, 1), weight(2, 3)]);
    let counted = counts(&hosts, &weighted(), &weights, 8000);
    for (count, expected) in counted.iter().zip([1000, 1000, 3000, 3000, 0]) {
        assert!(count.abs_diff(expected) < 20, "{counted:?}");
    }
    // One of two in b is left: 140 % of a half, so that b counts 2.1.
    hosts[3].set_health_flag(HealthFlags::FAILED_EDS_HEALTH, true);
    let counted = counts(&hosts, &weighted(), &weights, 3100);
    assert!(counted[2].abs_diff(2100) < 20 && counted[0].abs_diff(500) < 20, "{counted:?}");
    // Without any weight localities do not matter.
    let counted = counts(&hosts, &weighted(), &LocalityWeights::new(), 4000);
    assert_eq!(counted, [1000, 1000, 1000, 0, 1000]);
}

#[test]
fn tables_are_built_only_when_hosts_or_weights_change() {
    let hosts: HostList = (1..=3).map(|port| host_in(port, 1, 0, "")).collect();
    let (lb, none) = (ring(), LocalityWeights::new());
    let picker = |balancer: &Balancer| match &balancer.priorities[0].healthy {
        Choice::Among(built) => Arc::clone(&built.picker),
        other => panic!("{other:?}"),
    };
    let first = balancer(&hosts, &lb, &none, &Known::new());
    let mut known = Known::new();
    first.note_pickers(&mut known);
    let same = balancer(&hosts, &lb, &none, &known);
    assert!(Arc::ptr_eq(&picker(&first), &picker(&same)));
    hosts[0].set_health_flag(HealthFlags::FAILED_EDS_HEALTH, true);
    let fewer = balancer(&hosts, &lb, &none, &known);
    assert!(!Arc::ptr_eq(&picker(&first), &picker(&fewer)));
    hosts[0].set_health_flag(HealthFlags::FAILED_EDS_HEALTH, false);
    let again = balancer(&hosts, &lb, &none, &known);
    assert!(Arc::ptr_eq(&picker(&first), &picker(&again)));
    assert_eq!(first.table().unwrap().entries, 1026);
}

#[test]
fn hashes_choose_priority_and_host() {
    let hosts: HostList = (1..=4).map(|port| host_in(port, 1, u32::from(port > 2), "")).collect();
    hosts[0].set_health_flag(HealthFlags::FAILED_EDS_HEALTH, true);
    let balancer = balancer(&hosts, &ring(), &LocalityWeights::new(), &Known::new());
    let stats = TrafficStats::new("c.");
    let pick = |hash: u64| {
        let context = PickContext { hash: Some(hash), ..PickContext::default() };
        place(balancer.pick(&context, &stats).unwrap())
    };
    // Priority 0 can take 70 %.
    assert_eq!(pick(69), 1);
    assert!(pick(70) >= 2 && pick(99) >= 2);
    let last = |_: &Host| true;
    let avoid = Some(Avoid { attempts: 40, is_avoided: &last });
    let context = PickContext { hash: Some(70), avoid, ..PickContext::default() };
    assert!(place(balancer.pick(&context, &stats).unwrap()) >= 2);
}

#[test]
fn locality_weights_shape_the_shares_of_a_table() {
    let hosts: HostList = [(1, "a"), (2, "a"), (3, "b")]
        .iter()
        .map(|(port, zone)| host_in(*port, 1, 0, zone))
        .collect();
    let lists: [HostList; 2] = [hosts[..2].into(), hosts[2..].into()];
    let localities = lists.iter().zip([1, 3]);
    let shares = hashing::shares_by_locality(localities);
    assert_eq!(shares.iter().map(|share| share.share).collect::<Vec<_>>(), [0.125, 0.125, 0.75]);
}

#[test]
fn panic_picks_from_all_unless_traffic_shall_fail() {
    let hosts: HostList = (1..=2).map(|port| host_in(port, 1, 0, "")).collect();
    hosts.iter().for_each(|host| {
        host.set_health_flag(HealthFlags::FAILED_EDS_HEALTH, true);
    });
    let none = LocalityWeights::new();
    let counted = counts(&hosts, &LoadBalancing::default(), &none, 10);
    assert_eq!(counted, [5, 5]);
    let zone = crate::config::cluster::load_balancing::ZoneAware {
        fail_on_panic: true,
        ..Default::default()
    };
    let lb =
        LoadBalancing { locality: LocalityPolicy::ZoneAware(zone), ..LoadBalancing::default() };
    let balancer = balancer(&hosts, &lb, &none, &Known::new());
    let stats = TrafficStats::new("c.");
    assert!(balancer.pick(&PickContext::default(), &stats).is_none());
    assert_eq!(stats.lb_healthy_panic.get(), 1);
}
