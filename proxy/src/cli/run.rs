//! Running the proxy: from flags and files to a bootstrap, and on to the server.

use std::process::ExitCode;
use std::time::Duration;

use proto::Registry;
use proto::envoy::config::bootstrap::v3 as pb;
use proto::envoy::config::core::v3::{Locality, Node};

use crate::cli::version::version;
use crate::cli::{Mode, RunArgs};
use crate::config::Context;
use crate::config::bootstrap::Bootstrap;
use crate::server::{self, Options};
use crate::telemetry::log_writer::LogWriterOptions;

/// Runs the proxy as the flags say; returns the process's exit code.
pub fn run(args: &RunArgs) -> ExitCode {
    if args.version {
        println!("\npillion  version: {}\n", version());
        return ExitCode::SUCCESS;
    }
    if args.hot_restart_version {
        println!("disabled");
        return ExitCode::SUCCESS;
    }
    match load_and_serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load_and_serve(args: &RunArgs) -> Result<(), Box<dyn std::error::Error>> {
    start_logging(args);
    let bootstrap = load(args)?;
    if args.mode == Mode::Validate {
        let name = args.config_path.as_ref().map_or_else(String::new, |p| p.display().to_string());
        println!("configuration '{name}' OK");
        return Ok(());
    }
    let options = Options {
        workers: args.concurrency.unwrap_or_else(default_workers).max(1),
        drain_time: Duration::from_secs(args.drain_time_s),
        logs: LogWriterOptions {
            flush_interval: Duration::from_millis(args.file_flush_interval_msec),
            flush_min_size: args.file_flush_min_size_kb as usize * 1024,
            ..LogWriterOptions::default()
        },
        init_only: args.mode == Mode::InitOnly,
    };
    server::run(bootstrap, &options)
}

/// What the CPU quota allows.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Reads the bootstrap from file and flags.
fn load(args: &RunArgs) -> Result<Bootstrap, Box<dyn std::error::Error>> {
    // The descriptors of Envoy's whole API take megabytes; they go when the bootstrap is read.
    let registry = Registry::load();
    let mut message = pb::Bootstrap::default();
    if let Some(path) = &args.config_path {
        let parsed = registry.read_file::<pb::Bootstrap>(path)?;
        message = settle(parsed, args)?;
    }
    if let Some(text) = &args.config_yaml {
        let over = settle(registry.parse(proto::Format::Yaml, text)?, args)?;
        proto::merge(&mut message, &over)?;
    }
    if args.config_path.is_none() && args.config_yaml.is_none() {
        return Err("no configuration: give a bootstrap with --config-path or --config-yaml".into());
    }
    registry.validate(&message).map_err(|violations| {
        let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
        format!("the bootstrap breaks the API's rules:\n  {}", lines.join("\n  "))
    })?;
    name_node(&mut message, args);
    let context = Context::default();
    let bootstrap = Bootstrap::from_proto(&message, &context)?;
    for warning in context.take_warnings() {
        tracing::warn!("{warning}");
    }
    Ok(bootstrap)
}

/// Unknown fields are errors, unless they are allowed: then each is a warning.
fn settle<T>(parsed: proto::Parsed<T>, args: &RunArgs) -> Result<T, proto::ParseError> {
    if !args.allow_unknown_static_fields {
        return parsed.strict();
    }
    for unknown in &parsed.unknown {
        tracing::warn!("{unknown}");
    }
    Ok(parsed.message)
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
fn start_logging(args: &RunArgs) {
    let level = match args.log_level.as_str() {
        "warning" => "warn",
        "critical" => "error",
        level => level,
    };
    let filter = tracing_subscriber::EnvFilter::new(level);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let file = args.log_path.as_ref().and_then(|path| {
        std::fs::OpenOptions::new().create(true).append(true).open(path).ok()
    });
    match file {
        Some(file) => builder.with_ansi(false).with_writer(std::sync::Mutex::new(file)).init(),
        None => builder.with_writer(std::io::stderr).init(),
    }
}
