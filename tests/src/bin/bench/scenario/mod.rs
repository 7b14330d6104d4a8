//! The scenarios: what is run, one small file a kind.

mod http1;
mod http2;
mod startup;
mod tcp;
mod traffic;

use crate::measurement::{Metric, Row};
use crate::program::{Program, Work};
use crate::{Bench, Result};

/// One kind of work that all programs are put to.
pub struct Scenario {
    /// Name on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// The metric of the column `of Envoy`.
    pub compared_by: Metric,
    /// Runs it: a row a program. Fails only where no program could have been measured.
    pub run: fn(&Bench) -> Result<Vec<Row>>,
}

/// All of them, in the order in which they run.
pub const ALL: &[Scenario] = &[
    http1::SMALL,
    http2::MANY_STREAMS,
    http2::ONE_STREAM,
    http2::GRPC,
    tcp::SMALL,
    http1::LARGE_BODIES,
    startup::IDLE,
    startup::CLUSTERS_1000,
    startup::CLUSTERS_5000,
];

/// Why `program` has no figures for `work`, where that is known beforehand.
fn unable(program: Program, work: &Work) -> Option<&'static str> {
    if !program.supports(work) {
        return Some("cannot do this");
    }
    if program.find().is_some() {
        return None;
    }
    Some(match program {
        Program::Pillion => "not built: run `cargo build --release` first",
        _ => "not installed: run .ci/install-tools first",
    })
}
