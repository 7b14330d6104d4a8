//! The configuration changes over ADS while clients send requests: none of them may fail, and connections that the change does
//! not concern stay open.

use std::net::SocketAddr;

use control_plane_mock::{ControlPlane, Version};
use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{
    ads_bootstrap, control_plane, eds_cluster, endpoints_of, merge, rds_listener, resource, routes,
};
use pillion_tests::scenario::{Load, PATIENCE, Protocol, Report, Sidecar, Upstream};
use proto::type_url;
use serde_json::{Value, json};

/// Clients of each protocol.
const CLIENTS: usize = 8;

/// A sidecar in front of three servers, with its control plane, under load. All of its requests go to the cluster `a`, which has
/// the first server for its endpoint; `b` has the second one.
struct Scene {
    control_plane: ControlPlane,
    sidecar: Sidecar,
    upstreams: [Upstream; 3],
    listener: SocketAddr,
    load: Load,
}

impl Scene {
    async fn start(api_type: &str) -> Scene {
        let upstreams = [
            Upstream::start("one", Protocol::Http1).await,
            Upstream::start("two", Protocol::Http1).await,
            Upstream::start("three", Protocol::Http1).await,
        ];
        let listener = free_address();
        let control_plane = control_plane(&[
            &eds_cluster("a"),
            &eds_cluster("b"),
            &endpoints_of("a", &[upstreams[0].address]),
            &endpoints_of("b", &[upstreams[1].address]),
            &rds_listener(listener),
            &routes("a"),
        ])
        .await;
        let sidecar = Sidecar::start(
            &ads_bootstrap(control_plane.addr(), api_type),
            &["--drain-strategy", "immediate"],
        );
        let load = Load::start(listener, CLIENTS).await;
        Scene { control_plane, sidecar, upstreams, listener, load }
    }

    /// Pushes a resource and waits until it is in use.
    async fn push(&self, value: &Value) {
        let resource = resource(value);
        let type_url = resource.type_url().to_owned();
        let version = self.control_plane.put([resource]);
        self.acknowledged(&type_url, version).await;
    }

    async fn remove(&self, type_url: &str, name: &str) {
        let version = self.control_plane.delete(type_url, [name]);
        self.acknowledged(type_url, version).await;
    }

    async fn acknowledged(&self, type_url: &str, version: Version) {
        let answer = self.control_plane.wait_ack(type_url, version, None, PATIENCE).await;
        let answer = answer.unwrap_or_else(|error| panic!("{type_url}: {error}"));
        assert_eq!(answer.error, None, "{type_url}");
    }

    /// Ends the load, of which nothing may have failed.
    async fn end(self) -> Report {
        let report = self.load.stop().await;
        assert!(report.failures.is_empty(), "{report:?}");
        assert_eq!(self.sidecar.stat("http.ingress.downstream_rq_5xx"), 0);
        report
    }

    /// [`Scene::end`] where every client must have kept its first connection.
    async fn end_with_all_connections(self) {
        let report = self.end().await;
        assert_eq!(report.connections, 2 * CLIENTS as u64, "{report:?}");
    }
}

async fn route_tables_are_swapped(api_type: &str) {
    let scene = Scene::start(api_type).await;
    for swap in 1..=200 {
        scene.push(&routes(if swap % 2 == 0 { "a" } else { "b" })).await;
    }
    assert_eq!(scene.sidecar.stat("http.ingress.rds.routes.update_success"), 201);
    scene.end_with_all_connections().await;
}

async fn endpoints_come_and_go(api_type: &str) {
    let scene = Scene::start(api_type).await;
    let [one, two, three] = scene.upstreams.each_ref().map(|upstream| upstream.address);
    for _ in 0..20 {
        for endpoints in [&[one, two][..], &[two], &[two, three], &[one]] {
            scene.push(&endpoints_of("a", endpoints)).await;
            scene.load.serve_more(20).await;
        }
    }
    for upstream in &scene.upstreams {
        assert!(upstream.requests() > 0);
    }
    scene.end_with_all_connections().await;
}

async fn a_cluster_changes_and_warms_anew(api_type: &str) {
    let scene = Scene::start(api_type).await;
    for seconds in 6..36 {
        let mut cluster = eds_cluster("a");
        merge(&mut cluster, &json!({"connect_timeout": format!("{seconds}s")}));
        scene.push(&cluster).await;
        scene.load.serve_more(20).await;
    }
    assert_eq!(scene.sidecar.stat("cluster_manager.cluster_modified"), 30);
    scene.end_with_all_connections().await;
}

async fn a_listener_is_updated_in_place(api_type: &str) {
    let scene = Scene::start(api_type).await;
    for number in 1..=20 {
        let mut listener = rds_listener(scene.listener);
        let chains = listener["filter_chains"].as_array_mut().expect("it has one");
        let mut other = chains[0].clone();
        let only = json!({"name": "other", "filter_chain_match": {"source_ports": [number]}});
        merge(&mut other, &only);
        chains.push(other);
        scene.push(&listener).await;
        scene.load.serve_more(20).await;
    }
    assert_eq!(scene.sidecar.stat("listener_manager.listener_in_place_updated"), 20);
    scene.end_with_all_connections().await;
}

async fn a_listener_is_updated_as_a_whole(api_type: &str) {
    let scene = Scene::start(api_type).await;
    for number in 1..=20 {
        let mut listener = rds_listener(scene.listener);
        merge(&mut listener, &json!({"per_connection_buffer_limit_bytes": 100_000 + number}));
        scene.push(&listener).await;
        scene.load.serve_more(20).await;
    }
    assert_eq!(scene.sidecar.stat("listener_manager.listener_modified"), 20);
    let report = scene.load.stop().await;
    // Clients were asked to come again on another connection.
    assert!(report.connections > 2 * CLIENTS as u64, "{report:?}");
    assert!(report.failures.is_empty(), "{report:?}");
    let processed: u64 = scene.upstreams.iter().map(Upstream::requests).sum();
    assert_eq!(processed, report.requests);
}

async fn others_are_removed_and_added(api_type: &str) {
    let scene = Scene::start(api_type).await;
    let other = rds_listener(free_address());
    let name = other["name"].as_str().expect("it has one").to_owned();
    scene.push(&routes("b")).await;
    for _ in 0..10 {
        scene.push(&other).await;
        scene.remove(type_url::LISTENER, &name).await;
        scene.remove(type_url::CLUSTER, "a").await;
        scene.push(&eds_cluster("a")).await;
        scene.sidecar.wait_stat("cluster_manager.warming_clusters", 0).await;
        scene.load.serve_more(20).await;
    }
    scene.push(&routes("a")).await;
    assert_eq!(scene.sidecar.stat("listener_manager.listener_removed"), 10);
    assert_eq!(scene.sidecar.stat("cluster_manager.cluster_removed"), 10);
    scene.end_with_all_connections().await;
}

/// Each scenario over both protocols.
macro_rules! over_both_protocols {
    ($($scenario:ident)*) => {
        mod state_of_the_world {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::$scenario("GRPC").await;
            })*
        }
        mod delta {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::$scenario("DELTA_GRPC").await;
            })*
        }
    };
}

over_both_protocols! {
    route_tables_are_swapped
    endpoints_come_and_go
    a_cluster_changes_and_warms_anew
    a_listener_is_updated_in_place
    a_listener_is_updated_as_a_whole
    others_are_removed_and_added
}
