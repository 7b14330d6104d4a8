//! Clients that make trouble.

use std::net::SocketAddr;

use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{cluster, http_listener, static_bootstrap};
use pillion_tests::scenario::{Connection, PATIENCE, Protocol, Sidecar, Upstream};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{
    DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, TROUBLES, Trouble, frame, wait_zero,
};

/// A request with a body over HTTP/1.1.
fn http1() -> Vec<u8> {
    b"POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec()
}

/// The same over HTTP/2.
fn http2() -> Vec<u8> {
    // POST, http, "/" and the authority "test", by the indices of HPACK's static table.
    let head = b"\x83\x86\x84\x41\x04test";
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS, 1, head),
        frame(DATA, END_STREAM, 1, b"hello"),
    ]
    .concat()
}

/// A listener whose limits on time are short.
async fn start() -> (Sidecar, Upstream, SocketAddr) {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let listener = free_address();
    let hcm = json!({
        "common_http_protocol_options": {"idle_timeout": "0.3s"},
        "request_headers_timeout": "0.3s",
        "stream_idle_timeout": "0.3s",
        "drain_timeout": "0.1s",
    });
    let clusters = [cluster("up", Protocol::Http1, &[upstream.address])];
    let bootstrap = static_bootstrap(&[http_listener(listener, "up", &hcm)], &clusters);
    (Sidecar::start(&bootstrap, &[]), upstream, listener)
}

async fn trouble_everywhere(exchange: Vec<u8>, protocol: Protocol) {
    let (sidecar, _upstream, listener) = start().await;
    let mut peers = JoinSet::new();
    for cut in 0..=exchange.len() {
        for trouble in TROUBLES {
            peers.spawn(trouble_at(listener, exchange[..cut].to_vec(), trouble));
        }
    }
    peers.join_all().await;
    let mut connection = Connection::must_open(listener, protocol).await;
    assert_eq!(connection.get("/").await.expect("an answer").body, "up");
    drop(connection);
    wait_zero(&sidecar, "downstream_(cx|rq)_.*active$").await;
    wait_zero(&sidecar, "^cluster.up.upstream_rq_(pending_)?active$").await;
}

async fn trouble_at(listener: SocketAddr, bytes: Vec<u8>, trouble: Trouble) {
    let stream = TcpStream::connect(listener).await.expect("a listener");
    // An error is a reset, which is an end too.
    let ended = timeout(PATIENCE, trouble.make(stream, &bytes)).await;
    assert!(ended.is_ok(), "{trouble:?} after {} bytes: the connection hangs", bytes.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http1_clients_that_break_off_anywhere_leave_nothing_behind() {
    trouble_everywhere(http1(), Protocol::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_clients_that_break_off_anywhere_leave_nothing_behind() {
    trouble_everywhere(http2(), Protocol::Http2).await;
}
