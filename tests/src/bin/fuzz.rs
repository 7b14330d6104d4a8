//! Fuzzes Pillion's own parsers and matchers: `cargo run -p pillion-tests --bin fuzz -- [TARGET] [--seconds N | --seed N]`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use pillion_tests::fuzz::{Until, run, targets};

/// Gives targets random input until one breaks. Without a target all of them get their time, one after the other.
#[derive(Parser)]
struct Args {
    /// One of: log_format, path, grpc_timeout, yaml, json, proxy_protocol, tls_inspector, http_inspector, filter_chains,
    /// routes, listener, cluster, route_configuration, endpoints.
    target: Option<String>,
    /// For how long each target runs.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only the input of this seed, to look at a failure again.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let chosen: Vec<&str> = match &args.target {
        Some(target) => vec![target],
        None => targets().collect(),
    };
    for target in chosen {
        let until = match args.seed {
            Some(seed) => Until::Only(seed),
            // Other seeds than those that the tests try.
            None => Until::Time(fastrand::u64(1 << 32..1 << 63), Duration::from_secs(args.seconds)),
        };
        match run(target, until) {
            Ok(inputs) => println!("{target}: {inputs} inputs, nothing broke"),
            Err(error) => {
                eprintln!("{error}; again with: fuzz {target} --seed N");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
