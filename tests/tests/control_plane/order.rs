//! In which order Envoy and Pillion say what they have to say to a control plane. A control plane takes an ACK of clusters as the
//! sign that routes to them may follow.

use std::path::Path;
use std::sync::Arc;

use control_plane_mock::{ControlPlane, Event, EventKind, Events, Fault, FaultKind};
use pillion_tests::programs::{envoy, free_address, pillion};
use pillion_tests::scenario::config::{
    ads_bootstrap, control_plane, eds_cluster, endpoints_of, merge, rds_listener, resource, routes,
};
use pillion_tests::scenario::{PATIENCE, Protocol, Sidecar, Upstream};
use proto::type_url;
use serde_json::{Value, json};

/// What a client said, and what it was told, from now on.
struct Conversation(Events);

impl Conversation {
    /// Everything up to the first line that is `last`.
    async fn up_to(&mut self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let heard = tokio::time::timeout(PATIENCE, async {
            while let Some(event) = self.0.next().await {
                lines.extend(line(&event));
                if lines.last().is_some_and(|line| line == last) {
                    return;
                }
            }
        });
        assert!(heard.await.is_ok(), "no {last:?} in {lines:#?}");
        lines
    }
}

/// An event as a line; none for what differs from program to program without a meaning.
fn line(event: &Arc<Event>) -> Option<String> {
    let api = match event.type_url.as_str() {
        type_url::CLUSTER => "CDS",
        type_url::CLUSTER_LOAD_ASSIGNMENT => "EDS",
        type_url::LISTENER => "LDS",
        type_url::ROUTE_CONFIGURATION => "RDS",
        _ => return None,
    };
    match &event.kind {
        EventKind::Subscribed { added, removed } => {
            Some(format!("{api} subscribed +{} -{}", added.join(","), removed.join(",")))
        }
        EventKind::Pushed { removed, .. } if removed.is_empty() => Some(format!("{api} pushed")),
        EventKind::Pushed { removed, .. } => Some(format!("{api} pushed -{}", removed.join(","))),
        EventKind::Acked { .. } => Some(format!("{api} acked")),
        EventKind::Nacked { .. } => Some(format!("{api} nacked")),
        _ => None,
    }
}

/// What a scenario heard, from each program that is there.
async fn programs_agree<F: Future<Output = Vec<String>>>(
    hear: impl Fn(Scene) -> F,
    api_type: &str,
) {
    let ours = hear(Scene::start(&pillion(), api_type).await).await;
    let Some(envoy) = envoy() else {
        return eprintln!("NOT RUN beside Envoy, which is not installed");
    };
    let theirs = hear(Scene::start(&envoy, api_type).await).await;
    assert_eq!(ours, theirs, "left: Pillion, right: Envoy");
}

/// A live sidecar with one cluster, `up`.
struct Scene {
    control_plane: ControlPlane,
    sidecar: Sidecar,
    upstream: Upstream,
}

impl Scene {
    async fn start(program: &Path, api_type: &str) -> Scene {
        let upstream = Upstream::start("up", Protocol::Http1).await;
        let control_plane = control_plane(&[
            &eds_cluster("up"),
            &endpoints_of("up", &[upstream.address]),
            &rds_listener(free_address()),
            &routes("up"),
        ])
        .await;
        let bootstrap = ads_bootstrap(control_plane.addr(), api_type);
        let mut sidecar = Sidecar::spawn(program, &bootstrap, &[]);
        sidecar.wait_live();
        let settled = control_plane.wait_until(PATIENCE, |clients| {
            let mut all = clients.iter().flat_map(|client| &client.subscriptions);
            all.all(|subscription| subscription.settled)
        });
        assert!(settled.await);
        Scene { control_plane, sidecar, upstream }
    }

    fn put(&self, value: &Value) {
        self.control_plane.put([resource(value)]);
    }
}

/// Clusters are acknowledged when they are warm, even though the routes to them were pushed with them.
async fn clusters_are_acked_when_warm(scene: Scene) -> Vec<String> {
    let mut conversation = Conversation(scene.control_plane.events());
    let fault = Fault::from(FaultKind::Withhold).on_type(type_url::CLUSTER_LOAD_ASSIGNMENT);
    let fault = scene.control_plane.arm(fault);
    scene.put(&eds_cluster("new"));
    let mut lines = conversation.up_to("EDS subscribed +new -").await;
    // What else it has to say, it would say now.
    scene.put(&routes("new"));
    lines.extend(conversation.up_to("RDS acked").await);
    scene.put(&endpoints_of("new", &[scene.upstream.address]));
    scene.control_plane.disarm(fault);
    lines.extend(conversation.up_to("EDS acked").await);
    scene.sidecar.wait_stat("cluster_manager.warming_clusters", 0).await;
    lines
}

/// The initial fetch timeout ends the wait for endpoints, and so the wait for the ACK.
async fn a_timeout_lets_the_ack_go(scene: Scene) -> Vec<String> {
    let mut conversation = Conversation(scene.control_plane.events());
    let mut cluster = eds_cluster("new");
    let soon = json!({"initial_fetch_timeout": "0.3s"});
    merge(&mut cluster["eds_cluster_config"]["eds_config"], &soon);
    scene
        .control_plane
        .arm(Fault::from(FaultKind::Withhold).on_type(type_url::CLUSTER_LOAD_ASSIGNMENT));
    scene.put(&cluster);
    let lines = conversation.up_to("CDS acked").await;
    assert_eq!(scene.sidecar.stat("cluster.new.init_fetch_timeout"), 1);
    lines
}

/// What the server pushes meanwhile comes after the ACK, since it waits for it.
async fn many_updates_come_while_a_cluster_warms(scene: Scene) -> Vec<String> {
    let mut conversation = Conversation(scene.control_plane.events());
    let fault = Fault::from(FaultKind::Withhold).on_type(type_url::CLUSTER_LOAD_ASSIGNMENT);
    let fault = scene.control_plane.arm(fault);
    let mut lines = Vec::new();
    scene.put(&eds_cluster("new"));
    lines.extend(conversation.up_to("EDS subscribed +new -").await);
    scene.put(&eds_cluster("newer"));
    scene.put(&endpoints_of("new", &[scene.upstream.address]));
    scene.put(&endpoints_of("newer", &[scene.upstream.address]));
    scene.control_plane.disarm(fault);
    lines.extend(conversation.up_to("EDS subscribed +newer -").await);
    scene.sidecar.wait_stat("cluster_manager.active_clusters", 4).await;
    lines
}

macro_rules! over_both_protocols {
    ($($scenario:ident)*) => {
        mod state_of_the_world {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::programs_agree(super::$scenario, "GRPC").await;
            })*
        }
        mod delta {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::programs_agree(super::$scenario, "DELTA_GRPC").await;
            })*
        }
    };
}

over_both_protocols! {
    clusters_are_acked_when_warm
    a_timeout_lets_the_ack_go
    many_updates_come_while_a_cluster_warms
}
