//! Thousands of connections at once.

use std::time::Duration;

use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{cluster, http_listener, static_bootstrap};
use pillion_tests::scenario::{Connection, Protocol, Sidecar, Upstream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::task::JoinSet;

const CONNECTIONS: u64 = 2_000;
/// What each connection needs in this process: the client's end and the server's end behind the sidecar.
const DESCRIPTORS: u64 = 2 * CONNECTIONS + 200;

/// Raises the limit of open files for this process and the sidecar that it starts.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|now| now < DESCRIPTORS) {
        let raised = Rlimit { current: Some(DESCRIPTORS), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).unwrap_or_else(|error| {
            panic!("{DESCRIPTORS} open files are needed (ulimit -n): {error}")
        });
    }
}

async fn open_and_ask(address: std::net::SocketAddr, protocol: Protocol) -> Connection {
    let mut connection = Connection::must_open(address, protocol).await;
    for _ in 0..3 {
        assert_eq!(connection.get("/").await.expect("an answer").body, "up");
    }
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_connections_are_served_and_cost_nothing_while_idle() {
    allow_descriptors();
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let listener = free_address();
    let mut up = cluster("up", Protocol::Http1, &[upstream.address]);
    let limits =
        json!([{"max_connections": 3_000, "max_pending_requests": 3_000, "max_requests": 3_000}]);
    up["circuit_breakers"] = json!({"thresholds": limits});
    let bootstrap = static_bootstrap(&[http_listener(listener, "up", &json!({}))], &[up]);
    let sidecar = Sidecar::start(&bootstrap, &[]);

    let mut alone = Connection::must_open(listener, Protocol::Http1).await;
    let cpu_alone = cpu_of_requests(&sidecar, &mut alone).await;
    let mut opening = JoinSet::new();
    for number in 0..CONNECTIONS {
        let protocol = if number % 4 == 0 { Protocol::Http2 } else { Protocol::Http1 };
        opening.spawn(open_and_ask(listener, protocol));
    }
    let kept = opening.join_all().await;
    assert_eq!(kept.len() as u64, CONNECTIONS);
    assert!(kept.iter().all(|connection| !connection.is_closed()));
    sidecar.wait_stat("http.ingress.downstream_cx_active", CONNECTIONS + 1).await;
    assert_eq!(sidecar.stat("http.ingress.downstream_rq_2xx"), 3 * CONNECTIONS + REQUESTS);

    let cpu_in_company = cpu_of_requests(&sidecar, &mut alone).await;
    assert!(
        cpu_in_company <= 2 * cpu_alone + Duration::from_millis(100),
        "{REQUESTS} requests took {cpu_alone:?} of CPU, and {cpu_in_company:?} beside idle connections"
    );
    drop(kept);
    sidecar.wait_stat("http.ingress.downstream_cx_active", 1).await;
}

const REQUESTS: u64 = 500;

/// The CPU time that the sidecar takes for some requests on one connection.
async fn cpu_of_requests(sidecar: &Sidecar, connection: &mut Connection) -> Duration {
    let before = sidecar.cpu();
    for _ in 0..REQUESTS {
        assert_eq!(connection.get("/").await.expect("an answer").status, 200);
    }
    sidecar.cpu() - before
}
