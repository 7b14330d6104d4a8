//! The same static file and the same ADS resources on Envoy and on Pillion give the same answers.

use std::net::SocketAddr;
use std::path::Path;

use pillion_tests::programs::{envoy, free_address, pillion};
use pillion_tests::scenario::config::{
    ads_bootstrap, cluster, control_plane, eds_cluster, endpoints_of, http_listener, merge,
    rds_listener, resource, routes, static_bootstrap,
};
use pillion_tests::scenario::{Answer, Connection, Protocol, Sidecar, Upstream, empty};
use serde_json::{Value, json};

/// A route table with one of each kind.
fn table() -> Value {
    let mut table = routes("up");
    let to = |path: &str, action: Value| {
        let mut route = json!({"match": {"path": path}});
        merge(&mut route, &action);
        route
    };
    let route = |action: Value| json!({"route": action});
    table["virtual_hosts"][0]["routes"] = json!([
        to("/a", route(json!({"cluster": "up"}))),
        to("/rewritten", route(json!({"cluster": "up", "prefix_rewrite": "/bytes/3"}))),
        to("/absent", route(json!({"cluster": "absent"}))),
        to("/empty", route(json!({"cluster": "empty"}))),
        to("/moved", json!({"redirect": {"path_redirect": "/a"}})),
        to("/direct", json!({"direct_response": {"status": 418, "body": {"inline_string": "hi"}}})),
    ]);
    table
}

const PATHS: [&str; 7] =
    ["/a", "/rewritten", "/absent", "/empty", "/moved", "/direct", "/no/route"];

/// What the program says to each path over each protocol: the status, the body and the headers that are no matter of time and place.
async fn answers(listener: SocketAddr) -> Vec<String> {
    let mut all = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut connection = Connection::must_open(listener, protocol).await;
        for path in PATHS {
            let response = connection.send("GET", path, &[], empty()).await.expect("a head");
            let mut answer = Answer::read(response).await.expect("a body");
            for variable in ["date", "server", "x-envoy-upstream-service-time", "location"] {
                answer.headers.remove(variable);
            }
            let mut headers: Vec<_> = answer.headers.iter().collect();
            headers.sort_by_key(|(name, _)| name.as_str());
            let Answer { status, body, .. } = &answer;
            all.push(format!("{protocol:?} {path}: {status} {headers:?} {body:?}"));
        }
    }
    all
}

/// Both programs, or only Pillion, which the test then says.
fn programs() -> Vec<std::path::PathBuf> {
    let envoy = envoy();
    if envoy.is_none() {
        eprintln!("NOT RUN beside Envoy, which is not installed");
    }
    std::iter::once(pillion()).chain(envoy).collect()
}

async fn start(program: &Path, bootstrap: &Value, listener: SocketAddr) -> Vec<String> {
    let mut sidecar = Sidecar::spawn(program, bootstrap, &["--service-node", &node(listener)]);
    sidecar.wait_live();
    answers(listener).await
}

/// Each program has a listener, and so a view of its own.
fn node(listener: SocketAddr) -> String {
    format!("node-{}", listener.port())
}

fn assert_same(answers: &[Vec<String>]) {
    assert_eq!(answers[0].len(), 2 * PATHS.len());
    assert!(answers[0].iter().any(|answer| answer.contains("418")));
    for other in &answers[1..] {
        assert_eq!(&answers[0], other, "left: Pillion, right: Envoy");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_file_gives_the_same_answers() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let clusters = [
        cluster("up", Protocol::Http1, &[upstream.address]),
        cluster("empty", Protocol::Http1, &[]),
    ];
    let mut all = Vec::new();
    for program in programs() {
        let listener = free_address();
        let mut table = table();
        merge(&mut table, &json!({"validate_clusters": false}));
        let listeners = [http_listener(listener, "up", &json!({"route_config": table}))];
        all.push(start(&program, &static_bootstrap(&listeners, &clusters), listener).await);
    }
    assert_same(&all);
}

async fn ads_resources_give_the_same_answers(api_type: &str) {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let control_plane = control_plane(&[
        &eds_cluster("up"),
        &eds_cluster("empty"),
        &endpoints_of("up", &[upstream.address]),
        &endpoints_of("empty", &[]),
        &table(),
    ])
    .await;
    let mut all = Vec::new();
    for program in programs() {
        let listener = free_address();
        control_plane.set_node_view(&node(listener), [resource(&rds_listener(listener))]);
        let bootstrap = ads_bootstrap(control_plane.addr(), api_type);
        all.push(start(&program, &bootstrap, listener).await);
    }
    assert_same(&all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ads_resources_give_the_same_answers_over_state_of_the_world() {
    ads_resources_give_the_same_answers("GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ads_resources_give_the_same_answers_over_delta() {
    ads_resources_give_the_same_answers("DELTA_GRPC").await;
}
