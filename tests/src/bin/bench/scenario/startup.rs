//! What a program costs before the first request: time until it is ready, and memory.

use std::thread;
use std::time::Duration;

use super::{Scenario, able, turns};
use crate::measurement::{Figures, Metric, Row, millis};
use crate::program::{Program, Protocol, Work};
use crate::{Bench, Result, upstream};

/// How long after readiness memory is read: what starting up needed has been given back by then.
const SETTLE: Duration = Duration::from_secs(1);

/// One listener and the one cluster that it forwards to.
pub const IDLE: Scenario = Scenario {
    name: "idle",
    about: "start with one listener and one cluster",
    compared_by: Metric::Memory,
    run: |bench| measure(bench, 0),
};

/// A mesh of some size.
pub const CLUSTERS_1000: Scenario = Scenario {
    name: "clusters-1000",
    about: "start with 1,000 clusters of 10 endpoints each",
    compared_by: Metric::Memory,
    run: |bench| measure(bench, 1_000),
};

/// A large mesh.
pub const CLUSTERS_5000: Scenario = Scenario {
    name: "clusters-5000",
    about: "start with 5,000 clusters of 10 endpoints each",
    compared_by: Metric::Memory,
    run: |bench| measure(bench, 5_000),
};

fn measure(bench: &Bench, idle_clusters: usize) -> Result<Vec<Row>> {
    let protocol = Protocol::Http1;
    let work = Work { protocol, upstream: upstream::start(protocol)?, idle_clusters };
    let prepare = |program| able(program, &work).map(|()| program);
    Ok(turns::measure(bench, prepare, |program| start(*program, &work)))
}

fn start(program: Program, work: &Work) -> Result<Figures> {
    let running = program.start(work)?;
    thread::sleep(SETTLE);
    Ok(Figures::from([
        (Metric::Ready, millis(running.ready_after)),
        (Metric::Memory, running.process.usage()?.resident_mb()),
    ]))
}
