use std::time::{Duration, Instant};

use super::detector::Detector;
use super::*;
use crate::config::cluster::OutlierDetection;
use crate::config::{At, Context};
use crate::upstream::balance::PickContext;
use crate::upstream::cluster::{HealthFlags, tests as clusters};

/// An `OutlierDetection` from YAML.
pub fn config(yaml: &str) -> OutlierDetection {
    let yaml = format!("name: c\nconnect_timeout: 1s\noutlier_detection: {yaml}\n");
    let message = crate::config::testing::message(&yaml);
    let context = Context::default();
    let at = At::resource("cluster", "c");
    let cluster = crate::config::cluster::Cluster::from_proto(&message, &at, &context);
    let cluster = cluster.expect("a good cluster");
    OutlierDetection::clone(&cluster.outlier_detection.expect("it was given"))
}

/// A cluster of these hosts with a detector, which a test drives by hand.
fn detected(hosts: &[&str], yaml: &str) -> (Arc<Cluster>, Detector) {
    let mut cluster = clusters::config("c", hosts);
    cluster.outlier_detection = Some(Arc::new(config(yaml)));
    let cluster = clusters::active(cluster);
    let detector = Detector::new(&cluster).expect("it is configured");
    (cluster, detector)
}

fn ejected(cluster: &Cluster) -> Vec<String> {
    let hosts = cluster.hosts();
    let of_outliers =
        |host: &&Arc<Host>| host.health_flags().intersects(HealthFlags::FAILED_OUTLIER_CHECK);
    hosts.hosts().iter().filter(of_outliers).map(|host| host.address().to_string()).collect()
}

const TWO: [&str; 2] = ["127.0.0.1:1", "127.0.0.1:2"];

#[test]
fn ejections_last_longer_each_time_and_shorter_after_calm() {
    let yaml = "{max_ejection_percent: 50, base_ejection_time: 10s, max_ejection_time: 25s}";
    let (cluster, detector) = detected(&TWO, yaml);
    let host = Arc::clone(&cluster.hosts().hosts()[0]);
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let eject = |at| detector.detect(&cluster, &host, Reason::Consecutive5xx, at);
    assert!(eject(start));
    assert!(!eject(after(1)), "it is out already");
    assert!(!detector.sweep(&cluster, after(9)));
    assert!(detector.sweep(&cluster, after(10)));
    assert!(eject(after(11)));
    assert!(!detector.sweep(&cluster, after(30)), "the second time counts double");
    assert!(detector.sweep(&cluster, after(31)));
    assert!(eject(after(32)));
    assert!(!detector.sweep(&cluster, after(56)), "30 s are cut to 25");
    assert!(detector.sweep(&cluster, after(57)));
    // Two calm intervals of 10 s take two steps back.
    detector.sweep(&cluster, after(67));
    detector.sweep(&cluster, after(77));
    assert!(eject(after(78)));
    assert!(!detector.sweep(&cluster, after(97)));
    assert!(detector.sweep(&cluster, after(98)));
}

#[test]
fn no_more_than_the_percentage_are_ejected_but_for_the_one_that_always_may() {
    let (cluster, detector) = detected(&TWO, "{}");
    let hosts = Arc::clone(cluster.hosts().hosts());
    let now = Instant::now();
    assert!(!detector.detect(&cluster, &hosts[0], Reason::Consecutive5xx, now));
    let stats = detector.stats();
    assert_eq!((stats.ejections_overflow.get(), stats.ejections_active.get()), (1, 0));
    assert_eq!(stats.ejections_detected_consecutive_5xx.get(), 1);
    let (cluster, detector) = detected(&TWO, "{always_eject_one_host: true}");
    let hosts = Arc::clone(cluster.hosts().hosts());
    assert!(detector.detect(&cluster, &hosts[0], Reason::Consecutive5xx, now));
    assert!(!detector.detect(&cluster, &hosts[1], Reason::Consecutive5xx, now));
    assert_eq!(ejected(&cluster), ["127.0.0.1:1"]);
}

#[test]
fn what_is_not_enforced_is_only_counted() {
    let (cluster, detector) = detected(&TWO, "{max_ejection_percent: 100}");
    let host = Arc::clone(&cluster.hosts().hosts()[0]);
    let reason = Reason::ConsecutiveGatewayFailure;
    assert!(!detector.detect(&cluster, &host, reason, Instant::now()));
    let stats = detector.stats();
    assert_eq!(stats.ejections_detected_consecutive_gateway_failure.get(), 1);
    assert_eq!(stats.ejections_enforced_consecutive_gateway_failure.get(), 0);
}

#[tokio::test]
async fn a_row_of_errors_ejects_the_host_and_picks_avoid_it() {
    let mut config_of = clusters::config("c", &TWO);
    let yaml = "{consecutive_5xx: 2, max_ejection_percent: 50}";
    config_of.outlier_detection = Some(Arc::new(config(yaml)));
    let cluster = clusters::active(config_of.clone());
    start(&cluster);
    let bad = Arc::clone(&cluster.hosts().hosts()[0]);
    cluster.report(&bad, Outcome::Answered(500));
    cluster.report(&bad, Outcome::Broken);
    while ejected(&cluster).is_empty() || cluster.hosts().counts().healthy == 2 {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        let picked = cluster.pick(&PickContext::default()).expect("one is left");
        assert_eq!(picked.host.address().to_string(), "127.0.0.1:2");
    }
    // An update of the cluster that turns the detection off lets the host come back.
    config_of.outlier_detection = None;
    let successor = clusters::cluster(config_of, Some(&cluster));
    start(&successor);
    assert_eq!(ejected(&successor), [""; 0]);
    assert_eq!(successor.hosts().counts().healthy, 2);
}

#[test]
fn hosts_are_swept_by_their_rates() {
    let hosts: Vec<String> = (1..=6).map(|port| format!("127.0.0.1:{port}")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let yaml = "{max_ejection_percent: 50, consecutive_5xx: 1000, success_rate_request_volume: 10}";
    let (cluster, detector) = detected(&hosts, yaml);
    for (place, host) in cluster.hosts().hosts().iter().enumerate() {
        for _ in 0..10 {
            cluster.report(host, Outcome::Answered(if place == 3 { 500 } else { 200 }));
        }
    }
    assert!(detector.sweep(&cluster, Instant::now()));
    assert_eq!(ejected(&cluster), ["127.0.0.1:4"]);
    assert_eq!(detector.stats().ejections_enforced_success_rate.get(), 1);
    // The next interval starts from nothing.
    assert!(!detector.sweep(&cluster, Instant::now()));
}
