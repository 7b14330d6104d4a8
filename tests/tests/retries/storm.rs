//! A chain of four sidecars that all retry, before a server that always fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{cluster, http_listener, merge, static_bootstrap};
use pillion_tests::scenario::{Connection, Protocol, Sidecar};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::{listen, read_head};

const HOPS: u32 = 4;
const RETRIES: u64 = 2;

/// A server that answers 503, and how often it has.
async fn failing() -> (SocketAddr, Arc<AtomicU64>) {
    let (listener, address) = listen().await;
    let requests = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                const ANSWER: &[u8] =
                    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
                while read_head(&mut stream).await.is_some() {
                    counter.fetch_add(1, Relaxed);
                    if stream.write_all(ANSWER).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, requests)
}

/// A chain of sidecars to `server`, and the address of the first. `over` is a merge patch over each cluster, `runtime` the
/// runtime values of each sidecar.
fn chain(server: SocketAddr, over: &Value, runtime: &Value) -> (SocketAddr, Vec<Sidecar>) {
    let mut next = server;
    let mut sidecars = Vec::new();
    for _ in 0..HOPS {
        let listener = free_address();
        let retry = json!({
            "retry_on": "5xx",
            "num_retries": RETRIES,
            "retry_back_off": {"base_interval": "0.001s"},
        });
        let route =
            json!({"match": {"prefix": "/"}, "route": {"cluster": "next", "retry_policy": retry}});
        let host = json!({
            "name": "all",
            "domains": ["*"],
            "include_request_attempt_count": true,
            "routes": [route],
        });
        let hcm = json!({"route_config": {"virtual_hosts": [host]}});
        let mut to_next = cluster("next", Protocol::Http1, &[next]);
        merge(&mut to_next, over);
        let mut bootstrap = static_bootstrap(&[http_listener(listener, "next", &hcm)], &[to_next]);
        bootstrap["layered_runtime"] =
            json!({"layers": [{"name": "test", "static_layer": runtime}]});
        sidecars.push(Sidecar::start(&bootstrap, &[]));
        next = listener;
    }
    (next, sidecars)
}

/// Asks so often, from eight clients at once.
async fn ask(address: SocketAddr, requests: u64) {
    const CLIENTS: u64 = 8;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(async move {
            let mut connection = Connection::must_open(address, Protocol::Http1).await;
            for _ in 0..requests / CLIENTS {
                let answer = connection.get("/").await.expect("it is answered");
                assert_eq!(answer.status, 503);
            }
        });
    }
    clients.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_retries_does_not_multiply_the_load_where_nothing_limits_them() {
    const REQUESTS: u64 = 1200;
    let (server, load) = failing().await;
    let (first, _sidecars) = chain(server, &Value::Null, &json!({}));
    ask(first, REQUESTS).await;
    let load = load.load(Relaxed);
    assert!(load >= REQUESTS);
    assert!(load * 10 < REQUESTS * 22, "{load} requests at the server for {REQUESTS}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_multiplies_where_bounds_are_turned_off() {
    const REQUESTS: u64 = 16;
    let (server, load) = failing().await;
    let unlimited = json!({"circuit_breakers": {"thresholds": [{"max_retries": u32::MAX}]}});
    let (first, _sidecars) = chain(server, &unlimited, &json!({"pillion.bound_retries": false}));
    ask(first, REQUESTS).await;
    assert_eq!(load.load(Relaxed), REQUESTS * (RETRIES + 1).pow(HOPS));
}
