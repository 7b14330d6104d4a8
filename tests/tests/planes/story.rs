//! What happens to a mesh whose control plane is somebody else's: it starts, its endpoints move, a cluster takes over from
//! another, a bad resource comes and goes, the listener ends.

use std::net::SocketAddr;
use std::path::Path;

use pillion_tests::programs::{envoy, free_address, pillion};
use pillion_tests::scenario::config::{
    ads_bootstrap, cluster, eds_cluster, endpoints_of, merge, rds_listener, routes,
};
use pillion_tests::scenario::{Connection, Load, PATIENCE, Protocol, Sidecar, Upstream, until};
use proto::type_url;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::plane::{Maker, Plane};

/// The form of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    AdsSotw,
    AdsDelta,
    Sotw,
    Delta,
    Rest,
}

impl Form {
    /// Whether resources come in an order, so that no request may fail.
    fn is_aggregated(self) -> bool {
        matches!(self, Form::AdsSotw | Form::AdsDelta)
    }

    fn bootstrap(self, plane: &Plane) -> Value {
        let api_type = match self {
            Form::AdsSotw | Form::Sotw | Form::Rest => "GRPC",
            Form::AdsDelta | Form::Delta => "DELTA_GRPC",
        };
        let mut bootstrap = ads_bootstrap(plane.streams, api_type);
        if !self.is_aggregated() {
            let source = self.source();
            bootstrap["dynamic_resources"] = json!({"cds_config": source, "lds_config": source});
            let clusters = bootstrap["static_resources"]["clusters"].as_array_mut();
            clusters.expect("a list").push(cluster("rest", Protocol::Http1, &[plane.polls]));
        }
        bootstrap
    }

    /// Where a resource comes from.
    fn source(self) -> Value {
        let grpc = json!([{"envoy_grpc": {"cluster_name": "control_plane"}}]);
        let api = match self {
            Form::AdsSotw | Form::AdsDelta => {
                return json!({"ads": {}, "resource_api_version": "V3"});
            }
            Form::Sotw => json!({"api_type": "GRPC", "grpc_services": grpc}),
            Form::Delta => json!({"api_type": "DELTA_GRPC", "grpc_services": grpc}),
            Form::Rest => {
                json!({"api_type": "REST", "cluster_names": ["rest"], "refresh_delay": "0.05s"})
            }
        };
        let mut source = json!({"api_config_source": api, "resource_api_version": "V3"});
        source["api_config_source"]["transport_api_version"] = json!("V3");
        source
    }
}

/// A proxy, its control plane, and the servers that resources name.
struct Scene {
    form: Form,
    plane: Plane,
    sidecar: Sidecar,
    listener: SocketAddr,
    one: Upstream,
    other: Upstream,
    load: Option<Load>,
    is_pillion: bool,
}

/// Tells the story to Pillion and, where it is there, to Envoy.
pub async fn tell(maker: Maker, form: Form) {
    for program in [pillion()].into_iter().chain(envoy()) {
        eprintln!("{maker:?}, {form:?}, {}", program.display());
        let mut scene = Scene::start(maker, form, &program).await;
        scene.endpoints_move().await;
        scene.a_cluster_takes_over().await;
        scene.a_bad_resource_comes_and_goes().await;
        scene.the_listener_ends().await;
    }
}

impl Scene {
    async fn start(maker: Maker, form: Form, program: &Path) -> Scene {
        let one = Upstream::start("one", Protocol::Http1).await;
        let other = Upstream::start("other", Protocol::Http1).await;
        let listener = free_address();
        let resources = resources(form, listener, "a", one.address);
        let plane = Plane::start(maker, form.is_aggregated(), &resources).await;
        let mut sidecar = Sidecar::spawn(program, &form.bootstrap(&plane), &[]);
        sidecar.wait_live();
        let is_pillion = program == pillion();
        let mut scene =
            Scene { form, plane, sidecar, listener, one, other, load: None, is_pillion };
        scene.wait_served_by("one").await;
        if form.is_aggregated() {
            scene.load = Some(Load::start(listener, 1).await);
        }
        scene
    }

    async fn endpoints_move(&mut self) {
        let resources = resources(self.form, self.listener, "a", self.other.address);
        self.plane.serve("2", &resources).await;
        self.wait_served_by("other").await;
    }

