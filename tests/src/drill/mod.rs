//! Drills: what a mesh does while parts of it fail, with real processes and figures.
//!
//! `cargo build --release && cargo run --release -p pillion-tests --bin drill` runs all in their big form; `cargo test` runs
//! the small forms.

mod mesh;
mod network;
mod outage;
pub mod race;
pub mod raw;
mod replica;
mod replicas;
mod rolling;
pub mod storm;
mod traffic;
mod zones;

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use network::run_inside;
pub use replica::{ReplicaArgs, serve as serve_replica};

/// How much of a drill is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As much as every run of the tests can take.
    Small,
    /// As much as shows what is rare.
    Big,
}

impl Size {
    /// One number or the other.
    pub fn pick<T>(self, small: T, big: T) -> T {
        match self {
            Size::Small => small,
            Size::Big => big,
        }
    }
}

/// What came of a drill.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Lines of figures.
    pub figures: Vec<String>,
    /// What should not have been.
    pub faults: Vec<String>,
}

impl Report {
    /// Notes a figure.
    pub fn figure(&mut self, name: &str, value: impl Display) {
        self.figures.push(format!("{name}: {value}"));
    }

    /// Notes what must hold.
    pub fn expect(&mut self, holds: bool, otherwise: impl Display) {
        if !holds {
            self.faults.push(otherwise.to_string());
        }
    }

    /// No client may have seen a failure while that happened.
    fn expect_unseen(&mut self, what: &str, seen: &traffic::Seen) {
        self.figure(what, seen.figures());
        let first = seen.failures.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
        let failed = seen.failures.len();
        self.expect(failed == 0, format_args!("{what}: clients saw {failed} failures: {first}"));
    }
}

type Running = Pin<Box<dyn Future<Output = Report> + Send>>;

/// A drill.
pub struct Drill {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about, in one line.
    pub about: &'static str,
    /// Runs it. Needs tokio's multi-thread runtime.
    pub run: fn(Size) -> Running,
}

/// Every drill.
pub const DRILLS: &[Drill] = &[
    Drill {
        name: "replicas",
        about: "a replica of five is killed, stalls, fails, is slow, flaps",
        run: |size| Box::pin(replicas::run(size)),
    },
    Drill {
        name: "zones",
        about: "a zone is gone and comes back; all are gone and come back",
        run: |size| Box::pin(zones::run(size)),
    },
    Drill {
        name: "storm",
        about: "a chain of four sidecars that all retry, before a server that always fails",
        run: |size| Box::pin(storm::run(size)),
    },
    Drill {
        name: "race",
        about: "a server closes idle connections whenever it likes",
        run: |size| Box::pin(race::run(size)),
    },
    Drill {
        name: "rolling-replicas",
        about: "ten replicas restart one after the other",
        run: |size| Box::pin(rolling::replicas(size)),
    },
    Drill {
        name: "rolling-sidecars",
        about: "the sidecars of the replicas restart one after the other, by draining",
        run: |size| Box::pin(rolling::sidecars(size)),
    },
    Drill {
        name: "hot-restart",
        about: "the clients' sidecar restarts again and again without closing its listeners",
        run: |size| Box::pin(rolling::hot_restarts(size)),
    },
    Drill {
        name: "outage",
        about: "the control plane is killed and the proxy starts anew",
        run: |size| Box::pin(outage::run(size)),
    },
    Drill {
        name: "network",
        about: "packets are lost, and a replica is cut off",
        run: |size| Box::pin(network::run(size)),
    },
];

/// How long it takes until a condition holds, in milliseconds.
async fn time_until(what: &str, condition: impl FnMut() -> bool) -> u128 {
    let began = Instant::now();
    crate::scenario::until(what, condition).await;
    began.elapsed().as_millis()
}

/// Lets things take their course.
async fn for_a_while(time: Duration) {
    tokio::time::sleep(time).await;
}
