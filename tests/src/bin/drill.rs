//! Runs the drills: `cargo build --release && cargo run --release -p pillion-tests --bin drill -- [NAME...] [--small]`.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use pillion_tests::drill::{DRILLS, ReplicaArgs, Size, run_inside, serve_replica};

/// Lets parts of a mesh fail, and prints what clients see.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// Only these drills.
    names: Vec<String>,
    /// The small form, as the tests run it.
    #[arg(long)]
    small: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program does when it is not the drills themselves.
#[derive(Subcommand)]
enum Role {
    /// Be a replica of the service.
    #[command(hide = true)]
    Replica(ReplicaArgs),
    /// Be the network drill, alone in a network namespace.
    #[command(hide = true)]
    Inside {
        /// As above.
        #[arg(long)]
        small: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match args.role {
        Some(Role::Replica(args)) => match serve_replica(args).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Some(Role::Inside { small }) => {
            run_inside(size(small)).await;
            ExitCode::SUCCESS
        }
        None => run(&args.names, size(args.small)).await,
    }
}

fn size(small: bool) -> Size {
    if small { Size::Small } else { Size::Big }
}

async fn run(names: &[String], size: Size) -> ExitCode {
    if let Some(unknown) = names.iter().find(|name| DRILLS.iter().all(|d| d.name != **name)) {
        eprintln!("error: there is no drill '{unknown}'; there are:");
        DRILLS.iter().for_each(|drill| eprintln!("  {}: {}", drill.name, drill.about));
        return ExitCode::FAILURE;
    }
    let mut code = ExitCode::SUCCESS;
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    for drill in DRILLS.iter().filter(|drill| wanted(drill.name)) {
        println!("{}: {}", drill.name, drill.about);
        let began = Instant::now();
        let report = (drill.run)(size).await;
        report.figures.iter().for_each(|figure| println!("  {figure}"));
        if !report.faults.is_empty() {
            code = ExitCode::FAILURE;
            report.faults.iter().for_each(|fault| println!("  FAULT: {fault}"));
        }
        println!("  ({:.1} s)", began.elapsed().as_secs_f64());
    }
    code
}
