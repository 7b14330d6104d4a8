//! Control planes that are slow, wrong or gone, and the same resources on Envoy and on Pillion.

mod beside_envoy;
mod listeners;
mod load;
mod order;
mod ready;
mod state;

use std::net::SocketAddr;

use control_plane_mock::{ControlPlane, Fault, FaultKind, Options};
use pillion_tests::programs::{envoy, free_address, pillion};
use pillion_tests::scenario::config::{
    ads_bootstrap, cluster, control_plane, eds_cluster, endpoints_of, merge, rds_listener,
    resource, routes,
};
use pillion_tests::scenario::{Connection, Load, PATIENCE, Protocol, Sidecar, Upstream, until};
use proto::type_url;
use serde_json::{Value, json};

/// A server, and what a control plane needs to say of it.
struct Mesh {
    upstream: Upstream,
    listener: SocketAddr,
}

impl Mesh {
    async fn new() -> Mesh {
        let upstream = Upstream::start("up", Protocol::Http1).await;
        Mesh { upstream, listener: free_address() }
    }

    fn resources(&self) -> [Value; 4] {
        let endpoints = endpoints_of("up", &[self.upstream.address]);
        [eds_cluster("up"), endpoints, rds_listener(self.listener), routes("up")]
    }

    async fn control_plane(&self) -> ControlPlane {
        control_plane(&self.resources().each_ref()).await
    }

