//! The admin interface of a real process.
#![allow(clippy::unwrap_used)]

mod process;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use process::{Proxy, request};

/// A bootstrap with an inbound HTTP listener to `upstream` and an outbound TCP one.
fn bootstrap(admin: &str, upstream: u16) -> String {
    format!(
        r#"
node: {{id: test, cluster: tests}}
admin: {{address: {admin}}}
static_resources:
  clusters:
  - name: local
    connect_timeout: 1s
    type: STATIC
    load_assignment:
      cluster_name: local
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
  listeners:
  - name: inbound
    traffic_direction: INBOUND
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: inbound
          route_config:
            name: to_local
            virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: local}}}}]}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  - name: outbound
    traffic_direction: OUTBOUND
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: outbound
          cluster: local
"#
    )
}

const ANY_PORT: &str = "{socket_address: {address: 127.0.0.1, port_value: 0}}";

fn start() -> Proxy {
    Proxy::start(&bootstrap(ANY_PORT, 9))
}

/// Takes a connection with a request without a body.
fn accept_request(upstream: &TcpListener) -> TcpStream {
    let (mut peer, _) = upstream.accept().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    peer
}

#[test]
fn tells_what_agents_ask() {
    let proxy = start();
    let query = "/stats?usedonly&filter=^(server.state|listener_manager.workers_started)$";
    assert_eq!(proxy.get(query).body, "listener_manager.workers_started: 1\nserver.state: 0\n");
    let ready = proxy.get("/ready");
    assert_eq!((ready.status, ready.body.as_str()), (200, "LIVE\n"));
    assert_eq!(ready.header("content-type"), "text/plain; charset=UTF-8");
    let info = proxy.json("/server_info");
    assert_eq!((&info["state"], &info["node"]["id"]), (&"LIVE".into(), &"test".into()));
    assert_eq!(info["version"].as_str().unwrap().split('/').count(), 5);
    assert_eq!(info["command_line_options"]["concurrency"], 1);
    assert!(proxy.get("/stats/prometheus").body.contains("# TYPE envoy_server_live gauge\n"));
    assert!(proxy.get("/clusters").body.contains("local::127.0.0.1:9::health_flags::healthy\n"));
    assert_eq!(proxy.json("/clusters?format=json")["cluster_statuses"][0]["name"], "local");
    assert!(proxy.get("/listeners").body.starts_with("inbound::127.0.0.1:"));
    assert_eq!(proxy.json("/listeners?format=json")["listener_statuses"][1]["name"], "outbound");
    assert_ne!(proxy.json("/memory")["total_physical_bytes"], "0");
    assert_eq!(proxy.json("/init_dump"), serde_json::json!({}));
    assert!(proxy.get("/help").body.contains("/quitquitquit (POST)"));
}

#[test]
fn dumps_the_resources_that_serve() {
    let proxy = start();
    let names = |resource: &str, inner: &str| -> Vec<serde_json::Value> {
        let dump = proxy.json(&format!("/config_dump?resource={resource}"));
        let configs = dump["configs"].as_array().unwrap();
        configs.iter().map(|config| config[inner]["name"].clone()).collect()
    };
    assert_eq!(names("static_clusters", "cluster"), ["local"]);
    assert_eq!(names("static_listeners", "listener"), ["inbound", "outbound"]);
    assert_eq!(names("static_route_configs", "route_config"), ["to_local"]);
    assert_eq!(proxy.get("/config_dump?resource=none").status, 404);
}

#[test]
fn changes_need_post() {
    let proxy = start();
    let changes = [
        "/quitquitquit",
        "/healthcheck/fail",
        "/drain_listeners",
        "/reset_counters",
        "/logging?level=off",
    ];
    for path in changes {
        let answer = proxy.get(path);
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.body, "Method GET not allowed, POST required.");
    }
    assert_eq!(proxy.get("/ready").status, 200);
    assert_eq!(proxy.post("/ready").status, 200);
    assert_eq!(proxy.get("/nowhere").status, 404);
    assert!(proxy.post("/logging?upstream=debug").body.contains("  upstream: debug\n"));
    assert_eq!(proxy.post("/logging?upstream=loud").status, 400);
    assert_eq!(proxy.post("/reopen_logs").body, "OK\n");
}

