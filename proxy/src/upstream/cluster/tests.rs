use super::*;
use crate::config::cluster::{CommonHttpOptions, Http2Options, Thresholds, UpstreamProtocol};
use crate::config::endpoint::{Assignment, EdsHealth, Endpoint, LocalityEndpoints, Target};
use crate::io::Address;
use crate::telemetry::stats::{Metric, StatGroup};
use crate::upstream::balance::Avoid;
use std::collections::HashMap;
use std::time::Duration;

pub fn endpoint(address: &str) -> Endpoint {
    let address: std::net::SocketAddr = address.parse().unwrap();
    Endpoint {
        target: Target::Address(Address::Ip(address)),
        hostname: None,
        weight: 1,
        health: EdsHealth::Healthy,
        metadata: None,
        check: None,
    }
}

/// The discovery of a cluster whose endpoints come over EDS.
pub fn eds(service: &str) -> Discovery {
    let source = crate::config::source::ConfigSource::from_proto(
        &crate::config::testing::message("ads: {}"),
        &crate::config::At::resource("cluster", service),
        &crate::config::Context::default(),
    );
    Discovery::Eds { source: source.expect("it is valid"), service_name: service.into() }
}

/// Endpoints of the given priorities, all in one locality.
pub fn assignment(priorities: &[&[&str]]) -> Assignment {
    let localities = priorities.iter().zip(0..).map(|(addresses, priority)| LocalityEndpoints {
        locality: Arc::default(),
        priority,
        weight: None,
        endpoints: addresses.iter().map(|address| endpoint(address)).collect(),
    });
    Assignment { localities: localities.collect(), ..Assignment::default() }
}

/// A static cluster with these endpoints; everything else as the protocol's defaults.
pub fn config(name: &str, addresses: &[&str]) -> Config {
    Config {
        name: name.into(),
        stat_name: name.into(),
        discovery: Discovery::Static(assignment(&[addresses])),
        connect_timeout: Duration::from_secs(5),
        buffer_limit: 1 << 20,
        lb: Arc::default(),
        circuit_breakers: Box::new([Thresholds::default(); 2]),
        health_check: None,
        ignore_health_on_removal: false,
        ignore_new_hosts_until_first_check: false,
        outlier_detection: None,
        protocol: UpstreamProtocol::Http1,
        http: CommonHttpOptions::default(),
        http2: Http2Options::default(),
        http1_trailers: false,
        auto_names: None,
        socket_matches: Box::default(),
        tls: None,
        tcp_keepalive: None,
        source_address: None,
        extra_source_address: None,
        metadata: None,
    }
}

pub fn cluster(config: Config, previous: Option<&Cluster>) -> Arc<Cluster> {
    let store = Arc::new(Store::default());
    let registry = ClusterRegistry::new(&store);
    Cluster::new(Arc::new(config), &store, &registry, previous)
}

/// A cluster that serves.
pub fn active(config: Config) -> Arc<Cluster> {
    let cluster = cluster(config, None);
    cluster.activate();
    cluster
}

fn picked_ports(cluster: &Cluster, n: usize) -> std::collections::BTreeSet<u16> {
    let pick = |_| cluster.pick(&PickContext::default()).unwrap().host.address().port().unwrap();
    (0..n).map(pick).collect()
}

#[test]
fn an_update_keeps_hosts_and_drains_those_that_go() {
    let cluster = active(config("c", &["10.0.0.1:1", "10.0.0.1:2"]));
    let before = cluster.hosts().hosts().clone();
    before[0].stats.rq_active.inc();
    let mut next = assignment(&[&["10.0.0.1:3", "10.0.0.1:1", "10.0.0.1:1"]]);
    next.localities[0].endpoints[1].weight = 7;
    cluster.set_assignment(&next);

    let after = cluster.hosts().hosts().clone();
    assert_eq!(after.len(), 2, "the duplicate is dropped");
    assert!(Arc::ptr_eq(&after[1], &before[0]));
    assert_eq!((after[1].weight(), after[1].active_requests()), (7, 1));
    assert!(before[1].is_removed() && !before[0].is_removed());
    assert_eq!(cluster.endpoint_stats().membership_change.get(), 2);
    assert_eq!(cluster.endpoint_stats().membership_total.get(), 2);
}

#[test]
fn an_address_in_another_locality_is_another_host() {
    let cluster = active(config("c", &["10.0.0.1:1"]));
    let before = cluster.hosts().hosts().clone();
    let mut next = assignment(&[&["10.0.0.1:1"]]);
    next.localities[0].locality =
        Arc::new(crate::config::endpoint::Locality { zone: "z".into(), ..Default::default() });
    cluster.set_assignment(&next);
    assert!(before[0].is_removed());
    assert!(!cluster.hosts().hosts()[0].is_removed());
}

