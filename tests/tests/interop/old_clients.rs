//! Clients whose bytes matter: HTTP/1.0, uploads that wait for `100 Continue`, TCP peers that half-close.

use std::net::{Ipv4Addr, SocketAddr};

use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{cluster, static_bootstrap, tcp_listener};
use pillion_tests::scenario::{Protocol, Sidecar, Upstream};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer and an orderly end");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_1_0_client_is_served_and_the_connection_closed() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let options = json!({"accept_http_10": true, "default_host_for_http_10": "test"});
    let hcm = json!({"http_protocol_options": options});
    let (_sidecar, listener) = super::sidecar(upstream.address, Protocol::Http1, &hcm);
    let mut stream = TcpStream::connect(listener).await.expect("a listener");
    stream.write_all(b"GET /hello HTTP/1.0\r\n\r\n").await.expect("write");
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.") && answer.contains(" 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nup"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_waits_for_100_continue_goes_on() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    upstream.gate.open();
    let (_sidecar, listener) = super::sidecar(upstream.address, Protocol::Http1, &json!({}));
    let mut stream = TcpStream::connect(listener).await.expect("a listener");
    let head = "POST /count HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\n\
                connection: close\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("write");
    let mut got = [0; 25];
    stream.read_exact(&mut got).await.expect("an interim answer");
    assert_eq!(&got, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.expect("write");
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\n\r\n5") || answer.contains("\r\n1\r\n5"), "{answer}");
}

/// Reads all, then answers with how much it was, and ends.
async fn answer_at_the_end() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("an orderly end");
        stream.write_all(all.len().to_string().as_bytes()).await.expect("write");
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_tcp_connection_still_gets_its_answer() {
    let upstream = answer_at_the_end().await;
    let listener = free_address();
    let clusters = [cluster("up", Protocol::Http1, &[upstream])];
    let sidecar =
        Sidecar::start(&static_bootstrap(&[tcp_listener(listener, "up")], &clusters), &[]);
    let mut stream = TcpStream::connect(listener).await.expect("a listener");
    stream.write_all(&vec![1; 3 << 20]).await.expect("write");
    stream.shutdown().await.expect("half-close");
    assert_eq!(read_all(&mut stream).await, (3 << 20).to_string());
    sidecar.wait_stat("cluster.up.upstream_cx_active", 0).await;
}