    async fn assert_served(&self) {
        let mut connection = Connection::must_open(self.listener, Protocol::Http1).await;
        assert_eq!(connection.get("/").await.expect("an answer").body, "up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_flows_while_the_control_plane_is_gone_and_follows_it_when_it_returns() {
    let mesh = Mesh::new().await;
    let other = Upstream::start("other", Protocol::Http1).await;
    let options = Options { listen: free_address(), ..Options::default() };
    let first = ControlPlane::start(options.clone()).await.expect("a free port");
    first.put(mesh.resources().iter().map(resource));
    let sidecar = Sidecar::start(&ads_bootstrap(first.addr(), "DELTA_GRPC"), &[]);
    let load = Load::start(mesh.listener, 4).await;
    first.stop().await;
    sidecar.wait_stat("control_plane.connected_state", 0).await;
    load.serve_more(200).await;
    let second = ControlPlane::start(options).await.expect("the same port");
    second.put(mesh.resources().iter().map(resource));
    second.put([resource(&endpoints_of("up", &[other.address]))]);
    until("requests to the new endpoint", || other.requests() > 100).await;
    sidecar.wait_stat("control_plane.connected_state", 1).await;
    let report = load.stop().await;
    assert!(report.failures.is_empty() && report.connections == 8, "{report:?}");
}

/// A resource that must be refused, and where its error is.
fn refused(mesh: &Mesh) -> [(Value, &'static str); 4] {
    let [mut cluster, mut endpoints, mut listener, mut routes] = mesh.resources();
    merge(&mut cluster, &json!({"connect_timeout": "-1s"}));
    let socket = &mut endpoints["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"];
    merge(socket, &json!({"socket_address": {"port_value": 70_000}}));
    let hcm = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    merge(hcm, &json!({"stat_prefix": ""}));
    let route = &mut routes["virtual_hosts"][0]["routes"][0];
    merge(route, &json!({"match": {"prefix": null, "safe_regex": {"regex": "("}}}));
    [
        (cluster, "connect_timeout"),
        (endpoints, "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value"),
        (listener, "filter_chains[0].filters[0].typed_config"),
        (routes, "virtual_hosts[0].routes[0].match.safe_regex"),
    ]
}

async fn bad_resources_are_refused_and_the_last_good_ones_kept(api_type: &str) {
    let mesh = Mesh::new().await;
    let control_plane = mesh.control_plane().await;
    let sidecar = Sidecar::start(&ads_bootstrap(control_plane.addr(), api_type), &[]);
    for ((bad, path), good) in refused(&mesh).iter().zip(mesh.resources()) {
        let bad = resource(bad);
        let (type_url, name) = (bad.type_url().to_owned(), bad.name().to_owned());
        let version = control_plane.put([bad]);
        let answer = control_plane.wait_ack(&type_url, version, None, PATIENCE).await;
        let error = answer.expect("an answer").error.unwrap_or_default();
        assert!(error.contains(path) && error.contains(&name), "{type_url}: {error:?}");
        mesh.assert_served().await;
        let version = control_plane.put([resource(&good)]);
        let answer = control_plane.wait_ack(&type_url, version, None, PATIENCE).await;
        assert_eq!(answer.expect("an answer").error, None, "{type_url}");
        mesh.assert_served().await;
    }
    assert_eq!(sidecar.stat("cluster_manager.cds.update_rejected"), 1);
    assert_eq!(sidecar.stat("listener_manager.lds.update_rejected"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_resources_are_refused_over_state_of_the_world() {
    bad_resources_are_refused_and_the_last_good_ones_kept("GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_resources_are_refused_over_delta() {
    bad_resources_are_refused_and_the_last_good_ones_kept("DELTA_GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_removed_before_it_was_warm_counts_as_removed() {
    let mesh = Mesh::new().await;
    let control_plane = mesh.control_plane().await;
    let bootstrap = ads_bootstrap(control_plane.addr(), "DELTA_GRPC");
    let mut sidecars = vec![Sidecar::start(&bootstrap, &[])];
    sidecars.extend(
        envoy().map(|envoy| Sidecar::spawn(&envoy, &bootstrap, &["--service-node", "envoy"])),
    );
    sidecars.iter_mut().for_each(Sidecar::wait_live);
    control_plane.arm(Fault::from(FaultKind::Withhold).on_type(type_url::CLUSTER_LOAD_ASSIGNMENT));
    // Envoy subscribes to clusters on a new stream only when none warms any more.
    let mut cluster = eds_cluster("new");
    let soon = json!({"initial_fetch_timeout": "3s"});
    merge(&mut cluster["eds_cluster_config"]["eds_config"], &soon);
    control_plane.put([resource(&cluster)]);
    for sidecar in &sidecars {
        sidecar.wait_stat("cluster_manager.warming_clusters", 1).await;
    }
    // A server that waits for the ACK of the cluster cannot take it back before, except on a new stream.
    control_plane.delete(type_url::CLUSTER, ["new"]);
    control_plane.drop_streams(None);
    for sidecar in &sidecars {
        sidecar.wait_stat("cluster_manager.warming_clusters", 0).await;
        sidecar.wait_stat("cluster_manager.cluster_removed", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_protobuf_are_refused() {
    let mesh = Mesh::new().await;
    let control_plane = mesh.control_plane().await;
    let _sidecar = Sidecar::start(&ads_bootstrap(control_plane.addr(), "DELTA_GRPC"), &[]);
    control_plane.arm(Fault::from(FaultKind::Malformed).times(1));
    let version = control_plane.put([resource(&cluster("new", Protocol::Http1, &[]))]);
    let answer = control_plane.wait_ack(type_url::CLUSTER, version, None, PATIENCE).await;
    let error = answer.expect("an answer").error.unwrap_or_default();
    assert!(error.contains("new"), "{error:?}");
    mesh.assert_served().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_is_ready_only_when_what_it_waits_for_is_there() {
    let types = [
        type_url::CLUSTER,
        type_url::CLUSTER_LOAD_ASSIGNMENT,
        type_url::LISTENER,
        type_url::ROUTE_CONFIGURATION,
    ];
    for withheld in types {
        let mesh = Mesh::new().await;
        let control_plane = mesh.control_plane().await;
        let fault = control_plane.arm(Fault::from(FaultKind::Withhold).on_type(withheld));
        let bootstrap = ads_bootstrap(control_plane.addr(), "GRPC");
        let mut sidecar = Sidecar::spawn(&pillion(), &bootstrap, &[]);
        let asked = control_plane.wait_until(PATIENCE, |clients| {
            clients.iter().any(|client| client.subscription(withheld).is_some())
        });
        assert!(asked.await, "{withheld}: nobody asked");
        let ready = sidecar.get("/ready");
        assert_eq!((ready.status, ready.body.trim()), (503, "INITIALIZING"), "{withheld}");
        assert!(std::net::TcpStream::connect(mesh.listener).is_err(), "{withheld}");
        control_plane.disarm(fault);
        sidecar.wait_live();
        mesh.assert_served().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_come_within_its_initial_fetch_timeout_is_done_without() {
    let mesh = Mesh::new().await;
    let [mut cluster, endpoints, mut listener, routes] = mesh.resources();
    let soon = json!({"initial_fetch_timeout": "0.2s"});
    merge(&mut cluster["eds_cluster_config"]["eds_config"], &soon);
    let hcm = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    merge(&mut hcm["rds"]["config_source"], &soon);
    let control_plane = control_plane(&[&cluster, &endpoints, &listener, &routes]).await;
    for type_url in [type_url::CLUSTER_LOAD_ASSIGNMENT, type_url::ROUTE_CONFIGURATION] {
        control_plane.arm(Fault::from(FaultKind::Withhold).on_type(type_url));
    }
    let sidecar = Sidecar::start(&ads_bootstrap(control_plane.addr(), "GRPC"), &[]);
    assert_eq!(sidecar.stat("cluster.up.init_fetch_timeout"), 1);
    let mut connection = Connection::must_open(mesh.listener, Protocol::Http1).await;
    assert_eq!(connection.get("/").await.expect("an answer").status, 404);
    control_plane.clear_faults();
    sidecar.wait_stat("cluster.up.membership_total", 1).await;
    sidecar.wait_stat("http.ingress.rds.routes.update_success", 1).await;
    assert_eq!(connection.get("/").await.expect("an answer").body, "up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_is_slow_and_drops_streams_is_followed_in_the_end() {
    let mesh = Mesh::new().await;
    let control_plane = mesh.control_plane().await;
    control_plane.arm(FaultKind::Delay { millis: 50 });
    control_plane.arm(Fault::from(FaultKind::RefuseStream).times(1));
    control_plane.arm(Fault::from(FaultKind::DropStream).times(2));
    let _sidecar = Sidecar::start(&ads_bootstrap(control_plane.addr(), "DELTA_GRPC"), &[]);
    mesh.assert_served().await;
}
