//! The same requests through all programs.

use std::net::SocketAddr;
use std::time::Duration;

use super::{able, turns};
use crate::load::Seen;
use crate::load::h2load::H2load;
use crate::load::wrk::Wrk;
use crate::measurement::{Figures, Metric, Row, micros};
use crate::program::{Program, Protocol, Running, Work};
use crate::{Bench, Result, probe, upstream};

/// What is sent in every round.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// HTTP/1.1 for [`Bench::seconds`].
    Wrk(Wrk),
    /// HTTP/2, this many requests (a tenth of them in a quick run).
    H2load(H2load, usize),
}

/// Puts all programs to the same load; each stays up through all rounds.
pub fn measure(bench: &Bench, protocol: Protocol, load: Load) -> Result<Vec<Row>> {
    let work = Work { protocol, upstream: upstream::start(protocol)?, idle_clusters: 0 };
    let prepare = |program| start(program, &work, load);
    Ok(turns::measure(bench, prepare, |running| round(bench, running, load)))
}

fn start(program: Program, work: &Work, load: Load) -> Result<Running> {
    able(program, work)?;
    let running = program.start(work)?;
    probe::check(running.address, work.protocol, load.path())?;
    load.warm_up(running.address)?;
    Ok(running)
}

fn round(bench: &Bench, running: &Running, load: Load) -> Result<Figures> {
    let before = running.process.usage()?;
    let seen = load.run(running.address, bench)?;
    let after = running.process.usage()?;
    Ok(figures(&seen, after.cpu - before.cpu, after.resident_mb()))
}

/// The figures of a round in which the programs took `cpu` and held `memory` in the end, in MB.
pub fn figures(seen: &Seen, cpu: Duration, memory: f64) -> Figures {
    Figures::from([
        (Metric::CpuPerRequest, micros(cpu) / seen.requests),
        (Metric::P50, seen.p50),
        (Metric::P99, seen.p99),
        (Metric::Rate, seen.rate),
        (Metric::Memory, memory),
    ])
}

impl Load {
    /// The path that is asked.
    pub fn path(self) -> &'static str {
        match self {
            Load::Wrk(wrk) => wrk.path,
            Load::H2load(..) => "/",
        }
    }

    /// Opens connections and touches memory, so that the first round is like the others.
    pub fn warm_up(self, address: SocketAddr) -> Result<Seen> {
        match self {
            Load::Wrk(wrk) => wrk.run(address, 1),
            Load::H2load(h2load, requests) => h2load.run(address, requests / 10),
        }
    }

    /// A round of it.
    pub fn run(self, address: SocketAddr, bench: &Bench) -> Result<Seen> {
        match self {
            Load::Wrk(wrk) => wrk.run(address, bench.seconds),
            Load::H2load(h2load, requests) => {
                h2load.run(address, requests / if bench.quick { 10 } else { 1 })
            }
        }
    }
}
