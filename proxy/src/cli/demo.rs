//! `pillion demo`: a small mesh that shows itself. This process is the director: it starts the others, asks, pushes
//! changes through the control plane's HTTP API, and tells what happens.

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tokio::time::Instant;

use display::Display;
use mesh::Mesh;
use traffic::{SharedTally, Tally, Traffic};

pub mod control_plane;
mod display;
mod http_client;
mod identity;
mod mesh;
mod process;
mod resources;
pub mod service;
mod story;
mod traffic;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Flags of the demo.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Leave everything running and print what to try.
    #[arg(long)]
    pub keep: bool,
}

/// Shows the demo. The exit code is 0 when everything happened as told.
pub fn run(args: &DemoArgs) -> ExitCode {
    exit_code(block_on(direct(args)))
}

/// Runs a replica of the service (hidden command).
pub fn run_service(args: &service::ServiceArgs) -> ExitCode {
    exit_code(block_on(service::serve(args)))
}

/// Runs the control plane (hidden command).
pub fn run_control_plane() -> ExitCode {
    exit_code(block_on(control_plane::serve()))
}

fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn block_on(future: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, future)
}

/// Tells the story, unless a signal ends it. Whatever happens, no process is left behind.
async fn direct(args: &DemoArgs) -> Result<()> {
    let mut mesh = tokio::select! {
        told = tell() => told?,
        asked = asked_to_end() => return asked.and(Err("ended by a signal".into())),
    };
    if args.keep {
        print_what_to_try(&mesh);
        asked_to_end().await?;
    }
    mesh.stop().await?;
    println!("Both sidecars drained and ended with exit code 0.");
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM.
async fn asked_to_end() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// All steps and their summary; the mesh still runs after them.
async fn tell() -> Result<Mesh> {
    println!(
        "A service with a client-side and a server-side Pillion, all as processes of their own."
    );
    let mut display = Display::new();
    let begin = Instant::now();
    let mut mesh = Mesh::start().await?;
    let told = tell_steps(&mut mesh, &mut display).await;
    let tally = told.map_err(|error| format!("{error}\n{}", mesh.sidecar_logs()))?;
    let tally = tally.borrow();
    summarize(&tally, begin);
    if tally.unexpected() > 0 {
        let failures = tally.failures.join("\n  ");
        let (count, logs) = (tally.unexpected(), mesh.sidecar_logs());
        return Err(format!("{count} requests failed:\n  {failures}\n{logs}").into());
    }
    Ok(mesh)
}

async fn tell_steps(mesh: &mut Mesh, display: &mut Display) -> Result<SharedTally> {
    let mut traffic: Traffic = story::configuration_arrives(mesh, display).await?;
    story::requests_spread(&traffic, display).await?;
    story::identities_are_proven(mesh, &traffic, display).await?;
    story::replica_dies(mesh, &traffic, display).await?;
    story::route_changes(mesh, &traffic, display).await?;
    story::endpoint_drains(mesh, &traffic, display).await?;
    story::zone_fails_over(mesh, &traffic, display).await?;
    traffic.stop().await;
    Ok(traffic.tally)
}

fn summarize(tally: &Tally, begin: Instant) {
    println!("\nSummary after {:.1} s", begin.elapsed().as_secs_f64());
    println!("   {}", tally.total);
    println!(
        "   {} failed between the death of v1-b and the update of the endpoints, {} at any other time.",
        tally.excused,
        tally.unexpected()
    );
}

/// The addresses, and lines to try.
fn print_what_to_try(mesh: &Mesh) {
    let (sidecar, api, [client, server]) = (mesh.address(), mesh.api.address, mesh.admin());
    let (node, routes) = (resources::CLIENT, resources::routes(&[("greeter-v2", 100)]));
    println!(
        "
Everything stays up until Ctrl-C. The control plane serves xDS on {}.
   curl -i http://{sidecar}/                 through both sidecars
   curl http://{client}/clusters          the client side's admin interface
   curl http://{server}/stats?usedonly    the server side's
   curl http://{client}/certs             whom the client side shows itself as, and whom it trusts
   curl -X POST http://{api}/identity/rotate   new certificates for both
   curl http://{api}/clients           what the sidecars are subscribed to
   curl -N http://{api}/events         every push and acknowledgement from now on
All requests to v2:
   curl -X PUT --data-binary @- 'http://{api}/resources?node={node}' <<'END'
{routes}END",
        mesh.xds
    );
}
