//! A process takes over from another one under load: no connection is refused and no request fails; and what happens when one
//! of both dies, hangs or is none of the other's kind.

mod failures;

use std::net::SocketAddr;

use pillion_tests::programs::{free_address, free_port, http_get, pillion};
use pillion_tests::scenario::config::{cluster, http_listener, static_bootstrap, tcp_listener};
use pillion_tests::scenario::{
    Answer, Connection, Load, Protocol, Sidecar, Upstream, empty, until,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server with a proxy in front of it, which listens for HTTP and for TCP.
struct Scene {
    upstream: Upstream,
    http: SocketAddr,
    tcp: SocketAddr,
    admin: SocketAddr,
    base_id: String,
    bootstrap: Value,
}

impl Scene {
    async fn new() -> Scene {
        let upstream = Upstream::start("up", Protocol::Http1).await;
        let (http, tcp) = (free_address(), free_address());
        let listeners = [http_listener(http, "up", &json!({})), tcp_listener(tcp, "up")];
        let clusters = [cluster("up", Protocol::Http1, &[upstream.address])];
        let bootstrap = static_bootstrap(&listeners, &clusters);
        let (admin, base_id) = (free_address(), free_port().to_string());
        Scene { upstream, http, tcp, admin, base_id, bootstrap }
    }

    /// Starts the process of an epoch, and does not wait.
    fn spawn(&self, epoch: u32, arguments: &[&str]) -> Sidecar {
        let epoch = epoch.to_string();
        let mut all = vec!["--base-id", &self.base_id, "--restart-epoch", &epoch, "-l", "info"];
        all.extend(arguments);
        Sidecar::spawn_at(self.admin, &pillion(), &self.bootstrap, &all)
    }

    /// Starts the process of an epoch and waits until it has taken over.
    async fn start(&self, epoch: u32, arguments: &[&str]) -> Sidecar {
        let mut sidecar = self.spawn(epoch, arguments);
        self.wait_epoch(&mut sidecar, epoch).await;
        sidecar
    }

    async fn wait_epoch(&self, sidecar: &mut Sidecar, epoch: u32) {
        // Until then, the one before answers.
        let here = format!("server.hot_restart_epoch: {epoch}\n");
        let ask = || http_get(self.admin, "/stats?filter=hot_restart_epoch");
        until(&here, || ask().is_ok_and(|answer| answer.body == here)).await;
        sidecar.wait_live();
    }
}

/// The end of the old process comes after two seconds.
const SOON: [&str; 2] = ["--parent-shutdown-time-s", "2"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_is_refused_and_no_request_fails_while_processes_take_over() {
    let scene = Scene::new().await;
    let mut old = scene.start(0, &["--concurrency", "2", "--drain-time-s", "1"]).await;
    let load = Load::start(scene.http, 4).await;
    // Others have other numbers of workers, so that sockets are shared out anew.
    for (epoch, workers) in [(1, "1"), (2, "3")] {
        let flags = ["--concurrency", workers, "--drain-time-s", "1", SOON[0], SOON[1]];
        let new = scene.start(epoch, &flags).await;
        load.serve_more(200).await;
        assert!(old.wait_exit().success());
        load.serve_more(200).await;
        old = new;
    }
    let report = load.stop().await;
    assert!(report.failures.is_empty(), "{report:?}");
    // Every client had to connect again to reach the next process.
    assert!(report.connections >= 3 * 8, "{report:?}");
    for counter in ["http.ingress.downstream_rq_2xx", "cluster.up.upstream_rq_200"] {
        old.wait_stat(counter, report.requests).await;
    }
    assert_eq!(old.stat("server.hot_restart_generation"), 3);
    assert_eq!(old.stat("server.parent_connections"), 0);
    let info: Value = serde_json::from_str(&old.get("/server_info").body).expect("JSON");
    assert_eq!(info["command_line_options"]["restart_epoch"], 2);
    assert_eq!(info["hot_restart_version"], "pillion.1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_goes_on_in_the_old_process() {
    let scene = Scene::new().await;
    let mut old = scene.start(0, &["--drain-strategy", "immediate"]).await;
    let mut session = TcpStream::connect(scene.tcp).await.expect("a listener");
    session.write_all(b"GET /hold HTTP/1.0\r\n\r\n").await.expect("write");
    session.read_u8().await.expect("the beginning of an answer");
    let mut streams = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut connection = Connection::must_open(scene.http, protocol).await;
        let response = connection.send("GET", "/hold", &[], empty()).await.expect("a head");
        streams.push((connection, response));
    }
    let new = scene.start(1, &["--drain-strategy", "immediate"]).await;
    until("the old process's connections", || new.stat("server.parent_connections") == 3).await;
    // What comes now comes to the new process.
    let mut connection = Connection::must_open(scene.http, Protocol::Http1).await;
    assert!(!connection.get("/").await.expect("an answer").closes());
    assert!(new.stat("server.total_connections") >= 4);
    scene.upstream.gate.open();
    for (_connection, response) in streams {
        assert_eq!(Answer::read(response).await.expect("a whole response").body, "first last");
    }
    let mut rest = String::new();
    session.read_to_string(&mut rest).await.expect("the rest");
    assert!(rest.ends_with("first last"), "{rest:?}");
    drop(session);
    // Nobody is left, so the old process does not wait for its time to be up.
    assert!(old.wait_exit().success());
    assert_eq!(connection.get("/").await.expect("an answer").body, "up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_process_ends_with_the_new_one() {
    let scene = Scene::new().await;
    let mut old = scene.start(0, &[]).await;
    let _kept = Connection::must_open(scene.http, Protocol::Http1).await;
    let mut new = scene.start(1, &[]).await;
    new.process.signal("TERM").expect("kill is there");
    assert!(new.wait_exit().success());
    assert!(old.wait_exit().success());
}
