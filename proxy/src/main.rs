//! The `pillion` program.

use std::process::ExitCode;

use clap::Parser;
use pillion::cli::{Cli, Command, bootstrap, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => run::run(&cli.run),
        Some(Command::Demo(_)) => ExitCode::SUCCESS,
        Some(Command::ReadBootstrap(args)) => bootstrap::print(&args),
    }
}
