//! Clients of every kind, and what they see of a failure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::replica::NAME;
use crate::scenario::{Answer, Connection, Failure, Protocol, empty, full, until};

/// A client waits so long at most between two requests, on average half of it.
const PAUSE: Duration = Duration::from_millis(4);
/// A client that waits longer for an answer counts it as failed.
const LIMIT: Duration = Duration::from_secs(10);
/// Messages of an upgraded connection, one after the other, before it is closed.
const MESSAGES: usize = 40;
/// A gRPC message of four bytes, with its prefix.
const GRPC: &[u8] = b"\0\0\0\0\x04ping";

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// GET over HTTP/1.1.
    Http1,
    /// GET over HTTP/2.
    Http2,
    /// Unary calls over HTTP/2.
    Grpc,
    /// Upgraded connections (WebSocket) over HTTP/1.1, on which messages go back and forth.
    Upgrade,
}

/// Every kind.
pub const ALL: [Kind; 4] = [Kind::Http1, Kind::Http2, Kind::Grpc, Kind::Upgrade];

/// Clients at work.
pub struct Traffic {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

struct Shared {
    address: SocketAddr,
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

/// What clients have seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Answers that were as they should be.
    pub answers: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// What went wrong, a line each.
    pub failures: Vec<String>,
    /// Answers by the replica that gave them.
    pub by_replica: BTreeMap<String, u64>,
    /// How long each answer took, failed ones too.
    times: Vec<Duration>,
}

impl Seen {
    /// The time that this share (0 to 1) of all answers took at most, in milliseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let index = (share * times.len() as f64) as usize;
        let time = times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or_default();
        time.as_secs_f64() * 1e3
    }

    /// The share of the answers that came from this replica, in percent.
    pub fn share_of(&self, replica: &str) -> f64 {
        let count = self.by_replica.get(replica).copied().unwrap_or(0);
        100.0 * count as f64 / self.answers.max(1) as f64
    }

    /// One line of figures.
    pub fn figures(&self) -> String {
        format!(
            "{} answers, {} failed, p50 {:.1} ms, p99 {:.1} ms, longest {:.0} ms",
            self.answers,
            self.failures.len(),
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(1.0),
        )
    }
}

impl Traffic {
    /// Starts `each` clients of each kind, and waits until the first answers are there.
    pub async fn start(address: SocketAddr, kinds: &[Kind], each: usize) -> Traffic {
        let shared =
            Arc::new(Shared { address, stop: AtomicBool::default(), seen: Mutex::default() });
        let mut clients = JoinSet::new();
        for kind in kinds {
            for _ in 0..each {
                clients.spawn(client(*kind, Arc::clone(&shared)));
            }
        }
        let traffic = Traffic { shared, clients };
        traffic.flow(kinds.len() * each).await;
        traffic
    }

    /// Waits until so many more answers are there.
    pub async fn flow(&self, answers: usize) {
        let wanted = self.shared.seen().answers + answers as u64;
        until("answers", || self.shared.seen().answers >= wanted).await;
    }

    /// Takes what clients have seen since the last call.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *self.shared.seen())
    }

    /// How many answers have come since [`Traffic::take`].
    pub fn answers(&self) -> u64 {
        self.shared.seen().answers
    }

    /// How many answers of this replica have come since [`Traffic::take`].
    pub fn answers_of(&self, replica: &str) -> u64 {
        self.shared.seen().by_replica.get(replica).copied().unwrap_or(0)
    }

    /// Ends the clients; what they have seen since [`Traffic::take`].
    pub async fn stop(self) -> Seen {
        let Traffic { shared, clients } = self;
        shared.stop.store(true, Relaxed);
        clients.join_all().await;
        std::mem::take(&mut *shared.seen())
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no client panics")
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    /// Notes an exchange that began then.
    fn note(&self, kind: Kind, began: Instant, outcome: Result<Option<String>, String>) -> bool {
        let mut seen = self.seen();
        seen.times.push(began.elapsed());
        match outcome {
            Ok(replica) => {
                seen.answers += 1;
                if let Some(replica) = replica {
                    *seen.by_replica.entry(replica).or_default() += 1;
                }
                true
            }
            Err(why) => {
                let after = began.elapsed().as_millis();
                seen.failures.push(format!("{kind:?} after {after} ms: {why}"));
                false
            }
        }
    }
}

