//! `control-plane-mock`: serves a folder of resources to xDS clients.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use control_plane_mock::{API_HELP, ControlPlane, Events, IdentityOptions, Options, log};

/// Serves a folder of xDS resources to Pillion, Envoy and any other xDS v3 client, issues SPIFFE certificates and breaks things on
/// purpose.
///
/// Every file (.yaml, .yml, .json) holds one resource with its "@type", a list of them under "resources:", or several YAML documents.
/// What lies in nodes/<node.id>/ is for that node only. Files are followed: a change is pushed at once, a broken file is reported
/// and its last good content stays in service.
#[derive(Debug, Parser)]
#[command(version, after_long_help = API_HELP)]
struct Arguments {
    /// Folder of the resources to serve; without it, only what the HTTP API puts is served.
    #[arg(long, value_name = "DIR")]
    resources: Option<PathBuf>,
    /// Where to serve xDS (gRPC without TLS). Port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:18000")]
    listen: SocketAddr,
    /// Where to serve the HTTP API; nowhere without it. Port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS")]
    api: Option<SocketAddr>,
    /// Print events as JSON lines.
    #[arg(long)]
    json: bool,
    /// Trust domain of the SPIFFE certificates.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    trust_domain: String,
    /// Lifetime of a certificate in seconds. Certificates are issued anew when half of it is over.
    #[arg(long, value_name = "SECONDS", default_value_t = 24 * 3600, value_parser = clap::value_parser!(u64).range(1..))]
    certificate_lifetime: u64,
    /// Folder to keep the certificate authority in (ca.pem, ca.key); without it, a new one is made at every start.
    #[arg(long, value_name = "DIR")]
    ca_dir: Option<PathBuf>,
    /// Do not send the endpoints of a changed cluster again with it.
    #[arg(long)]
    no_endpoint_resend: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("control-plane-mock: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let options = Options {
        listen: arguments.listen,
        api_listen: arguments.api,
        identity: IdentityOptions {
            trust_domain: arguments.trust_domain,
            lifetime: Duration::from_secs(arguments.certificate_lifetime),
            ca_dir: arguments.ca_dir,
        },
        resend_endpoints: !arguments.no_endpoint_resend,
        load_interval: None,
    };
    let mut control_plane = ControlPlane::start(options).await?;
    announce(&control_plane, arguments.json);
    let printer = tokio::spawn(print(control_plane.events(), arguments.json));
    if let Some(folder) = arguments.resources {
        control_plane.serve_folder(folder).await?;
    }
    wait_for_signal().await?;
    control_plane.stop().await;
    printer.abort();
    Ok(())
}

/// Returns when the process is asked to end, by Ctrl-C or SIGTERM.
async fn wait_for_signal() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

/// Prints the addresses: the first line, which tests read when they asked for port 0.
fn announce(control_plane: &ControlPlane, json: bool) {
    let (xds, api) = (control_plane.addr(), control_plane.api_addr());
    if json {
        print_line(&serde_json::json!({"event": "listening", "xds": xds, "api": api}).to_string());
        return;
    }
    let api = api.map(|api| format!(", HTTP API on http://{api}")).unwrap_or_default();
    print_line(&format!("xDS on {xds}{api}"));
}

async fn print(mut events: Events, json: bool) {
    let start = Instant::now();
    while let Some(event) = events.next().await {
        if json {
            print_line(&log::to_json(&event).to_string());
        } else {
            let seconds = event.at.saturating_duration_since(start).as_secs_f64();
            print_line(&format!("{seconds:9.3}  {}", log::to_text(&event)));
        }
    }
}

/// A reader that has gone is no reason to stop serving.
fn print_line(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
