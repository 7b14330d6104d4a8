//! Pillion beside Envoy, HAProxy, nginx and a plain byte relay: the same work, in the same run, one worker each.
//!
//! `cargo build --release && cargo run --release -p pillion-tests --bin bench`
//!
//! Programs, load generators and upstream share the machine, and rounds are interleaved: what is compared is the CPU
//! time of each program's process per request, which stays comparable where rates and latencies do not. Statistics are
//! on and access logs are off everywhere.

mod goals;
mod identities;
mod load;
mod measurement;
mod mesh;
mod picks;
mod probe;
mod program;
mod report;
mod scenario;
mod upstream;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};

use program::Program;
use report::Report;
use scenario::Scenario;

/// Anything that keeps a figure from being measured, in words.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(about = "Measures Pillion beside Envoy, HAProxy, nginx and a plain byte relay")]
struct Arguments {
    /// Only these scenarios, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(names()))]
    only: Vec<String>,
    /// Only these programs, separated by commas. Goals need Pillion and Envoy.
    #[arg(long, value_delimiter = ',', default_value = "pillion,envoy,haproxy,nginx,relay")]
    programs: Vec<Program>,
    /// Rounds per scenario, of which the median counts; 5, or 1 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: Option<u8>,
    /// One short round: shows that everything runs, its figures are rough.
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Exit with 1 when a goal was missed or could not be judged.
    #[arg(long)]
    strict: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program does when it is not the benchmark itself.
#[derive(Subcommand)]
enum Role {
    /// Be the byte relay that the others are compared with.
    #[command(hide = true)]
    Relay {
        /// Where it listens.
        listen: SocketAddr,
        /// Where it forwards to.
        upstream: SocketAddr,
    },
}

/// How much is measured.
struct Bench {
    programs: Vec<Program>,
    rounds: usize,
    /// Length of a round that is bounded by time.
    seconds: usize,
    quick: bool,
}

/// What can be chosen by name.
fn names() -> impl Iterator<Item = &'static str> {
    scenario::ALL.iter().map(|scenario| scenario.name).chain([picks::NAME])
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(Role::Relay { listen, upstream }) = arguments.role {
        program::relay::run(listen, upstream)?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.only == [picks::NAME] {
        picks::run(arguments.quick)?;
        return Ok(ExitCode::SUCCESS);
    }
    let bench = Bench {
        rounds: arguments.rounds.map_or(if arguments.quick { 1 } else { 5 }, usize::from),
        seconds: if arguments.quick { 1 } else { 2 },
        quick: arguments.quick,
        programs: arguments.programs,
    };
    if !arguments.json {
        print_versions(&bench);
    }
    let mut reports = Vec::new();
    let wanted = |scenario: &&Scenario| {
        arguments.only.is_empty() || arguments.only.iter().any(|name| name == scenario.name)
    };
    for scenario in scenario::ALL.iter().filter(wanted) {
        let report = Report::new(scenario, (scenario.run)(&bench)?);
        if !arguments.json {
            print!("{}", report.table());
        }
        reports.push(report);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    }
    let missed = reports.iter().any(|report| report.misses_a_goal());
    Ok(if arguments.strict && missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print_versions(bench: &Bench) {
    for program in &bench.programs {
        let version = program.version().unwrap_or_else(|| "not found".to_owned());
        println!("{}: {version}", program.name());
    }
    if cfg!(debug_assertions) {
        println!(
            "This is a debug build, and so is the Pillion beside it: its figures mean nothing."
        );
    }
}
