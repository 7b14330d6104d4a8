//! The `pillion` program.

use std::process::ExitCode;

use clap::Parser;
use pillion::cli::{Cli, Command, bootstrap, demo, exec, intercept, run, wait};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        None => run::run(&cli.run),
        Some(Command::Demo(args)) => demo::run(args),
        Some(Command::Run(args)) => exec::run(args),
        Some(Command::Application(args)) => exec::become_application(args),
        Some(Command::Namespace(args)) => exec::help_inside(args),
        Some(Command::Intercept(args)) => intercept::run(args),
        Some(Command::Wait(args)) => wait::run(args),
        Some(Command::DemoService(args)) => demo::run_service(args),
        Some(Command::DemoControlPlane) => demo::run_control_plane(),
        Some(Command::ReadBootstrap(args)) => bootstrap::print(args),
    }
}
