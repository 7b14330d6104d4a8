//! Random cases for Envoy and Pillion: `cargo run -p pillion-tests --bin generate -- [KIND] [--seed N] [--rounds N]`.

use std::process::ExitCode;

use clap::Parser;
use pillion_tests::differential::{Options, generate};
use pillion_tests::programs;

/// Gives random routes, access policies, filter chains and endpoints to both programs, and prints where they differ.
#[derive(Parser)]
struct Args {
    /// Only kinds whose name contains this: routes, rbac, chains, endpoints.
    #[arg(default_value = "")]
    kind: String,
    /// The first seed; each round takes the next.
    #[arg(long)]
    seed: Option<u64>,
    /// Random cases of each kind.
    #[arg(long, default_value_t = 100)]
    rounds: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("seed {seed}");
    let options =
        Options { filter: args.kind, envoy: programs::envoy(), pillion: Some(programs::pillion()) };
    match generate(&options, seed, args.rounds) {
        Ok(alike) => {
            println!("{alike} requests, all answered alike");
            ExitCode::SUCCESS
        }
        Err(found) => {
            eprintln!("{found}");
            ExitCode::FAILURE
        }
    }
}
