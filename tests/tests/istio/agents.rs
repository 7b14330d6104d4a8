//! The proxy in Envoy's place: what agents start it with, and what they ask of it (Istio's pilot-agent, Kuma's kuma-dp, Envoy
//! Gateway's shutdown manager, Consul's dataplane).

use std::process::Command;

use pillion_tests::programs::{free_address, pillion};
use pillion_tests::scenario::config::{cluster, http_listener, static_bootstrap};
use pillion_tests::scenario::{Connection, Protocol, Sidecar, Upstream};
use serde_json::{Value, json};

/// What pilot-agent starts Envoy with, less the file, the log level and the number of workers.
pub const FLAGS: [&str; 11] = [
    "--drain-time-s",
    "45",
    "--drain-strategy",
    "immediate",
    "--local-address-ip-version",
    "v4",
    "--file-flush-interval-msec",
    "1000",
    "--allow-unknown-static-fields",
    "--component-log-level",
    "misc:error",
];

/// What the other agents use of Envoy's flags.
const MORE_FLAGS: [&str; 11] = [
    "--base-id",
    "7",
    "--file-flush-min-size-kb",
    "64",
    "--parent-shutdown-time-s",
    "60",
    "--ignore-unknown-dynamic-fields",
    "--skip-deprecated-logs",
    "--service-zone",
    "zone-1",
    "--cpuset-threads",
];

async fn scene(flags: &[&str]) -> (Upstream, Sidecar, std::net::SocketAddr) {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let address = free_address();
    let mut listener = http_listener(address, "up", &json!({}));
    listener["traffic_direction"] = json!("INBOUND");
    let clusters = [cluster("up", Protocol::Http1, &[upstream.address])];
    let sidecar = Sidecar::start(&static_bootstrap(&[listener], &clusters), flags);
    (upstream, sidecar, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flag_that_agents_pass_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("admin");
    let path = path.to_str().expect("a plain path");
    let log = folder.path().join("log");
    let log = ["--log-path", log.to_str().expect("a plain path")];
    let flags = [&FLAGS[..], &MORE_FLAGS, &["--admin-address-path", path], &log].concat();
    let (_upstream, sidecar, _) = scene(&flags).await;
    let written = std::fs::read_to_string(path).expect("it was written");
    assert_eq!(written.trim(), sidecar.admin.to_string());
    // The zone counts where the bootstrap has none.
    let info: Value = serde_json::from_str(&sidecar.get("/server_info").body).expect("JSON");
    assert_eq!(info["state"], "LIVE");
    assert_eq!(info["command_line_options"]["service_zone"], "zone-1");

    let version = Command::new(pillion()).arg("--version").output().expect("it was built");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    // kuma-dp takes it apart: commit, version, state of the tree, kind of build, TLS library.
    let parts: Vec<_> = version.trim().rsplit_once(": ").expect("a prefix").1.split('/').collect();
    assert_eq!(parts.len(), 5, "{version}");
    assert_eq!(parts[1].split('.').count(), 3, "{version}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pilot_agent_finds_its_readiness_in_the_statistics() {
    let (_upstream, sidecar, _) = scene(&FLAGS).await;
    let names = "^(server\\.state|listener_manager\\.workers_started|cluster_manager\\.(cds|lds)\\.\
                 update_(success|rejected)|listener_manager\\.lds\\.update_(success|rejected))";
    let answer = sidecar.get(&format!("/stats?usedonly&filter={names}"));
    for line in ["server.state: 0", "listener_manager.workers_started: 1"] {
        assert!(answer.body.lines().any(|found| found == line), "{line}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_that_agents_read_is_there() {
    let (_upstream, sidecar, _) = scene(&FLAGS).await;
    for page in [
        "/ready",
        "/server_info",
        "/stats/prometheus",
        "/stats?format=json",
        "/config_dump",
        "/config_dump?resource=static_clusters&mask=cluster.name",
        "/clusters",
        "/clusters?format=json",
        "/listeners?format=json",
        "/certs",
        "/memory",
    ] {
        let answer = sidecar.get(page);
        assert_eq!(answer.status, 200, "{page}: {}", answer.body);
    }
    for page in ["/healthcheck/fail", "/healthcheck/ok", "/logging?level=info", "/reset_counters"] {
        assert_eq!(sidecar.post(page).status, 200, "{page}");
    }
}

/// Envoy Gateway fails the health check, drains and waits for connections to go; pilot-agent drains what is inbound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_end_the_proxy_in_their_ways() {
    let (_upstream, mut sidecar, address) = scene(&FLAGS).await;
    let mut connection = Connection::must_open(address, Protocol::Http1).await;
    assert_eq!(connection.get("/").await.expect("an answer").body, "up");
    assert_eq!(sidecar.post("/healthcheck/fail").status, 200);
    assert_eq!(sidecar.get("/ready").status, 503);
    assert_eq!(sidecar.post("/drain_listeners?graceful&skip_exit&inboundonly").status, 200);
    let answer = connection.get("/").await.expect("an answer");
    assert!(answer.closes(), "{:?}", answer.headers);
    sidecar.wait_stat("http.ingress.downstream_cx_active", 0).await;
    assert_eq!(sidecar.post("/quitquitquit").status, 200);
    assert!(sidecar.wait_exit().success());
}
