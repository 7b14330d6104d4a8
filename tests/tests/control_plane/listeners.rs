//! Listeners whose addresses are taken, beside Envoy.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use control_plane_mock::{Answer, ControlPlane, Fault, FaultKind};
use pillion_tests::programs::{envoy, free_address, pillion};
use pillion_tests::scenario::config::{
    ads_bootstrap, cluster, control_plane, http_listener, rds_listener, resource, routes,
};
use pillion_tests::scenario::{Connection, PATIENCE, Protocol, Sidecar, Upstream};
use proto::type_url;
use serde_json::{Value, json};

/// Both programs, or only Pillion, which the test then says.
fn programs() -> Vec<PathBuf> {
    let envoy = envoy();
    if envoy.is_none() {
        eprintln!("NOT RUN beside Envoy, which is not installed");
    }
    std::iter::once(pillion()).chain(envoy).collect()
}

async fn start(program: &Path, control_plane: &ControlPlane) -> Sidecar {
    let mut sidecar =
        Sidecar::spawn(program, &ads_bootstrap(control_plane.addr(), "DELTA_GRPC"), &[]);
    sidecar.wait_live();
    sidecar
}

/// Pushes a listener; gives the answer.
async fn push(control_plane: &ControlPlane, listener: &Value) -> Answer {
    let version = control_plane.put([resource(listener)]);
    control_plane.wait_ack(type_url::LISTENER, version, None, PATIENCE).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_waits_for_routes_is_refused_at_once_if_its_address_is_taken() {
    for program in programs() {
        let control_plane = control_plane(&[&cluster("up", Protocol::Http1, &[])]).await;
        let sidecar = start(&program, &control_plane).await;
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("it is bound");
        // Nobody ever serves its routes.
        let answer = push(&control_plane, &rds_listener(address)).await;
        let error = answer.error.unwrap_or_default();
        assert!(
            error.contains(&format!("cannot bind '{address}': Address already in use")),
            "{error}"
        );
        assert_eq!(sidecar.stat("listener_manager.listener_create_failure"), 1);
        assert_eq!(sidecar.stat("listener_manager.lds.update_rejected"), 1);
        assert_eq!(sidecar.stat("listener_manager.total_listeners_warming"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_holds_its_address_while_it_waits_for_routes() {
    for program in programs() {
        let upstream = Upstream::start("up", Protocol::Http1).await;
        let control_plane =
            control_plane(&[&cluster("up", Protocol::Http1, &[upstream.address])]).await;
        let sidecar = start(&program, &control_plane).await;
        let fault = control_plane
            .arm(Fault::from(FaultKind::Withhold).on_type(type_url::ROUTE_CONFIGURATION));
        let address = free_address();
        assert_eq!(push(&control_plane, &rds_listener(address)).await.error, None);
        assert_eq!(sidecar.stat("listener_manager.total_listeners_warming"), 1);
        assert!(std::net::TcpStream::connect(address).is_err());

        // Another listener cannot have it, although sockets of one process could share it.
        let mut other = http_listener(address, "up", &json!({}));
        other["name"] = json!("other");
        let error = push(&control_plane, &other).await.error.unwrap_or_default();
        assert!(error.contains("duplicate address"), "{error}");
        control_plane.delete(type_url::LISTENER, ["other"]);

        // Another version of the listener has it.
        let mut changed = rds_listener(address);
        changed["per_connection_buffer_limit_bytes"] = json!(100_000);
        assert_eq!(push(&control_plane, &changed).await.error, None);
        control_plane.put([resource(&routes("up"))]);
        control_plane.disarm(fault);
        sidecar.wait_stat("listener_manager.total_listeners_active", 1).await;
        let mut connection = Connection::must_open(address, Protocol::Http1).await;
        assert_eq!(connection.get("/").await.expect("an answer").body, "up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_that_were_stopped_stay_stopped() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let control_plane =
        control_plane(&[&cluster("up", Protocol::Http1, &[upstream.address])]).await;
    let sidecar = start(&pillion(), &control_plane).await;
    assert_eq!(sidecar.post("/drain_listeners").status, 200);
    assert_eq!(sidecar.post("/drain_listeners?inboundonly").status, 200);
    let address = free_address();
    assert_eq!(push(&control_plane, &http_listener(address, "up", &json!({}))).await.error, None);
    assert_eq!(sidecar.stat("listener_manager.listener_added"), 0);
    assert!(std::net::TcpStream::connect(address).is_err());
}
