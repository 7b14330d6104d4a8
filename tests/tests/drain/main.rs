//! The end of a process, and of its listeners: what is under way finishes.

use std::net::{SocketAddr, TcpStream};

use http_body_util::BodyExt;
use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{cluster, http_listener, static_bootstrap, tcp_listener};
use pillion_tests::scenario::{Answer, Connection, Protocol, Sidecar, Upstream, empty, until};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A sidecar in front of one server.
struct Scene {
    sidecar: Sidecar,
    upstream: Upstream,
    listener: SocketAddr,
}

impl Scene {
    async fn start(arguments: &[&str]) -> Scene {
        let upstream = Upstream::start("up", Protocol::Http1).await;
        let listener = free_address();
        let mut http = http_listener(listener, "up", &json!({}));
        http["traffic_direction"] = json!("INBOUND");
        let clusters = [cluster("up", Protocol::Http1, &[upstream.address])];
        let sidecar = Sidecar::start(&static_bootstrap(&[http], &clusters), arguments);
        Scene { sidecar, upstream, listener }
    }

    /// Asks the process to end and waits until it says so.
    async fn terminate(&self) {
        self.sidecar.process.signal("TERM").expect("kill is there");
        until("/ready to fail", || self.sidecar.get("/ready").status == 503).await;
    }

    async fn connect(&self, protocol: Protocol) -> Connection {
        Connection::must_open(self.listener, protocol).await
    }