    /// The new cluster comes first, then the route to it, then the old one goes: a server need not wait for the endpoints of a
    /// new cluster before it sends a route.
    async fn a_cluster_takes_over(&mut self) {
        let old = resources(self.form, self.listener, "a", self.other.address);
        let new = resources(self.form, self.listener, "b", self.one.address);
        let with = |all: &[Value], more: &[Value]| [all, more].concat();
        // Every cluster has its endpoints, and they come first.
        self.plane.serve("3", &with(&old, &new[..2])).await;
        self.sidecar.wait_stat("cluster.b.membership_healthy", 1).await;
        self.sidecar.wait_stat("cluster_manager.warming_clusters", 0).await;
        self.plane.serve("4", &with(&new, &old[..2])).await;
        self.wait_served_by("one").await;
        self.plane.serve("5", &new).await;
        self.sidecar.wait_stat("cluster_manager.cluster_removed", 1).await;
        self.wait_ack("5").await;
        if let Some(load) = self.load.take() {
            let report = load.stop().await;
            assert!(report.failures.is_empty(), "{report:?}");
        }
        self.assert_served_by("one").await;
    }

    async fn a_bad_resource_comes_and_goes(&mut self) {
        let good = resources(self.form, self.listener, "b", self.one.address);
        let mut bad = good.clone();
        merge(&mut bad[0], &json!({"connect_timeout": "0s"}));
        self.plane.serve("6", &bad).await;
        // Envoy tells nobody over REST.
        if self.is_pillion || self.form != Form::Rest {
            let refuses = |error: &str| error.contains("timeout") || error.contains("Timeout");
            let nack = self.plane.wait_reply("a NACK of the cluster", |reply| {
                reply.type_url == type_url::CLUSTER && refuses(&reply.error)
            });
            nack.await;
        }
        // Some servers send at once what was just refused.
        let refused = || self.sidecar.stat("cluster_manager.cds.update_rejected") > 0;
        until("a refusal", refused).await;
        self.assert_served_by("one").await;
        let mut good = resources(self.form, self.listener, "b", self.one.address);
        merge(&mut good[0], &json!({"connect_timeout": "4s"}));
        self.plane.serve("7", &good).await;
        self.wait_ack("7").await;
        self.assert_served_by("one").await;
    }

    async fn the_listener_ends(&mut self) {
        self.plane.serve("8", &[]).await;
        self.sidecar.wait_stat("listener_manager.total_listeners_active", 0).await;
        let deaf = async { while TcpStream::connect(self.listener).await.is_ok() {} };
        assert!(tokio::time::timeout(PATIENCE, deaf).await.is_ok());
    }

    async fn wait_ack(&self, version: &str) {
        let what = format!("an ACK of version {version}");
        let ack = self.plane.wait_reply(&what, |reply| {
            reply.type_url == type_url::CLUSTER
                && reply.version == version
                && reply.error.is_empty()
        });
        ack.await;
    }

    async fn assert_served_by(&self, upstream: &str) {
        assert_eq!(served_by(self.listener).await.as_deref(), Some(upstream));
    }

    async fn wait_served_by(&self, upstream: &str) {
        let served = async {
            while served_by(self.listener).await.as_deref() != Some(upstream) {
                tokio::task::yield_now().await;
            }
        };
        let served = tokio::time::timeout(PATIENCE, served).await;
        assert!(served.is_ok(), "{:?}: {upstream} never answered", self.form);
    }
}

/// Which server answers through the listener; none if there is no answer.
async fn served_by(listener: SocketAddr) -> Option<String> {
    let mut connection = Connection::open(listener, Protocol::Http1).await.ok()?;
    let answer = connection.get("/").await.ok()?;
    Some(String::from_utf8_lossy(&answer.body).into_owned())
}

/// A cluster with its endpoints, and a listener with the route to it.
fn resources(form: Form, listener: SocketAddr, name: &str, endpoint: SocketAddr) -> Vec<Value> {
    let source = form.source();
    let mut cluster = eds_cluster(name);
    cluster["eds_cluster_config"]["eds_config"] = source.clone();
    let mut listener = rds_listener(listener);
    let hcm = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    hcm["rds"]["config_source"] = source;
    let typed = |mut value: Value, type_url: &str| {
        value["@type"] = json!(type_url);
        value
    };
    vec![
        typed(cluster, type_url::CLUSTER),
        typed(endpoints_of(name, &[endpoint]), type_url::CLUSTER_LOAD_ASSIGNMENT),
        typed(listener, type_url::LISTENER),
        typed(routes(name), type_url::ROUTE_CONFIGURATION),
    ]
}