async fn client(kind: Kind, shared: Arc<Shared>) {
    let protocol = match kind {
        Kind::Http1 | Kind::Upgrade => Protocol::Http1,
        Kind::Http2 | Kind::Grpc => Protocol::Http2,
    };
    while shared.goes_on() {
        let began = Instant::now();
        match Connection::open(shared.address, protocol).await {
            Ok(connection) => {
                shared.seen().connections += 1;
                match kind {
                    Kind::Upgrade => upgrade(connection, &shared).await,
                    _ => exchange(kind, connection, &shared).await,
                }
            }
            Err(error) => {
                shared.note(kind, began, Err(format!("connect: {error}")));
                sleep(PAUSE).await;
            }
        }
    }
}

/// Sends requests until the connection ends in order, or one fails.
async fn exchange(kind: Kind, mut connection: Connection, shared: &Shared) {
    while shared.goes_on() {
        sleep(PAUSE.mul_f64(fastrand::f64())).await;
        let began = Instant::now();
        let answer = match timeout(LIMIT, ask(kind, &mut connection)).await {
            Ok(answer) => answer,
            Err(_) => {
                shared.note(kind, began, Err("no answer".to_owned()));
                return;
            }
        };
        match answer {
            Ok(answer) => {
                let closes = answer.closes();
                if !shared.note(kind, began, judge(kind, &answer)) || closes {
                    return;
                }
            }
            // Nobody has seen the request: it goes out on the next connection, as every client does.
            Err(Failure::NotSent) => return,
            Err(error) => {
                shared.note(kind, began, Err(error.to_string()));
                return;
            }
        }
    }
}

async fn ask(kind: Kind, connection: &mut Connection) -> Result<Answer, Failure> {
    if kind != Kind::Grpc {
        return connection.get("/").await;
    }
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let message = full(Bytes::from_static(GRPC));
    let response = connection.send("POST", "/drill.Echo/Ping", &headers, message).await?;
    Ok(Answer::read(response).await?)
}

fn judge(kind: Kind, answer: &Answer) -> Result<Option<String>, String> {
    let text = |name: &str| Some(answer.headers.get(name)?.to_str().ok()?.to_owned());
    if answer.status != 200 {
        let body = String::from_utf8_lossy(&answer.body);
        return Err(format!("{}: {body}", answer.status));
    }
    if kind == Kind::Grpc {
        let trailers = answer.trailers.as_ref().unwrap_or(&answer.headers);
        let status = trailers.get("grpc-status").map(|status| status.as_bytes());
        if status != Some(b"0") || answer.body != GRPC {
            return Err(format!("{answer:?}"));
        }
    }
    Ok(text(NAME))
}

/// Opens a session, sends messages and gets each back, and closes it.
async fn upgrade(mut connection: Connection, shared: &Shared) {
    let began = Instant::now();
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let outcome = match timeout(LIMIT, connection.send("GET", "/", &headers, empty())).await {
        Ok(Ok(response)) if response.status() == 101 => {
            let name = response.headers().get(NAME).and_then(|name| name.to_str().ok());
            let name = name.map(str::to_owned);
            talk(response).await.map(|()| name).map_err(|error| format!("session: {error}"))
        }
        Ok(Ok(response)) => Err(response.status().to_string()),
        Ok(Err(Failure::NotSent)) => return,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    };
    shared.note(Kind::Upgrade, began, outcome);
}

async fn talk(response: Response<Incoming>) -> std::io::Result<()> {
    let upgraded = hyper::upgrade::on(response).await.map_err(std::io::Error::other)?;
    let mut session = TokioIo::new(upgraded);
    for number in 0..MESSAGES as u64 {
        session.write_u64(number).await?;
        let echoed = timeout(LIMIT, session.read_u64()).await??;
        if echoed != number {
            return Err(std::io::Error::other("another message came back"));
        }
        sleep(PAUSE.mul_f64(fastrand::f64())).await;
    }
    session.shutdown().await
}
