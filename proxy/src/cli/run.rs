//! Running the proxy: from flags and files to a bootstrap, and on to the server.

use std::process::ExitCode;
use std::time::Duration;

use prost::Message;
use proto::envoy::config::bootstrap::v3 as pb;
use proto::envoy::config::core::v3::{Locality, Node};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::server_info::command_line_options;
use crate::cli::version::version;
use crate::cli::{DrainStrategy, Mode, RunArgs, bootstrap};
use crate::config::Context;
use crate::config::bootstrap::Bootstrap;
use crate::discovery::StateOptions;
use crate::drain;
use crate::http::filters;
use crate::server::application::Application;
use crate::server::{self, Options, hot_restart};
use crate::telemetry::log_level::{Level, LogLevels, UnknownLogger};
use crate::telemetry::log_writer::LogWriterOptions;

/// Runs the proxy as the flags say; returns the process's exit code.
pub fn run(args: &RunArgs) -> ExitCode {
    run_with(args, None)
}

/// As [`run`], with an application beside the proxy, whose exit code it is then.
pub fn run_with(args: &RunArgs, application: Option<Application>) -> ExitCode {
    if args.version {
        println!("\npillion  version: {}\n", version());
        return ExitCode::SUCCESS;
    }
    if args.hot_restart_version {
        match args.disable_hot_restart {
            true => println!("disabled"),
            false => println!("{}", hot_restart::version()),
        }
        return ExitCode::SUCCESS;
    }
    match load_and_serve(args, application) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load_and_serve(
    args: &RunArgs,
    application: Option<Application>,
) -> Result<u8, Box<dyn std::error::Error>> {
    let log_levels = start_logging(args)?;
    let bootstrap = load(args)?;
    if args.mode == Mode::Validate {
        let name = args
            .bootstrap
            .config_path
            .as_ref()
            .map_or_else(String::new, |p| p.display().to_string());
        println!("configuration '{name}' OK");
        return Ok(0);
    }
    let workers = args.concurrency.unwrap_or_else(default_workers).max(1);
    let hot_restart = hot_restart(args, application.is_some())?;
    let options = Options {
        workers,
        drain: drain::Settings {
            time: Duration::from_secs(args.drain_time_s),
            strategy: match args.drain_strategy {
                DrainStrategy::Gradual => drain::Strategy::Gradual,
                DrainStrategy::Immediate => drain::Strategy::Immediate,
            },
        },
        min_drain_time: Duration::from_secs(args.min_drain_time_s),
        listen_early: args.listen_early,
        restart_epoch: args.restart_epoch,
        hot_restart,
        init_only: args.mode == Mode::InitOnly,
        admin_address_path: args.admin_address_path.clone(),
        state: state(args),
        logs: LogWriterOptions {
            flush_interval: Duration::from_millis(args.file_flush_interval_msec),
            flush_min_size: usize::try_from(args.file_flush_min_size_kb.saturating_mul(1024))
                .unwrap_or(usize::MAX),
            ..LogWriterOptions::default()
        },
        log_levels,
        version: version(),
        command_line_options: command_line_options(args, workers),
        application,
    };
    server::run(bootstrap, &options)
}

/// How the process takes part in hot restarts. One with an application ends with it and cannot be replaced.
fn hot_restart(
    args: &RunArgs,
    has_application: bool,
) -> Result<Option<hot_restart::Options>, String> {
    if args.restart_epoch > 0 && args.use_dynamic_base_id {
        let epoch = args.restart_epoch;
        return Err(format!("cannot use --restart-epoch={epoch} with --use-dynamic-base-id"));
    }
    if args.restart_epoch > 0 && (args.disable_hot_restart || has_application) {
        return Err(format!("--restart-epoch {}: hot restart is off", args.restart_epoch));
    }
    if args.disable_hot_restart || has_application || args.mode != Mode::Serve {
        return Ok(None);
    }
    Ok(Some(hot_restart::Options {
        base_id: args.base_id,
        dynamic_base_id: args.use_dynamic_base_id,
        base_id_path: args.base_id_path.clone(),
        socket_path: args.socket_path.clone(),
        socket_mode: args.socket_mode,
        parent_shutdown_time: Duration::from_secs(args.parent_shutdown_time_s),
        may_have_no_parent: args.skip_hot_restart_on_no_parent,
        skip_parent_stats: args.skip_hot_restart_parent_stats,
    }))
}

/// Where the last good resources are kept, if anywhere.
fn state(args: &RunArgs) -> Option<StateOptions> {
    let folder = args.state_dir.clone();
    let folder = folder.or_else(|| std::env::var_os("PILLION_STATE_DIR").map(Into::into));
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty())?;
    Some(StateOptions { folder, grace: Duration::from_secs(args.state_grace_s) })
}

/// What the CPU quota allows.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Reads the bootstrap from file and flags.
fn load(args: &RunArgs) -> Result<Bootstrap, Box<dyn std::error::Error>> {
    let parts = match args.mode {
        Mode::Serve => bootstrap::read_aside(&args.bootstrap)?,
        Mode::Validate | Mode::InitOnly => bootstrap::read(&args.bootstrap)?,
    };
    let mut message = pb::Bootstrap::decode(parts.rest)?;
    name_node(&mut message, args);
    let context = Context::with_http_filters(&filters::Table);
    let bootstrap = Bootstrap::from_parts(&message, parts.clusters, &context)?;
    for warning in context.take_warnings() {
        tracing::warn!("{warning}");
    }
    Ok(bootstrap)
}

/// Puts the command line's identity over the file's.
fn name_node(message: &mut pb::Bootstrap, args: &RunArgs) {
    let node = message.node.get_or_insert_with(Node::default);
    if let Some(id) = &args.service_node {
        node.id.clone_from(id);
    }
    if let Some(cluster) = &args.service_cluster {
        node.cluster.clone_from(cluster);
    }
    if let Some(zone) = &args.service_zone {
        node.locality.get_or_insert_with(Locality::default).zone.clone_from(zone);
    }
}

/// Log lines go to stderr, or to `--log-path`.
fn start_logging(args: &RunArgs) -> Result<LogLevels, String> {
    let level =
        |name: &str| Level::parse(name).ok_or_else(|| format!("unknown log level '{name}'"));
    let (levels, filter) = LogLevels::new(level(&args.log_level)?);
    let lines = tracing_subscriber::fmt::layer().with_target(false);
    let filtered = tracing_subscriber::registry().with(filter);
    match &args.log_path {
        Some(path) => {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(|error| format!("--log-path {}: {error}", path.display()))?;
            let lines = lines.with_ansi(false).with_writer(std::sync::Mutex::new(file));
            filtered.with(lines).init();
        }
        None => filtered.with(lines.with_writer(std::io::stderr)).init(),
    }
    let components = args.component_log_level.as_deref().unwrap_or_default();
    for component in components.split(',').filter(|component| !component.is_empty()) {
        let pair = component.split_once(':');
        let (name, wanted) = pair.ok_or_else(|| format!("'{component}' is no <logger>:<level>"))?;
        if let Err(UnknownLogger) = levels.set(&[(name, level(wanted)?)]) {
            // Envoy has more loggers, and agents name some of them.
            tracing::debug!("--component-log-level: there is no logger '{name}'");
        }
    }
    Ok(levels)
}
