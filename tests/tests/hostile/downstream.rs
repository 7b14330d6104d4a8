//! Clients that make trouble.

use std::net::SocketAddr;

use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{cluster, http_listener, static_bootstrap};
use pillion_tests::scenario::{Connection, PATIENCE, Protocol, Sidecar, Upstream};
use serde_json::json;
use tokio::io::AsyncWriteExt;
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

/// Asks for more than all buffers hold and reads nothing of it, until the sidecar gives up.
async fn read_nothing(request: Vec<u8>) {
    let (sidecar, _upstream, listener) = start().await;
    let mut client = TcpStream::connect(listener).await.expect("a listener");
    client.write_all(&request).await.expect("room for a request");
    sidecar.wait_stat("http.ingress.downstream_rq_idle_timeout", 1).await;
    wait_zero(&sidecar, "downstream_rq_.*active$").await;
    wait_zero(&sidecar, "^cluster.up.upstream_(rq|cx)_(pending_)?active$").await;
    drop(client);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http1_client_that_does_not_read_is_cut() {
    read_nothing(b"GET /bytes/100000000 HTTP/1.1\r\nhost: test\r\n\r\n".to_vec()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_client_that_opens_no_window_is_cut() {
    // GET, http, and a path and an authority that are not in HPACK's static table.
    let path = b"/bytes/100000000";
    let length = u8::try_from(path.len()).expect("it is short");
    let head = [b"\x82\x86\x44", &[length][..], path, b"\x41\x04test"].concat();
    let request = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &head),
    ];
    read_nothing(request.concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http1_clients_that_break_off_anywhere_leave_nothing_behind() {
    trouble_everywhere(http1(), Protocol::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_clients_that_break_off_anywhere_leave_nothing_behind() {
    trouble_everywhere(http2(), Protocol::Http2).await;
}