#[test]
fn a_failed_health_check_can_be_taken_back() {
    let proxy = start();
    assert_eq!(proxy.post("/healthcheck/fail").body, "OK\n");
    let ready = proxy.get("/ready");
    assert_eq!((ready.status, ready.body.as_str()), (503, "DRAINING\n"));
    assert_eq!(proxy.json("/server_info")["state"], "DRAINING");
    proxy.post("/healthcheck/ok");
    assert_eq!(proxy.get("/ready").status, 200);
}

#[test]
fn counters_start_again_from_zero() {
    let proxy = start();
    let counter = "/stats?filter=^listener_manager.listener_added$";
    assert_eq!(proxy.get(counter).body, "listener_manager.listener_added: 2\n");
    proxy.post("/reset_counters");
    assert_eq!(proxy.get(counter).body, "listener_manager.listener_added: 0\n");
}

#[test]
fn inbound_listeners_are_drained_alone() {
    let proxy = start();
    proxy.post("/drain_listeners?inboundonly");
    proxy.wait("the inbound listener to close", || {
        TcpStream::connect(proxy.listener("inbound")).is_err()
    });
    assert!(TcpStream::connect(proxy.listener("outbound")).is_ok());
    assert_eq!(proxy.get("/ready").status, 200);
}

#[test]
fn a_graceful_drain_accepts_and_closes_after_each_response() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&bootstrap(ANY_PORT, upstream.local_addr().unwrap().port()));
    proxy.post("/drain_listeners?graceful");
    let mut client = TcpStream::connect(proxy.listener("inbound")).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut peer = accept_request(&upstream);
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
}

#[test]
fn a_terminated_process_is_not_ready_and_finishes_its_requests() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut proxy = Proxy::start(&bootstrap(ANY_PORT, upstream.local_addr().unwrap().port()));
    let mut client = TcpStream::connect(proxy.listener("inbound")).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut peer = accept_request(&upstream);

    proxy.terminate();
    proxy.wait("a draining process", || proxy.get("/ready").body == "DRAINING\n");
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(
        response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("done"),
        "{response}"
    );
    assert!(proxy.ended().success());
}

#[test]
fn quitquitquit_ends_the_process() {
    let mut proxy = start();
    assert_eq!(proxy.post("/quitquitquit").body, "OK\n");
    assert!(proxy.ended().success());
}

#[test]
fn slow_and_broken_clients_keep_nobody_out() {
    let proxy = start();
    let slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut client = TcpStream::connect(proxy.admin()).unwrap();
            client.write_all(b"GET /ready HTTP/1.1\r\nhost: ").unwrap();
            client
        })
        .collect();
    assert_eq!(proxy.get("/ready").status, 200);
    let mut large = TcpStream::connect(proxy.admin()).unwrap();
    // The proxy may close before everything is written.
    let _ = large.write_all(format!("GET /{} HTTP/1.1\r\n", "a".repeat(100_000)).as_bytes());
    let mut answer = String::new();
    let _ = large.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(proxy.get("/ready").status, 200);
    drop(slow);
}

#[test]
fn serves_on_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("pillion-admin-{}.sock", std::process::id()));
    let proxy = Proxy::start(&bootstrap(&format!("{{pipe: {{path: {}}}}}", path.display()), 9));
    assert_eq!(proxy.admin(), path.display().to_string());
    let answer = request(UnixStream::connect(&path).unwrap(), "GET", "/ready");
    assert_eq!((answer.status, answer.body.as_str()), (200, "LIVE\n"));
    drop(proxy);
    std::fs::remove_file(&path).unwrap();
}
