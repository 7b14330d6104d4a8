//! `pillion run -- COMMAND`: the proxy and its application as one.

use std::error::Error;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::cli::RunArgs;
use crate::cli::run;
use crate::intercept::namespace::{self, Namespace};
use crate::server::application::Application;

mod dns;

/// What shells say when a program cannot be executed.
const NOT_EXECUTED: u8 = 127;

/// `pillion run ... -- COMMAND`
#[derive(Args, Clone, Debug)]
pub struct ExecArgs {
    /// The proxy's own flags.
    #[command(flatten)]
    pub run: RunArgs,
    /// Run the application in a network namespace of its own, where what it sends comes to the proxy. Needs no rights
    /// where the kernel lets users make namespaces; leaves the host's rules alone.
    #[arg(long)]
    pub intercept: bool,
    /// With `--intercept`: a port at which the application listens on its loopback address. The proxy's connections to
    /// it are made inside.
    #[arg(long, value_name = "PORTS", value_delimiter = ',', requires = "intercept")]
    pub app_port: Vec<u16>,
    /// With `--intercept`: the port of the listener that takes what the application sends. Listeners whose
    /// `traffic_direction` is OUTBOUND bind inside.
    #[arg(long, default_value_t = 15001, value_name = "PORT")]
    pub outbound_port: u16,
    /// The application and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `pillion application`: what becomes the application.
#[derive(Args, Clone, Debug)]
pub struct ApplicationArgs {
    /// The helper whose namespaces it runs in.
    #[arg(long, value_name = "PID")]
    pub helper: Option<u32>,
    /// The application and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `pillion namespace`: the helper in the application's namespace.
#[derive(Args, Clone, Debug)]
pub struct NamespaceArgs {
    /// Where what the application sends is redirected.
    #[arg(long, value_name = "PORT")]
    pub outbound_port: u16,
}

/// Runs the proxy with its application; the exit code is the application's.
pub fn run(args: &ExecArgs) -> ExitCode {
    match prepare(args) {
        Ok(application) => run::run_with(&args.run, Some(application)),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the namespace, if one is wanted, and the command line that becomes the application.
fn prepare(args: &ExecArgs) -> Result<Application, Box<dyn Error>> {
    let mut command: Vec<OsString> = vec![std::env::current_exe()?.into(), "application".into()];
    if args.intercept {
        let helper = start_helper(args)?;
        command.extend(["--helper".into(), helper.to_string().into()]);
    }
    command.push("--".into());
    command.extend(args.command.iter().cloned());
    Ok(Application { command })
}

/// Starts the helper and waits until the namespace is there; returns the helper's process.
fn start_helper(args: &ExecArgs) -> Result<u32, Box<dyn Error>> {
    let (ours, theirs) = UnixStream::pair()?;
    let helper = Command::new(std::env::current_exe()?)
        .args(["namespace", "--outbound-port", &args.outbound_port.to_string()])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        // Keys at a terminal are for the application; the helper ends with the proxy.
        .process_group(0)
        .spawn()?;
    let namespace = Namespace::begin(ours, args.app_port.clone())
        .map_err(|error| format!("--intercept: {error}"))?;
    dns::start(namespace).map_err(|error| format!("--intercept: DNS: {error}"))?;
    Ok(helper.id())
}

/// `pillion namespace`
pub fn help_inside(args: &NamespaceArgs) -> ExitCode {
    let stdin = rustix::io::dup(std::io::stdin());
    let stream = stdin.map(UnixStream::from).map_err(Into::into);
    match stream.and_then(|stream| namespace::serve(stream, args.outbound_port)) {
        Ok(()) => ExitCode::SUCCESS,
        // The proxy has ended in the middle of a word: so does its helper.
        Err(_) => ExitCode::FAILURE,
    }
}

/// `pillion application`: enters the namespaces, sees to it that the application is told when the proxy dies, and becomes
/// the application.
pub fn become_application(args: &ApplicationArgs) -> ExitCode {
    let failed = |what: &str, error: &dyn Error| {
        eprintln!("error: {what}: {error}");
        ExitCode::from(NOT_EXECUTED)
    };
    if let Some(helper) = args.helper
        && let Err(error) = namespace::enter(helper)
    {
        return failed("cannot enter the application's namespace", &error);
    }
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return failed("cannot watch the proxy", &error);
    }
    let [program, arguments @ ..] = args.command.as_slice() else {
        return ExitCode::from(NOT_EXECUTED);
    };
    let error = Command::new(program).args(arguments).exec();
    failed(&program.display().to_string(), &error)
}
