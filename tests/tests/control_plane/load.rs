//! Load reports (LRS), beside Envoy.

use std::collections::BTreeMap;
use std::time::Duration;

use control_plane_mock::{ControlPlane, Options};
use pillion_tests::programs::{envoy, free_address, pillion};
use pillion_tests::scenario::config::{
    ads_bootstrap, eds_cluster, endpoints_of, http_listener, merge, resource,
};
use pillion_tests::scenario::{Connection, PATIENCE, Protocol, Sidecar, Upstream};
use proto::envoy::service::load_stats::v3::LoadStatsRequest;
use serde_json::json;

/// The sums of a cluster's reports by priority and zone: requests issued, successful and failed.
fn sums(reports: &[LoadStatsRequest], cluster: &str) -> BTreeMap<(u32, String), [u64; 3]> {
    let mut sums: BTreeMap<_, [u64; 3]> = BTreeMap::new();
    let stats = reports.iter().flat_map(|report| &report.cluster_stats);
    for stats in stats.filter(|stats| stats.cluster_name == cluster) {
        assert_eq!(stats.cluster_service_name, "service");
        assert!(stats.load_report_interval.is_some());
        for locality in &stats.upstream_locality_stats {
            let zone = locality.locality.clone().unwrap_or_default().zone;
            let sum = sums.entry((locality.priority, zone)).or_default();
            sum[0] += locality.total_issued_requests;
            sum[1] += locality.total_successful_requests;
            sum[2] += locality.total_error_requests;
        }
    }
    sums
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn localities_are_reported_as_envoy_reports_them() {
    let mut all = Vec::new();
    for program in std::iter::once(pillion()).chain(envoy()) {
        let upstream = Upstream::start("up", Protocol::Http1).await;
        let address = free_address();
        let interval = Some(Duration::from_millis(200));
        let options = Options { load_interval: interval, ..Options::default() };
        let control_plane = ControlPlane::start(options).await.expect("a free port");
        let mut cluster = eds_cluster("up");
        merge(&mut cluster, &json!({"eds_cluster_config": {"service_name": "service"}}));
        let mut endpoints = endpoints_of("service", &[upstream.address]);
        merge(&mut endpoints["endpoints"][0], &json!({"locality": {"zone": "z"}, "priority": 0}));
        let resources = [cluster, endpoints, http_listener(address, "up", &json!({}))];
        control_plane.put(resources.iter().map(resource));
        let mut bootstrap = ads_bootstrap(control_plane.addr(), "DELTA_GRPC");
        bootstrap["cluster_manager"] = json!({"load_stats_config": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "control_plane"}}],
        }});
        let mut sidecar = Sidecar::spawn(&program, &bootstrap, &[]);
        sidecar.wait_live();
        // The counts begin with the server's answer.
        let names = |reports: &[LoadStatsRequest]| {
            reports.iter().any(|report| report.cluster_stats.iter().any(|s| s.cluster_name == "up"))
        };
        assert!(names(&control_plane.load_reports(PATIENCE, names).await));
        let mut connection = Connection::must_open(address, Protocol::Http1).await;
        for _ in 0..5 {
            assert_eq!(connection.get("/").await.expect("an answer").status, 200);
        }
        for _ in 0..2 {
            assert_eq!(connection.get("/fail").await.expect("an answer").status, 503);
        }
        let is_whole = |reports: &[LoadStatsRequest]| {
            let sums = sums(reports, "up");
            sums.values().map(|sum| sum[0]).sum::<u64>() == 7
        };
        let reports = control_plane.load_reports(PATIENCE, is_whole).await;
        assert_eq!(sidecar.stat("load_reporter.requests"), 1);
        assert!(sidecar.stat("load_reporter.responses") >= 2);
        let node = reports[0].node.clone().expect("the first message says who reports");
        assert_eq!(node.id, "sidecar");
        assert!(
            node.client_features.iter().any(|name| name == "envoy.lrs.supports_send_all_clusters")
        );
        all.push(sums(&reports, "up"));
    }
    assert_eq!(all[0], BTreeMap::from([((0, "z".to_owned()), [7, 5, 2])]));
    assert!(all.iter().all(|sums| *sums == all[0]), "{all:?}");
}
