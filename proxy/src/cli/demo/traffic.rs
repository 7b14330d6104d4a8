//! The demo's clients, and the count of what became of their requests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{Method, StatusCode};
use hyper::body::Incoming;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::http_client::HttpClient;
use super::service::{REPLICA, SLOW_PATH};

/// How many clients ask at the same time.
const CLIENTS: usize = 16;
/// How long a client rests between two requests, so that the machine is not filled with the demo.
const REST: Duration = Duration::from_millis(5);
/// How long the first answer may take.
const START: Duration = Duration::from_secs(10);
/// How many failures are told in words.
const TOLD: usize = 5;

/// Requests by what became of them.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Answered, by replica.
    pub answers: BTreeMap<String, u64>,
    /// Failed.
    pub failed: u64,
}

impl Counts {
    /// All that were answered.
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Answered by a replica.
    pub fn of(&self, replica: &str) -> u64 {
        self.answers.get(replica).copied().unwrap_or_default()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = self.answered() + self.failed;
        write!(formatter, "{requests:>5} requests, {} failed  ", self.failed)?;
        let mut answers = self.answers.iter();
        answers.try_for_each(|(replica, count)| write!(formatter, "  {replica} {count}"))
    }
}

/// What became of all requests. The demo has phases, and a request belongs to the one in which it began.
#[derive(Debug, Default)]
pub struct Tally {
    /// All requests.
    pub total: Counts,
    /// Those that began in the current phase.
    pub current: Counts,
    /// Failures of requests that were under way in the announced phase.
    pub excused: u64,
    /// The first of the other failures, in words.
    pub failures: Vec<String>,
    phase: u32,
    announced: Option<u32>,
    stopped: bool,
}

impl Tally {
    /// Begins a new phase.
    pub fn next_phase(&mut self) {
        self.phase += 1;
        self.current = Counts::default();
    }

    /// Begins a new phase in which failures are expected.
    pub fn announce_failures(&mut self) {
        self.next_phase();
        self.announced = Some(self.phase);
    }

    /// Failures that nobody announced.
    pub fn unexpected(&self) -> u64 {
        self.total.failed - self.excused
    }

    fn count(&mut self, began: u32, outcome: Result<String, String>) {
        let now = self.phase;
        let current = (began == now).then_some(&mut self.current);
        let counts = std::iter::once(&mut self.total).chain(current);
        match outcome {
            Ok(replica) => {
                counts.for_each(|counts| *counts.answers.entry(replica.clone()).or_default() += 1);
            }
            Err(failure) => {
                counts.for_each(|counts| counts.failed += 1);
                if self.announced.is_some_and(|announced| (began..=now).contains(&announced)) {
                    self.excused += 1;
                } else if self.failures.len() < TOLD {
                    self.failures.push(failure);
                }
            }
        }
    }
}

/// The tally as clients and director share it.
pub type SharedTally = Rc<RefCell<Tally>>;

/// Clients that ask without end.
pub struct Traffic {
    address: SocketAddr,
    clients: JoinSet<()>,
    /// What became of their requests.
    pub tally: SharedTally,
}

impl Traffic {
    /// Waits until the sidecar at this address answers, and sends it clients.
    ///
    /// # Errors
    /// It does not answer in time.
    pub async fn start(address: SocketAddr) -> Result<Self, String> {
        let end = Instant::now() + START;
        let mut http = HttpClient::new(address);
        while let Err(failure) = ask(&mut http).await {
            if Instant::now() > end {
                return Err(format!("no answer through the client side in {START:?}: {failure}"));
            }
            sleep(REST).await;
        }
        let tally = SharedTally::default();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn_local(ask_on(address, Rc::clone(&tally)));
        }
        Ok(Traffic { address, clients, tally })
    }

    /// Begins a request whose answer takes its time, and waits until the answer has begun.
    pub async fn begin_slow(&self) -> Option<SlowRequest> {
        let mut http = HttpClient::new(self.address);
        let began = self.tally.borrow().phase;
        match begin(&mut http, SLOW_PATH).await {
            Ok((replica, body)) => {
                Some(SlowRequest { http, body, replica, began, tally: Rc::clone(&self.tally) })
            }
            Err(failure) => {
                self.tally.borrow_mut().count(began, Err(failure));
                None
            }
        }
    }

    /// Stops asking and waits for the answers that are under way.
    pub async fn stop(&mut self) {
        self.tally.borrow_mut().stopped = true;
        while self.clients.join_next().await.is_some() {}
    }
}

/// A request whose answer has begun.
pub struct SlowRequest {
    http: HttpClient,
    body: Incoming,
    /// Who answers.
    pub replica: String,
    began: u32,
    tally: SharedTally,
}

impl SlowRequest {
    /// Reads the answer to its end; returns whether it came whole.
    pub async fn finish(self) -> bool {
        let read = self.http.read(self.body).await;
        let whole = read.is_ok();
        let outcome = read.map(|_| self.replica).map_err(|error| error.to_string());
        self.tally.borrow_mut().count(self.began, outcome);
        whole
    }
}

async fn ask_on(address: SocketAddr, tally: SharedTally) {
    let mut http = HttpClient::new(address);
    while !tally.borrow().stopped {
        let began = tally.borrow().phase;
        let outcome = ask(&mut http).await;
        tally.borrow_mut().count(began, outcome);
        sleep(REST).await;
    }
}

/// One request; returns who answered, or why nobody did.
async fn ask(http: &mut HttpClient) -> Result<String, String> {
    let (replica, body) = begin(http, "/").await?;
    http.read(body).await.map_err(|error| error.to_string())?;
    Ok(replica)
}

async fn begin(http: &mut HttpClient, path: &str) -> Result<(String, Incoming), String> {
    let response = http.send(Method::GET, path, "").await.map_err(|error| error.to_string())?;
    let (head, body) = response.into_parts();
    let replica = head.headers.get(REPLICA).and_then(|name| name.to_str().ok());
    match replica {
        Some(replica) if head.status == StatusCode::OK => Ok((replica.to_owned(), body)),
        _ => {
            let body = http.read(body).await.unwrap_or_default();
            Err(format!("{}: {}", head.status, body.trim_end()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    fn failed() -> Result<String, String> {
        Err("503".to_owned())
    }

    #[test]
    fn only_failures_in_the_announced_phase_are_excused() {
        let mut tally = Tally::default();
        tally.count(0, failed());
        tally.announce_failures();
        // One was under way when the phase began, one began in it, and one of each phase ends after it.
        tally.count(0, failed());
        tally.count(1, failed());
        tally.next_phase();
        tally.count(1, failed());
        tally.count(2, failed());
        assert_eq!((tally.total.failed, tally.excused, tally.unexpected()), (5, 3, 2));
        assert_eq!(tally.current.failed, 1);
        assert_eq!(tally.failures.len(), 2);
    }

    #[test]
    fn an_answer_counts_in_the_phase_it_was_asked_in() {
        let mut tally = Tally::default();
        tally.count(0, Ok("a".to_owned()));
        tally.next_phase();
        tally.count(0, Ok("a".to_owned()));
        tally.count(1, Ok("b".to_owned()));
        assert_eq!(tally.total.to_string().trim(), "3 requests, 0 failed    a 2  b 1");
        assert_eq!((tally.current.of("a"), tally.current.of("b")), (0, 1));
    }
}
