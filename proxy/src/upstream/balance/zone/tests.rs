use super::super::locality::{LocalityWeights, group};
use super::super::tests::host_in;
use super::*;
use crate::config::cluster::{Cluster as Config, Discovery};
use crate::config::endpoint::{Assignment, LocalityEndpoints};
use crate::telemetry::stats::Store;
use crate::upstream::cluster::tests::{config, endpoint};
use crate::upstream::cluster::{Cluster, ClusterRegistry};

fn in_zone(zone: &str) -> Locality {
    Locality { zone: zone.into(), ..Locality::default() }
}

/// A local cluster with so many hosts in each zone; this proxy is in zone `a`.
fn local(zones: &[(&str, usize)]) -> Arc<LocalZone> {
    let mut port = 0;
    let localities = zones.iter().map(|(zone, hosts)| LocalityEndpoints {
        locality: Arc::new(in_zone(zone)),
        priority: 0,
        weight: None,
        endpoints: (0..*hosts)
            .map(|_| {
                port += 1;
                endpoint(&format!("10.0.0.1:{port}"))
            })
            .collect(),
    });
    let assignment = Assignment { localities: localities.collect(), ..Assignment::default() };
    let discovery = Discovery::Static(assignment);
    let store = Arc::new(Store::default());
    let registry = ClusterRegistry::new(&store);
    let config = Config { discovery, ..config("local", &[]) };
    registry.put(vec![Cluster::new(Arc::new(config), &store, &registry, None)]);
    Arc::new(LocalZone { locality: in_zone("a"), cluster: registry.slot("local") })
}

/// The routing of a cluster with so many hosts in each zone.
fn routing(zone: &Arc<LocalZone>, config: &ZoneAware, zones: &[(&str, u16)]) -> ZoneRouting {
    let hosts: Vec<_> = zones
        .iter()
        .flat_map(|(zone, hosts)| (1..=*hosts).map(|port| host_in(port, 1, 0, zone)))
        .collect();
    let groups = group(&hosts, 0, &LocalityWeights::new(), Some(&zone.locality));
    ZoneRouting::new(zone, config, 50.0, &groups)
}

fn counts(routing: &ZoneRouting, stats: &TrafficStats, n: usize) -> Vec<usize> {
    let mut counts = vec![0; routing.localities.len()];
    for _ in 0..n {
        match routing.choose(stats) {
            Choice::Locality(index) => counts[index] += 1,
            other => panic!("{other:?}"),
        }
    }
    counts
}

#[test]
fn all_stays_where_capacity_suffices() {
    let stats = TrafficStats::new("c.");
    let zone = local(&[("a", 1), ("b", 1)]);
    let routing = routing(&zone, &ZoneAware::default(), &[("a", 4), ("b", 4)]);
    assert_eq!(counts(&routing, &stats, 100), [100, 0]);
    assert_eq!(stats.lb_zone_routing_all_directly.get(), 100);
    assert_eq!(stats.lb_recalculate_zone_structures.get(), 1);
}

#[test]
fn the_rest_goes_where_capacity_is_left() {
    fastrand::seed(1);
    let stats = TrafficStats::new("c.");
    // The example of Envoy's comments: 40, 40 and 20 % come, 25, 50 and 25 % can be borne.
    let zone = local(&[("a", 2), ("b", 2), ("c", 1)]);
    let routing = routing(&zone, &ZoneAware::default(), &[("a", 2), ("b", 4), ("c", 2)]);
    let counts = counts(&routing, &stats, 16_000);
    // 62.5 % stay, and of the others two thirds go to b.
    for (count, expected) in counts.iter().zip([10_000, 4000, 2000]) {
        assert!(count.abs_diff(expected) < 250, "{counts:?}");
    }
    assert_eq!(stats.lb_zone_routing_sampled.get() as usize, counts[0]);
    assert_eq!(stats.lb_zone_routing_cross_zone.get() as usize, counts[1] + counts[2]);
}

#[test]
fn zones_do_not_matter_for_small_clusters_and_without_hosts_of_ones_own() {
    let stats = TrafficStats::new("c.");
    let zone = local(&[("a", 1), ("b", 1)]);
    let small = routing(&zone, &ZoneAware::default(), &[("a", 2), ("b", 2)]);
    assert_eq!(small.choose(&stats), Choice::Anywhere);
    assert_eq!(stats.lb_zone_cluster_too_small.get(), 1);
    let elsewhere = local(&[("b", 1), ("c", 1)]);
    let foreign = routing(&elsewhere, &ZoneAware::default(), &[("a", 4), ("b", 4)]);
    assert_eq!(foreign.choose(&stats), Choice::Anywhere);
    assert_eq!(stats.lb_local_cluster_not_ok.get(), 1);
    let alone = local(&[("a", 1)]);
    let single = routing(&alone, &ZoneAware::default(), &[("a", 4), ("b", 4)]);
    assert_eq!(single.choose(&stats), Choice::Anywhere);
}

#[test]
fn the_own_zone_can_be_forced() {
    let stats = TrafficStats::new("c.");
    let alone = local(&[("a", 1)]);
    let force = |least| ZoneAware { force_local: Some(least), ..ZoneAware::default() };
    let forced = routing(&alone, &force(2), &[("a", 2), ("b", 6)]);
    assert_eq!(forced.choose(&stats), Choice::Locality(0));
    let too_few = routing(&alone, &force(3), &[("a", 2), ("b", 6)]);
    let counts = counts(&too_few, &stats, 1000);
    assert!(counts[1] > 600, "{counts:?}");
}
