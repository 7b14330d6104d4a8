//! The scenarios: what is run, one small file a kind.

mod handshakes;
mod hop;
mod http1;
mod http2;
mod push;
mod rotation;
mod startup;
mod tcp;
mod traffic;
mod turns;

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
    hop::HTTP1,
    hop::HTTP2,
    handshakes::FULL,
    rotation::SECRETS,
    startup::IDLE,
    startup::CLUSTERS_1000,
    startup::CLUSTERS_5000,
    push::ALL_CLUSTERS,
    push::ALL_CLUSTERS_SOTW,
    push::ONE_ENDPOINT,
];

/// Says so where `program` cannot be put to `work`.
fn able(program: Program, work: &Work) -> Result<()> {
    if !program.supports(work) {
        return Err("cannot do this".into());
    }
    installed(program)
}

fn installed(program: Program) -> Result<()> {
    match program {
        _ if program.find().is_some() => Ok(()),
        Program::Pillion => Err("not built: run `cargo build --release` first".into()),
        _ => Err("not installed: run .ci/install-tools first".into()),
    }
}
