//! A chain of four sidecars that all retry, before a server that always fails.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::raw::{listen, read_head};
use super::{Report, Size};
use crate::programs::{envoy, free_address, pillion};
use crate::scenario::config::{cluster, http_listener, merge, static_bootstrap};
use crate::scenario::{Connection, Protocol, Sidecar};

/// Sidecars, one behind the other.
pub const HOPS: u32 = 4;
/// What each may send again of one request.
pub const RETRIES: u64 = 2;
/// The load at the server must stay below this many times what is offered.
const LIMIT: f64 = 2.2;

/// Runs the drill: Pillion as it is, and Envoy and Pillion without its bounds for comparison.
pub async fn run(size: Size) -> Report {
    let mut report = Report::default();
    let load = multiplied(&pillion(), size.pick(1_200, 12_000), &json!({})).await;
    report.figure("requests at the server for each one offered", format_args!("{load:.2}"));
    report.expect(load < LIMIT, format_args!("retries multiply the load by {load:.2}"));
    if size == Size::Big {
        let unbounded = json!({"pillion.bound_retries": false});
        let load = multiplied(&pillion(), 1_200, &unbounded).await;
        report.figure("  without Pillion's bounds", format_args!("{load:.2}"));
        match envoy() {
            Some(envoy) => {
                let load = multiplied(&envoy, 1_200, &json!({})).await;
                report.figure("  Envoy", format_args!("{load:.2}"));
            }
            None => report.figure("  Envoy", "not installed"),
        }
    }
    report
}

/// How many requests come to the server for each one that is offered to the chain.
pub async fn multiplied(program: &Path, requests: u64, runtime: &Value) -> f64 {
    let (server, load) = failing().await;
    let (first, _sidecars) = chain(program, server, &Value::Null, runtime);
    ask(first, requests).await;
    load.load(Relaxed) as f64 / requests as f64
}

/// A server that answers 503, and how often it has.
pub async fn failing() -> (SocketAddr, Arc<AtomicU64>) {
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
pub fn chain(
    program: &Path,
    server: SocketAddr,
    over: &Value,
    runtime: &Value,
) -> (SocketAddr, Vec<Sidecar>) {
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
            json!({"layers": [{"name": "drill", "static_layer": runtime}]});
        let mut sidecar = Sidecar::spawn(program, &bootstrap, &[]);
        sidecar.wait_live();
        sidecars.push(sidecar);
        next = listener;
    }
    (next, sidecars)
}

/// Asks so often, from eight clients at once.
pub async fn ask(address: SocketAddr, requests: u64) {
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
