use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::*;
use crate::config::cluster::{Cluster as Config, HealthCheck};
use crate::config::{At, Context};
use crate::upstream::cluster::tests as clusters;

fn check(yaml: &str) -> Arc<HealthCheck> {
    let message = crate::config::testing::message(&format!(
        "{{timeout: 1s, interval: 0.01s, no_traffic_interval: 0.01s, unhealthy_threshold: 1, \
         healthy_threshold: 1, {yaml}}}"
    ));
    let at = At::resource("cluster", "c");
    let check = HealthCheck::from_cluster(&[message], &at, &Context::default());
    check.expect("it is valid").expect("it is there")
}

/// A cluster whose endpoints come over EDS, so that they can go.
fn config(yaml: &str) -> Config {
    let mut config = clusters::config("c", &[]);
    config.discovery = clusters::eds("c");
    config.health_check = Some(check(yaml));
    config
}

async fn until(cluster: &Cluster, flags: &[&str]) {
    let now = |cluster: &Cluster| -> Vec<String> {
        let hosts = cluster.hosts();
        hosts.hosts().iter().map(|host| host.health_flags().to_string()).collect()
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while now(cluster) != flags {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "{:?} and not {flags:?}", now(cluster));
}

#[tokio::test]
async fn a_host_serves_after_its_first_check_and_not_while_nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let cluster = clusters::active(config("tcp_health_check: {}"));
    cluster.set_assignment(&clusters::assignment(&[&[&address]]));
    until(&cluster, &["/failed_active_hc"]).await;
    start(&cluster);
    first_round(Arc::downgrade(&cluster)).await;
    until(&cluster, &["healthy"]).await;
    drop(listener);
    until(&cluster, &["/failed_active_hc"]).await;
    assert_eq!(cluster.hosts().counts().healthy, 0);
}

#[tokio::test]
async fn a_removed_host_stays_while_its_check_passes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let cluster = clusters::active(config("tcp_health_check: {}"));
    cluster.set_assignment(&clusters::assignment(&[&[&address]]));
    start(&cluster);
    until(&cluster, &["healthy"]).await;
    cluster.set_assignment(&clusters::assignment(&[&[]]));
    until(&cluster, &["/pending_dynamic_removal"]).await;
    // It comes back, and goes again.
    cluster.set_assignment(&clusters::assignment(&[&[&address]]));
    until(&cluster, &["healthy"]).await;
    cluster.set_assignment(&clusters::assignment(&[&[]]));
    drop(listener);
    until(&cluster, &[]).await;
}

#[tokio::test]
async fn a_host_that_fails_at_once_does_not_count_until_a_check_passes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let mut config = config("tcp_health_check: {}");
    config.health_check = Some(check("no_traffic_healthy_interval: 3600s, tcp_health_check: {}"));
    let cluster = clusters::active(config);
    cluster.set_assignment(&clusters::assignment(&[&[&address]]));
    start(&cluster);
    until(&cluster, &["healthy"]).await;
    let host = Arc::clone(&cluster.hosts().hosts()[0]);
    cluster.fail_at_once(&host);
    until(&cluster, &["/failed_active_hc/excluded_via_immediate_hc_fail"]).await;
    assert_eq!(cluster.hosts().counts().excluded, 1);
}

#[tokio::test]
async fn hosts_that_are_not_to_be_checked_serve_at_once() {
    let cluster = clusters::active(config("tcp_health_check: {}"));
    let mut assignment = clusters::assignment(&[&["127.0.0.1:1"]]);
    let check = crate::config::endpoint::EndpointCheck {
        port: None,
        address: None,
        hostname: None,
        disabled: true,
    };
    assignment.localities[0].endpoints[0].check = Some(Arc::new(check));
    cluster.set_assignment(&assignment);
    start(&cluster);
    first_round(Arc::downgrade(&cluster)).await;
    until(&cluster, &["healthy"]).await;
}

#[tokio::test]
async fn a_successor_without_checks_takes_the_hosts_as_they_come() {
    let cluster = clusters::active(config("tcp_health_check: {}"));
    cluster.set_assignment(&clusters::assignment(&[&["127.0.0.1:1"]]));
    let mut plain = config("tcp_health_check: {}");
    plain.health_check = None;
    let successor = clusters::cluster(plain, Some(&cluster));
    start(&successor);
    until(&successor, &["healthy"]).await;
    assert_eq!(successor.hosts().counts().healthy, 1);
}
