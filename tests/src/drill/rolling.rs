//! Rolling restarts, of replicas, of their sidecars and of the clients' sidecar: nobody may notice.

use std::net::SocketAddr;

use control_plane_mock::ControlPlane;
use proto::type_url;
use serde_json::{Value, json};

use super::mesh::{listener, up};
use super::replica::Replica;
use super::traffic::{ALL, Traffic};
use super::{Report, Size};
use crate::programs::{free_address, free_port, http_get, pillion};
use crate::scenario::config::{
    ads, ads_bootstrap, control_plane, endpoints_of, http_listener, merge, resource,
    static_bootstrap,
};
use crate::scenario::{PATIENCE, Sidecar, until};

fn start(count: usize) -> Vec<Replica> {
    (0..count).map(|number| Replica::start(&format!("r{number}"))).collect()
}

fn addresses(replicas: &[Replica]) -> Vec<SocketAddr> {
    replicas.iter().map(|replica| replica.address).collect()
}

/// Replicas restart one after the other. Each is taken out of the endpoints before and put back after, as an orchestrator
/// does.
pub async fn replicas(size: Size) -> Report {
    let mut replicas = start(size.pick(3, 10));
    let all = addresses(&replicas);
    let address = free_address();
    let mut dynamic = up(&[]);
    let over = json!({"type": "EDS", "load_assignment": null, "eds_cluster_config": {"eds_config": ads()}});
    merge(&mut dynamic, &over);
    let plane =
        control_plane(&[&dynamic, &endpoints_of("up", &all), &listener(address, None)]).await;
    let _sidecar = Sidecar::start(&ads_bootstrap(plane.addr(), "DELTA_GRPC"), &[]);
    let traffic = Traffic::start(address, &ALL, size.pick(2, 8)).await;
    let mut report = Report::default();
    for _ in 0..size.pick(1, 3) {
        for (index, replica) in replicas.iter_mut().enumerate() {
            let mut others = all.clone();
            others.remove(index);
            push(&plane, &others).await;
            traffic.flow(20).await;
            replica.terminate();
            replica.restart();
            push(&plane, &all).await;
            traffic.flow(20).await;
        }
    }
    report.figure("replicas", replicas.len());
    report.expect_unseen("restarted one after the other", &traffic.stop().await);
    report
}

async fn push(plane: &ControlPlane, endpoints: &[SocketAddr]) {
    let version = plane.put([resource(&endpoints_of("up", endpoints))]);
    let kind = type_url::CLUSTER_LOAD_ASSIGNMENT;
    let answer = plane.wait_ack(kind, version, None, PATIENCE).await;
    let answer = answer.unwrap_or_else(|error| panic!("endpoints: {error}"));
    assert_eq!(answer.error, None);
}

/// The sidecars in front of the replicas restart one after the other, by SIGTERM. Nobody is told before: the clients' sidecar
/// hears it by `connection: close` and GOAWAY, and finds another one.
pub async fn sidecars(size: Size) -> Report {
    let replicas = start(size.pick(3, 10));
    let bootstraps: Vec<(SocketAddr, Value)> =
        replicas.iter().map(|replica| inbound(replica.address)).collect();
    let flags = ["--drain-time-s", "20", "--min-drain-time-s", "1"];
    let mut servers: Vec<Sidecar> =
        bootstraps.iter().map(|(_, bootstrap)| Sidecar::start(bootstrap, &flags)).collect();
    let inbound: Vec<_> = bootstraps.iter().map(|(address, _)| *address).collect();
    let address = free_address();
    let _client =
        Sidecar::start(&static_bootstrap(&[listener(address, None)], &[up(&inbound)]), &[]);
    let traffic = Traffic::start(address, &ALL, size.pick(2, 8)).await;
    let mut report = Report::default();
    for (server, (_, bootstrap)) in servers.iter_mut().zip(&bootstraps) {
        server.process.signal("TERM").unwrap_or_else(|error| panic!("{error}"));
        server.wait_exit();
        *server = Sidecar::start(bootstrap, &flags);
        traffic.flow(50).await;
    }
    report.figure("sidecars", servers.len());
    report.expect_unseen("restarted one after the other", &traffic.stop().await);
    report
}

/// A sidecar in front of a replica: where it listens, and its bootstrap.
fn inbound(replica: SocketAddr) -> (SocketAddr, Value) {
    let address = free_address();
    let hcm = json!({"upgrade_configs": [{"upgrade_type": "websocket"}]});
    let mut listener = http_listener(address, "up", &hcm);
    listener["traffic_direction"] = json!("INBOUND");
    (address, static_bootstrap(&[listener], &[up(&[replica])]))
}

/// The clients' sidecar is replaced by hot restarts.
pub async fn hot_restarts(size: Size) -> Report {
    let replicas = start(2);
    let address = free_address();
    let bootstrap = static_bootstrap(&[listener(address, None)], &[up(&addresses(&replicas))]);
    let (admin, base_id) = (free_address(), free_port().to_string());
    let epochs = size.pick(2, 20);
    let mut sidecar = take_over(admin, &bootstrap, &base_id, 0).await;
    let traffic = Traffic::start(address, &ALL, size.pick(2, 8)).await;
    let mut report = Report::default();
    for epoch in 1..=epochs {
        let next = take_over(admin, &bootstrap, &base_id, epoch).await;
        traffic.flow(50).await;
        // The old one drains for a second and is ended a second later.
        sidecar.wait_exit();
        sidecar = next;
    }
    report.figure("hot restarts", epochs);
    report.expect_unseen("meanwhile", &traffic.stop().await);
    report
}

/// Starts the process of an epoch and waits until it serves.
async fn take_over(admin: SocketAddr, bootstrap: &Value, base_id: &str, epoch: u32) -> Sidecar {
    let number = epoch.to_string();
    let flags = [
        "--concurrency",
        "2",
        "-l",
        "warning",
        "--base-id",
        base_id,
        "--restart-epoch",
        &number,
        "--drain-time-s",
        "1",
        "--parent-shutdown-time-s",
        "2",
    ];
    let mut sidecar = Sidecar::spawn_at(admin, &pillion(), bootstrap, &flags);
    let here = format!("server.hot_restart_epoch: {epoch}\n");
    let ask = || http_get(admin, "/stats?filter=hot_restart_epoch");
    until(&here, || ask().is_ok_and(|answer| answer.body == here)).await;
    sidecar.wait_live();
    sidecar
}
