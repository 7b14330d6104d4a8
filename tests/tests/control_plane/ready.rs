//! When a sidecar is ready: for agents that read statistics, beside Envoy, and for `pillion wait`.

use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

use control_plane_mock::{Fault, FaultKind};
use pillion_tests::programs::{envoy, free_address, pillion};
use pillion_tests::scenario::config::{
    ads_bootstrap, cluster, control_plane, eds_cluster, endpoints_of, rds_listener, resource,
    routes,
};
use pillion_tests::scenario::{Connection, Protocol, Sidecar, Upstream, until};
use proto::type_url;

/// What Istio's agent asks before it calls a pod ready.
const STATE: &str = "/stats?usedonly&filter=^(server\\.state|listener_manager\\.workers_started)";
const UPDATES: &str = "/stats?usedonly&filter=\
    ^(cluster_manager\\.cds|listener_manager\\.lds)\\.(update_success|update_rejected)$";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_find_the_statistics_of_readiness() {
    let mut all = Vec::new();
    for program in std::iter::once(pillion()).chain(envoy()) {
        let address = free_address();
        let control_plane = control_plane(&[
            &eds_cluster("up"),
            &endpoints_of("up", &[]),
            &rds_listener(address),
            &routes("up"),
        ])
        .await;
        let mut sidecar =
            Sidecar::spawn(&program, &ads_bootstrap(control_plane.addr(), "DELTA_GRPC"), &[]);
        sidecar.wait_live();
        let mut answers = vec![sidecar.get(STATE).body, sidecar.get(UPDATES).body];
        // A refused response counts as an answer, too.
        let mut refused = cluster("refused", Protocol::Http1, &[]);
        refused["connect_timeout"] = "-1s".into();
        control_plane.put([resource(&refused)]);
        sidecar.wait_stat("cluster_manager.cds.update_rejected", 1).await;
        answers.push(sidecar.get(UPDATES).body);
        all.push(answers);
    }
    assert_eq!(all[0][0], "listener_manager.workers_started: 1\nserver.state: 0\n");
    assert_eq!(
        all[0][2],
        "cluster_manager.cds.update_rejected: 1\ncluster_manager.cds.update_success: 1\n\
         listener_manager.lds.update_success: 1\n"
    );
    assert!(all.iter().all(|answers| *answers == all[0]), "{all:#?}");
}

fn wait(arguments: &[&str]) -> Command {
    let mut command = Command::new(pillion());
    command.arg("wait").args(arguments).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_ends_when_the_sidecar_serves_and_tells_what_is_missing_until_then() {
    let control_plane = control_plane(&[&eds_cluster("up"), &endpoints_of("up", &[])]).await;
    let fault = Fault::from(FaultKind::Withhold).on_type(type_url::CLUSTER_LOAD_ASSIGNMENT);
    let fault = control_plane.arm(fault);
    let sidecar =
        Sidecar::spawn(&pillion(), &ads_bootstrap(control_plane.addr(), "DELTA_GRPC"), &[]);
    let admin = sidecar.admin.to_string();
    let missing = "cluster \"up\" waits for endpoints of \"up\"";
    pillion_tests::scenario::until("a cluster that waits", || {
        let output =
            wait(&["--admin-address", &admin, "--timeout", "0"]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1));
        said(&output).contains(&format!("not ready: INITIALIZING: {missing}"))
    })
    .await;

    let yaml = format!(
        "admin: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}",
        sidecar.admin.ip(),
        sidecar.admin.port()
    );
    let waiting = wait(&["--config-yaml", &yaml]).spawn().expect("it runs");
    control_plane.disarm(fault);
    let output = waiting.wait_with_output().expect("it ends");
    assert!(output.status.success() && said(&output).contains("ready after "), "{}", said(&output));
}

#[test]
fn waiting_for_nobody_ends_with_an_error() {
    let nobody = free_address().to_string();
    let output = wait(&["--admin-address", &nobody, "--timeout", "0"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("Connection refused"), "{}", said(&output));
    let output = wait(&[]).output().expect("it runs");
    assert!(said(&output).contains("give --admin-address"), "{}", said(&output));
    let output = wait(&["--admin-address-path", "/no/such/file", "--timeout", "0"])
        .output()
        .expect("it runs");
    assert!(said(&output).contains("/no/such/file"), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_wait_for_a_listener_that_gets_ready_where_they_are_taken_early() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let address = free_address();
    let control_plane = control_plane(&[
        &eds_cluster("up"),
        &endpoints_of("up", &[upstream.address]),
        &rds_listener(address),
        &routes("up"),
    ])
    .await;
    let fault = Fault::from(FaultKind::Withhold).on_type(type_url::ROUTE_CONFIGURATION);
    let fault = control_plane.arm(fault);
    let bootstrap = ads_bootstrap(control_plane.addr(), "DELTA_GRPC");
    let mut sidecar = Sidecar::spawn(&pillion(), &bootstrap, &["--listen-early"]);
    until("the listener", || TcpStream::connect(address).is_ok()).await;
    let mut connection = Connection::must_open(address, Protocol::Http1).await;
    assert_eq!(sidecar.get("/ready").status, 503);
    let answer = tokio::spawn(async move { connection.get("/").await });
    control_plane.disarm(fault);
    let answer = answer.await.expect("it does not panic").expect("an answer");
    assert_eq!(answer.body, "up");
    sidecar.wait_live();
}
