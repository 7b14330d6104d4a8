//! A server that closes connections whenever it likes: what was not processed, or may be processed twice, is sent again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::raw::{listen, read_head};
use super::{Report, Size};
use crate::programs::free_address;
use crate::scenario::config::{cluster, http_listener, static_bootstrap};
use crate::scenario::{Answer, Connection, Protocol, Sidecar, empty, full};

const CLIENTS: usize = 16;

/// How often each path was asked for by a request that the server read.
type Seen = Arc<Mutex<HashMap<String, u32>>>;

/// What came of so many requests.
#[derive(Debug)]
pub struct Outcome {
    /// Requests that failed, a line each, which begins with the path.
    pub failed: Vec<String>,
    /// How often the server saw each path.
    pub seen: HashMap<String, u32>,
    /// How many requests were sent once more because their connection had gone.
    pub replayed: u64,
}

impl Outcome {
    /// How many GETs failed.
    pub fn failed_gets(&self) -> usize {
        self.failed.iter().filter(|line| line.starts_with("/get")).count()
    }

    /// How many POSTs the server saw twice.
    pub fn doubled_posts(&self) -> usize {
        self.seen.iter().filter(|(path, times)| path.starts_with("/post") && **times > 1).count()
    }
}

/// Runs the drill.
pub async fn run(size: Size) -> Report {
    let requests = size.pick(4_000, 100_000);
    let outcome = send(requests, json!({})).await;
    let (gets, doubled) = (outcome.failed_gets(), outcome.doubled_posts());
    let mut report = Report::default();
    report.figure("requests, of which a quarter are POSTs", requests);
    report.figure("GETs that failed", gets);
    report.figure("POSTs that the server saw twice", doubled);
    report.figure("POSTs that failed, as nobody may repeat them", outcome.failed.len() - gets);
    report.figure("requests sent once more", outcome.replayed);
    report.expect(gets == 0, format_args!("{gets} GETs failed"));
    report.expect(doubled == 0, format_args!("{doubled} POSTs were doubled"));
    report.expect(outcome.replayed > 0, "the server never closed at a bad moment");
    report
}

/// Starts the server. Each connection answers its first request; after that it may end in place of an answer, and after
/// each answer it ends when no request comes for a random time of up to 2 ms.
async fn fickle(seen: Seen) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&seen)));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, seen: Seen) {
    // An answer must not wait for the one before to be acknowledged.
    let _ = stream.set_nodelay(true);
    for served in 0.. {
        let patience = match served {
            0 => Duration::from_secs(60),
            _ => Duration::from_micros(fastrand::u64(..2000)),
        };
        let head = tokio::time::timeout(patience, read_head(&mut stream)).await;
        let Ok(Some(head)) = head else { return };
        if head.contains("content-length: 1") && stream.read_u8().await.is_err() {
            return;
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        *seen.lock().expect("nobody panics").entry(path).or_default() += 1;
        if served > 0 && fastrand::u8(..50) == 0 {
            return;
        }
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

/// Makes every `CLIENTS`th request from `first` on; gives back those that failed.
async fn client(address: SocketAddr, first: usize, requests: usize) -> Vec<String> {
    let mut failed = Vec::new();
    let mut connection = Connection::must_open(address, Protocol::Http1).await;
    for number in (first..requests).step_by(CLIENTS) {
        let (method, path, body) = match number % 4 {
            0 => ("POST", format!("/post/{number}"), full("x")),
            _ => ("GET", format!("/get/{number}"), empty()),
        };
        let response = connection.send(method, &path, &[], body).await;
        let answer = match response {
            Ok(response) => Answer::read(response).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match &answer {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => failed.push(format!("{path}: {}", answer.status)),
            Err(error) => failed.push(format!("{path}: {error}")),
        }
        if !answer.is_ok_and(|answer| !answer.closes()) {
            connection = Connection::must_open(address, Protocol::Http1).await;
        }
    }
    failed
}

/// Sends so many requests through a sidecar with these runtime values.
pub async fn send(requests: usize, runtime: Value) -> Outcome {
    let seen = Seen::default();
    let server = fickle(Arc::clone(&seen)).await;
    let listener = free_address();
    let mut bootstrap = static_bootstrap(
        &[http_listener(listener, "fickle", &Value::Null)],
        &[cluster("fickle", Protocol::Http1, &[server])],
    );
    bootstrap["layered_runtime"] = json!({"layers": [{"name": "drill", "static_layer": runtime}]});
    let sidecar = Sidecar::start(&bootstrap, &[]);
    let mut clients = JoinSet::new();
    for first in 0..CLIENTS {
        clients.spawn(client(listener, first, requests));
    }
    let failed = clients.join_all().await.concat();
    let replayed = sidecar.stat("cluster.fickle.upstream_rq_reuse_race");
    let seen = seen.lock().expect("nobody panics").clone();
    Outcome { failed, seen, replayed }
}
