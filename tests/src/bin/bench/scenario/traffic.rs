//! Requests through all programs in turns: the same load, round after round.

use std::time::Duration;

use super::unable;
use crate::load::Seen;
use crate::load::h2load::H2load;
use crate::load::wrk::Wrk;
use crate::measurement::{Metric, Row, Samples};
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

/// A program in this scenario; it stays up through all rounds.
struct Subject {
    program: Program,
    running: Result<Running>,
    samples: Samples,
}

/// Puts all programs to the same load. Rounds are interleaved, so that what else happens on the machine hits all.
pub fn measure(bench: &Bench, protocol: Protocol, load: Load) -> Result<Vec<Row>> {
    let work = Work { protocol, upstream: upstream::start(protocol)?, idle_clusters: 0 };
    let mut subjects: Vec<Subject> =
        bench.programs.iter().map(|program| Subject::start(*program, &work, load)).collect();
    for _ in 0..bench.rounds {
        for subject in &mut subjects {
            subject.round(bench, load);
        }
    }
    Ok(subjects.into_iter().map(Subject::row).collect())
}

impl Subject {
    fn start(program: Program, work: &Work, load: Load) -> Subject {
        let running = match unable(program, work) {
            Some(reason) => Err(reason.into()),
            None => program.start(work).and_then(|running| {
                probe::check(running.address, work.protocol, load.path())?;
                load.warm_up(&running)?;
                Ok(running)
            }),
        };
        Subject { program, running, samples: Samples::default() }
    }

    /// One round; a program that fails once takes no further part.
    fn round(&mut self, bench: &Bench, load: Load) {
        let Ok(running) = &self.running else { return };
        match measure_round(bench, running, load) {
            Ok(figures) => self.samples.add(figures),
            Err(error) => self.running = Err(error),
        }
    }

    fn row(self) -> Row {
        Row::new(self.program, self.running.map(|_| self.samples.medians()))
    }
}

fn measure_round(bench: &Bench, running: &Running, load: Load) -> Result<[(Metric, f64); 5]> {
    let before = running.process.usage()?;
    let seen = load.run(running, bench)?;
    let after = running.process.usage()?;
    Ok([
        (Metric::CpuPerRequest, micros(after.cpu - before.cpu) / seen.requests),
        (Metric::P50, seen.p50),
        (Metric::P99, seen.p99),
        (Metric::Rate, seen.rate),
        (Metric::Memory, after.resident_mb()),
    ])
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