    /// How many requests are under way.
    async fn wait_active(&self, requests: u64) {
        self.sidecar.wait_stat("http.ingress.downstream_rq_active", requests).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_under_way_finish_before_the_process_ends() {
    let mut scene = Scene::start(&[]).await;
    let mut streams = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut connection = scene.connect(protocol).await;
        let response = connection.send("GET", "/hold", &[], empty()).await.expect("a head");
        streams.push((connection, response));
    }
    let mut second = scene.connect(Protocol::Http2).await;
    let upload = second.send("POST", "/hold", &[], empty()).await.expect("a head");
    streams.push((second, upload));
    scene.terminate().await;
    scene.upstream.gate.open();
    for (_connection, response) in streams {
        let answer = Answer::read(response).await.expect("a whole response");
        assert_eq!(answer.body, "first last");
    }
    assert!(scene.sidecar.wait_exit().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_the_whole_response_before_the_process_ends() {
    const BYTES: usize = 8 << 20;
    let mut scene = Scene::start(&[]).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        if protocol == Protocol::Http2 {
            scene = Scene::start(&[]).await;
        }
        let mut connection = scene.connect(protocol).await;
        let path = format!("/bytes/{BYTES}");
        let response = connection.send("GET", &path, &[], empty()).await.expect("a head");
        scene.terminate().await;
        let answer = Answer::read(response).await.expect("a whole response");
        assert_eq!(answer.body.len(), BYTES, "{protocol:?}");
        assert!(scene.sidecar.wait_exit().success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_clients_are_told_to_go_elsewhere_and_new_connections_are_refused() {
    let mut scene = Scene::start(&[]).await;
    let mut connection = scene.connect(Protocol::Http2).await;
    let response = connection.send("GET", "/hold", &[], empty()).await.expect("a head");
    scene.terminate().await;
    // Those that are sent before the client knows are served still.
    while let Ok(answer) = connection.get("/").await {
        assert_eq!(answer.body, "up");
    }
    until("a refused connection", || TcpStream::connect(scene.listener).is_err()).await;
    scene.upstream.gate.open();
    assert_eq!(Answer::read(response).await.expect("a whole response").body, "first last");
    assert!(scene.sidecar.wait_exit().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_cuts_what_is_under_way() {
    let mut scene = Scene::start(&[]).await;
    let mut connection = scene.connect(Protocol::Http1).await;
    let response = connection.send("GET", "/hold", &[], empty()).await.expect("a head");
    scene.terminate().await;
    scene.sidecar.process.signal("TERM").expect("kill is there");
    assert!(Answer::read(response).await.is_err());
    assert!(scene.sidecar.wait_exit().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drain_time_ends_what_is_under_way() {
    let mut scene = Scene::start(&["--drain-time-s", "1"]).await;
    let mut connection = scene.connect(Protocol::Http1).await;
    let response = connection.send("GET", "/hold", &[], empty()).await.expect("a head");
    scene.terminate().await;
    assert!(Answer::read(response).await.is_err());
    assert!(scene.sidecar.wait_exit().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_process_ends_though_connections_are_open() {
    let mut scene = Scene::start(&[]).await;
    let mut kept = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut connection = scene.connect(protocol).await;
        assert_eq!(connection.get("/").await.expect("an answer").body, "up");
        kept.push(connection);
    }
    scene.sidecar.process.signal("TERM").expect("kill is there");
    assert!(scene.sidecar.wait_exit().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_session_goes_on_until_its_peers_end_it() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let listener = free_address();
    let clusters = [cluster("up", Protocol::Http1, &[upstream.address])];
    let bootstrap = static_bootstrap(&[tcp_listener(listener, "up")], &clusters);
    let mut sidecar = Sidecar::start(&bootstrap, &[]);
    let mut stream = tokio::net::TcpStream::connect(listener).await.expect("a listener");
    stream.write_all(b"GET /hold HTTP/1.0\r\n\r\n").await.expect("write");
    let mut got = [0; 1];
    stream.read_exact(&mut got).await.expect("the beginning of an answer");
    sidecar.process.signal("TERM").expect("kill is there");
    until("/ready to fail", || sidecar.get("/ready").status == 503).await;
    upstream.gate.open();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.expect("the rest");
    assert!(rest.ends_with("first last"), "{rest:?}");
    drop(stream);
    assert!(sidecar.wait_exit().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_health_check_closes_connections_after_their_response() {
    let scene = Scene::start(&[]).await;
    let mut connection = scene.connect(Protocol::Http1).await;
    assert!(!connection.get("/").await.expect("an answer").closes());
    assert_eq!(scene.sidecar.post("/healthcheck/fail").status, 200);
    assert_eq!(scene.sidecar.get("/ready").status, 503);
    assert!(connection.get("/").await.expect("an answer").closes());
    assert_eq!(scene.sidecar.post("/healthcheck/ok").status, 200);
    assert_eq!(scene.sidecar.get("/ready").status, 200);
    let mut connection = scene.connect(Protocol::Http1).await;
    assert!(!connection.get("/").await.expect("an answer").closes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drained_listeners_refuse_connections_and_keep_those_they_have() {
    let scene = Scene::start(&[]).await;
    let mut connection = scene.connect(Protocol::Http1).await;
    let response = connection.send("GET", "/hold", &[], empty()).await.expect("a head");
    assert_eq!(scene.sidecar.post("/drain_listeners?inboundonly").status, 200);
    until("a refused connection", || TcpStream::connect(scene.listener).is_err()).await;
    scene.upstream.gate.open();
    assert_eq!(Answer::read(response).await.expect("a whole response").body, "first last");
    assert_eq!(connection.get("/").await.expect("an answer").body, "up");
    scene.wait_active(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_drain_closes_connections_first_and_listeners_in_the_end() {
    let scene = Scene::start(&["--drain-time-s", "1", "--drain-strategy", "immediate"]).await;
    let mut connection = scene.connect(Protocol::Http1).await;
    let mut response = connection.send("GET", "/hold", &[], empty()).await.expect("a head");
    assert_eq!(scene.sidecar.post("/drain_listeners?graceful").status, 200);
    // Load balancers still send new connections for a while.
    let mut late = scene.connect(Protocol::Http1).await;
    assert!(late.get("/").await.expect("an answer").closes());
    until("a refused connection", || TcpStream::connect(scene.listener).is_err()).await;
    scene.upstream.gate.open();
    let body = response.body_mut().collect().await.expect("a whole response").to_bytes();
    assert_eq!(body, "first last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_taken_for_the_least_time_and_responses_close_them() {
    let mut scene = Scene::start(&["--min-drain-time-s", "1"]).await;
    scene.terminate().await;
    // Load balancers still send new connections for a while.
    let mut late = scene.connect(Protocol::Http1).await;
    assert!(late.get("/").await.expect("an answer").closes());
    let mut told = scene.connect(Protocol::Http2).await;
    assert_eq!(told.get("/").await.expect("an answer").body, "up");
    until("the connection's end", || told.is_closed()).await;
    assert!(scene.sidecar.wait_exit().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gradual_drain_closes_few_connections_at_its_beginning() {
    let scene = Scene::start(&["--drain-time-s", "100000"]).await;
    assert_eq!(scene.sidecar.post("/drain_listeners?graceful").status, 200);
    let mut connection = scene.connect(Protocol::Http1).await;
    for _ in 0..20 {
        assert!(!connection.get("/").await.expect("an answer").closes());
    }
    assert_eq!(scene.sidecar.post("/healthcheck/fail").status, 200);
    assert!(connection.get("/").await.expect("an answer").closes());
}
