//! Servers that make trouble.

use std::net::{Ipv4Addr, SocketAddr};

use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{cluster, http_listener, static_bootstrap};
use pillion_tests::scenario::{
    Answer, Connection, Failure, PATIENCE, Protocol, Sidecar, Upstream, empty,
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{ACK, DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, Trouble, frame, wait_zero};

/// The bytes of a response, and how many of them are its head.
struct Exchange {
    bytes: Vec<u8>,
    head: usize,
}

/// A response over HTTP/1.1.
fn http1() -> Exchange {
    let (head, body) =
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n");
    Exchange { bytes: [head, body].concat().into_bytes(), head: head.len() }
}

/// The same over HTTP/2, to the first request of the connection.
fn http2() -> Exchange {
    // The status 200, by its index in HPACK's static table.
    let head = b"\x88";
    let head = [
        frame(SETTINGS, 0, 0, &[]),
        frame(SETTINGS, ACK, 0, &[]),
        frame(HEADERS, END_HEADERS, 1, head),
    ]
    .concat();
    let body = frame(DATA, END_STREAM, 1, b"hello");
    Exchange { head: head.len(), bytes: [head, body].concat() }
}

/// A server that waits for the beginning of a request, sends `bytes` and makes trouble.
async fn serve(bytes: Vec<u8>, trouble: Trouble) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                // The sidecar may have closed already.
                let _ = trouble.make(stream, &bytes).await;
            });
        }
    });
    address
}

/// A route to the cluster that the request names.
fn by_header() -> Value {
    let route = json!({
        "match": {"prefix": "/"},
        "route": {"cluster_header": "x-cluster", "timeout": "0.5s"},
    });
    json!({"route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}})
}

/// One server, with a cluster of its own, for each place at which the response can break off.
async fn trouble_everywhere(exchange: Exchange, protocol: Protocol, trouble: Trouble) {
    let Exchange { bytes, head } = exchange;
    let good = Upstream::start("up", Protocol::Http1).await;
    let listener = free_address();
    let mut clusters = vec![cluster("good", Protocol::Http1, &[good.address])];
    for cut in 0..=bytes.len() {
        let server = serve(bytes[..cut].to_vec(), trouble).await;
        clusters.push(cluster(&format!("cut{cut}"), protocol, &[server]));
    }
    let listeners = [http_listener(listener, "good", &by_header())];
    let sidecar = Sidecar::start(&static_bootstrap(&listeners, &clusters), &[]);
    let mut clients = JoinSet::new();
    for cut in 0..=bytes.len() {
        clients.spawn(ask(listener, cut, cut < head));
    }
    clients.join_all().await;
    let mut connection = Connection::must_open(listener, Protocol::Http1).await;
    let headers = [("x-cluster", "good")];
    let answer = connection.send("GET", "/", &headers, empty()).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    drop((answer, connection));
    wait_zero(&sidecar, "downstream_(cx|rq)_.*active$").await;
    wait_zero(&sidecar, "^cluster.*upstream_rq_(pending_)?active$").await;
}

/// Asks the server that breaks off at `cut` twice: for the second request the connection may be one that is broken already.
async fn ask(listener: SocketAddr, cut: usize, in_head: bool) {
    let cluster = format!("cut{cut}");
    for _ in 0..2 {
        let mut connection = Connection::must_open(listener, Protocol::Http1).await;
        let exchange = async {
            let headers = [("x-cluster", cluster.as_str())];
            let response = connection.send("GET", "/", &headers, empty()).await?;
            Ok::<_, Failure>(Answer::read(response).await?.status.as_u16())
        };
        let outcome = timeout(PATIENCE, exchange).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("{cluster}: no answer"));
        match outcome {
            Ok(200) if !in_head => {}
            Ok(status) => assert!([502, 503, 504].contains(&status), "{cluster}: {status}"),
            // A response that has begun can only be cut.
            Err(error) => assert!(!in_head, "{cluster}: {error}"),
        }
    }
}

/// Each trouble as a test of its own, so that they run side by side.
macro_rules! troubles {
    ($($name:ident: $trouble:ident,)*) => {
        $(mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_an_http1_response_is_survived() {
                trouble_everywhere(http1(), Protocol::Http1, Trouble::$trouble).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_an_http2_response_is_survived() {
                trouble_everywhere(http2(), Protocol::Http2, Trouble::$trouble).await;
            }
        })*
    };
}

troubles! {
    close: Close,
    reset: Reset,
    stall: Stall,
    garbage: Garbage,
}