#[test]
fn unhealthy_hosts_get_nothing_until_panic() {
    let addresses = ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3", "10.0.0.1:4"];
    let cluster = cluster(config("c", &addresses), None);
    let hosts = cluster.hosts().hosts().clone();
    hosts[0].set_health_flag(HealthFlags::FAILED_OUTLIER_CHECK, true);
    cluster.refresh_hosts();
    assert_eq!(picked_ports(&cluster, 50), [2, 3, 4].into());
    assert_eq!(cluster.endpoint_stats().membership_healthy.get(), 3);

    for host in &hosts[1..3] {
        host.set_health_flag(HealthFlags::FAILED_ACTIVE_HC, true);
    }
    cluster.refresh_hosts();
    assert_eq!(picked_ports(&cluster, 50), [1, 2, 3, 4].into());
    assert_eq!(cluster.stats().lb_healthy_panic.get(), 50);
}

#[test]
fn the_next_priority_takes_over() {
    let cluster = cluster(config("c", &[]), None);
    assert_eq!(cluster.pick(&PickContext::default()).unwrap_err(), PickError::NoHealthyUpstream);
    let mut next = assignment(&[&["10.0.0.1:1"], &["10.0.0.1:2"]]);
    cluster.set_assignment(&next);
    assert_eq!(picked_ports(&cluster, 20), [1].into());
    next.localities[0].endpoints[0].health = EdsHealth::Draining;
    cluster.set_assignment(&next);
    assert_eq!(picked_ports(&cluster, 20), [2].into());
}

#[test]
fn a_retry_passes_over_hosts_and_priorities() {
    let cluster = cluster(config("c", &[]), None);
    cluster.set_assignment(&assignment(&[&["10.0.0.1:1", "10.0.0.1:2"], &["10.0.0.1:3"]]));
    let port =
        |context: &PickContext<'_>| cluster.pick(context).unwrap().host.address().port().unwrap();
    let is_avoided = |host: &Host| host.address().port() == Some(1);
    let avoid = Some(Avoid { attempts: 1, is_avoided: &is_avoided });
    for _ in 0..10 {
        // Round robin: the next host is the other one.
        assert_eq!(port(&PickContext { avoid, ..PickContext::default() }), 2);
        assert_eq!(port(&PickContext { avoid_priorities: &[0], ..PickContext::default() }), 3);
    }
    let all = |_: &Host| true;
    let avoid = Some(Avoid { attempts: 3, is_avoided: &all });
    assert!(cluster.pick(&PickContext { avoid, ..PickContext::default() }).is_ok());
}

#[test]
fn the_drop_policy_drops_its_share() {
    fastrand::seed(1);
    let cluster = cluster(config("c", &["10.0.0.1:1"]), None);
    let mut next = assignment(&[&["10.0.0.1:1"]]);
    next.drop_overload = Some(("throttle".into(), 250_000));
    cluster.set_assignment(&next);
    let dropped = (0..4000)
        .filter(|_| cluster.pick(&PickContext::default()).err() == Some(PickError::DropOverload));
    let dropped = dropped.count();
    assert!((900..1100).contains(&dropped), "{dropped}");
    next.drop_overload = Some(("throttle".into(), 1_000_000));
    cluster.set_assignment(&next);
    let error = cluster.pick(&PickContext::default()).unwrap_err();
    assert_eq!(error, PickError::UnconditionalDropOverload);
}

#[test]
fn traffic_statistics_appear_with_the_first_use() {
    let store = Arc::new(Store::default());
    let registry = ClusterRegistry::new(&Store::default());
    let cluster = Cluster::new(Arc::new(config("c", &["10.0.0.1:1"])), &store, &registry, None);
    let prefixes = || store.groups().iter().map(|g| g.prefix().to_owned()).collect::<Vec<_>>();
    assert_eq!(prefixes(), ["cluster.c."]);
    cluster.stats().upstream_rq_total.inc();
    assert!(prefixes().contains(&"cluster.c.circuit_breakers.default.".to_owned()));
    let mut total = None;
    cluster.stats().visit(&mut |name, metric| {
        if let ("upstream_rq_total", Metric::Counter(counter)) = (name, metric) {
            total = Some(counter.get());
        }
    });
    assert_eq!(total, Some(1));
}

#[test]
fn original_destinations_become_hosts_and_expire_unused() {
    let discovery = Discovery::OriginalDst {
        header: None,
        port_override: Some(81),
        cleanup_interval: Duration::from_secs(5),
    };
    let cluster = cluster(Config { discovery, ..config("c", &[]) }, None);
    assert!(cluster.pick(&PickContext::default()).is_err());
    let wanted = |port| PickContext {
        original_dst: Some(([10, 0, 0, 9], port).into()),
        ..PickContext::default()
    };
    let host = cluster.pick(&wanted(80)).unwrap().host;
    assert_eq!(host.address().to_string(), "10.0.0.9:81");
    assert!(Arc::ptr_eq(&host, &cluster.pick(&wanted(90)).unwrap().host));

    let hosts = cluster.original_dst().unwrap();
    let mut seen = HashMap::new();
    hosts.clean_up(&mut seen);
    assert!(!host.is_removed(), "it may be about to be used");
    host.stats.rq_total.inc();
    hosts.clean_up(&mut seen);
    assert!(!host.is_removed());
    hosts.clean_up(&mut seen);
    assert!(host.is_removed() && hosts.all().is_empty());
}
