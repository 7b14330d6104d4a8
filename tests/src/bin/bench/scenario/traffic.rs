//! The same requests through all programs.

use std::time::Duration;

use super::{able, turns};
use crate::load::Seen;
use crate::load::h2load::H2load;
use crate::load::wrk::Wrk;
use crate::measurement::{Figures, Metric, Row};
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
    load.warm_up(&running)?;
    Ok(running)
}

fn round(bench: &Bench, running: &Running, load: Load) -> Result<Figures> {
    let before = running.process.usage()?;
    let seen = load.run(running, bench)?;
    let after = running.process.usage()?;
    Ok(Figures::from([
        (Metric::CpuPerRequest, micros(after.cpu - before.cpu) / seen.requests),
        (Metric::P50, seen.p50),
        (Metric::P99, seen.p99),
        (Metric::Rate, seen.rate),
        (Metric::Memory, after.resident_mb()),
    ]))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

impl Load {
    fn path(self) -> &'static str {
        match self {
            Load::Wrk(wrk) => wrk.path,
            Load::H2load(..) => "/",
        }
    }

    /// Opens connections and touches memory, so that the first round is like the others.
    fn warm_up(self, running: &Running) -> Result<Seen> {
        match self {
            Load::Wrk(wrk) => wrk.run(running.address, 1),
            Load::H2load(h2load, requests) => h2load.run(running.address, requests / 10),
        }
    }

    fn run(self, running: &Running, bench: &Bench) -> Result<Seen> {
        match self {
            Load::Wrk(wrk) => wrk.run(running.address, bench.seconds),
            Load::H2load(h2load, requests) => {
                h2load.run(running.address, requests / if bench.quick { 10 } else { 1 })
            }
        }
    }
}
