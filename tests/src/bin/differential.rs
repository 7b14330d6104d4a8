//! Runs the differential cases: `cargo run -p pillion-tests --bin differential -- [FILTER] [--record | --recorded]`.

use std::process::ExitCode;

use clap::Parser;
use pillion_tests::differential::{Options, run};
use pillion_tests::programs;

/// Gives every case to Envoy and to Pillion, and prints where they differ.
#[derive(Parser)]
struct Args {
    /// Only cases whose name contains this.
    #[arg(default_value = "")]
    filter: String,
    /// Only ask Envoy, and write its answers beside the cases.
    #[arg(long, conflicts_with = "recorded")]
    record: bool,
    /// Compare with the recorded answers although Envoy is installed.
    #[arg(long)]
    recorded: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options {
        filter: args.filter,
        envoy: if args.recorded { None } else { programs::envoy() },
        pillion: if args.record { None } else { Some(programs::pillion()) },
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("failed: {failed}");
            ExitCode::FAILURE
        }
    }
}
