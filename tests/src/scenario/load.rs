//! Clients that send one request after the other while something changes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use super::client::{Connection, Failure, Protocol};
use super::sidecar::until;

/// A running load: some clients of each protocol, each with one connection and one request at a time.
pub struct Load {
    tally: Arc<Tally>,
    clients: JoinSet<()>,
}

/// What came of a load.
#[derive(Debug)]
pub struct Report {
    /// Requests that were answered 200.
    pub requests: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// What went wrong, a line each.
    pub failures: Vec<String>,
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    requests: AtomicU64,
    connections: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Starts `each` HTTP/1.1 clients and as many HTTP/2 clients of `address`, and waits until each is served.
    pub async fn start(address: SocketAddr, each: usize) -> Load {
        let tally = Arc::new(Tally::default());
        let mut clients = JoinSet::new();
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for _ in 0..each {
                clients.spawn(run(address, protocol, Arc::clone(&tally)));
            }
        }
        let load = Load { tally, clients };
        load.serve_more(4 * each as u64).await;
        load
    }

    /// Waits until so many further requests were answered.
    pub async fn serve_more(&self, requests: u64) {
        let wanted = self.tally.requests.load(Relaxed) + requests;
        let failed = || !self.tally.failures().is_empty();
        until("answers", || self.tally.requests.load(Relaxed) >= wanted || failed()).await;
    }

    /// Lets each client finish its request, and tells what came of all.
    pub async fn stop(self) -> Report {
        self.tally.stop.store(true, Relaxed);
        self.clients.join_all().await;
        Report {
            requests: self.tally.requests.load(Relaxed),
            connections: self.tally.connections.load(Relaxed),
            failures: self.tally.failures().clone(),
        }
    }
}

impl Tally {
    fn failures(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.failures.lock().expect("no client panics")
    }
}

/// One client: keeps its connection as long as the server does. It ends with its first failure.
async fn run(address: SocketAddr, protocol: Protocol, tally: Arc<Tally>) {
    while !tally.stop.load(Relaxed) {
        let failed = match Connection::open(address, protocol).await {
            Ok(connection) => {
                tally.connections.fetch_add(1, Relaxed);
                use_up(connection, &tally).await
            }
            Err(error) => Some(format!("connect: {error}")),
        };
        if let Some(failed) = failed {
            tally.failures().push(format!("{protocol:?}: {failed}"));
            return;
        }
    }
}

/// Sends requests until the connection is closed in order or the load stops; `Some` is a failure.
async fn use_up(mut connection: Connection, tally: &Tally) -> Option<String> {
    while !tally.stop.load(Relaxed) {
        match connection.get("/").await {
            Ok(answer) if answer.status == 200 => {
                tally.requests.fetch_add(1, Relaxed);
                if answer.closes() {
                    return None;
                }
            }
            Ok(answer) => return Some(format!("{answer:?}")),
            Err(Failure::NotSent) => return None,
            Err(error) => return Some(error.to_string()),
        }
    }
    None
}
