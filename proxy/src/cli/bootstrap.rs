//! Reading the bootstrap: a file, a flag, or one merged over the other.
//!
//! Reading YAML and JSON takes the descriptors of Envoy's whole API: some 15 MB that a sidecar never needs again. So a
//! short-lived process of the same program reads them, and hands the bootstrap over in protobuf's binary form.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use prost::Message;
use proto::envoy::config::bootstrap::v3::Bootstrap;
use proto::{Format, Parsed, Registry};

/// Where the bootstrap comes from.
#[derive(Args, Clone, Debug)]
pub struct BootstrapArgs {
    /// The bootstrap file (.yaml, .json, .pb).
    #[arg(short = 'c', long, value_name = "FILE")]
    pub config_path: Option<PathBuf>,
    /// A bootstrap in YAML or JSON, merged over the file.
    #[arg(long, value_name = "YAML")]
    pub config_yaml: Option<String>,
    /// Accept unknown fields in the bootstrap, with a warning each.
    #[arg(long, alias = "allow-unknown-fields")]
    pub allow_unknown_static_fields: bool,
}

/// Reads the bootstrap in a process of its own; in this one where that process cannot be started.
///
/// # Errors
/// What is wrong with the bootstrap, with its path and line.
pub fn read_aside(args: &BootstrapArgs) -> Result<Bootstrap, Box<dyn Error>> {
    let Some(output) = run_reader(args) else { return read(args) };
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(said.trim_end().trim_start_matches("error: ").into());
    }
    for warning in said.lines() {
        tracing::warn!("{warning}");
    }
    Ok(Bootstrap::decode(output.stdout.as_slice())?)
}

/// Runs `pillion read-bootstrap`; none if it cannot be started.
fn run_reader(args: &BootstrapArgs) -> Option<std::process::Output> {
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.arg("read-bootstrap").stdin(Stdio::null());
    if let Some(path) = &args.config_path {
        command.arg("--config-path").arg(path);
    }
    if let Some(yaml) = &args.config_yaml {
        command.arg("--config-yaml").arg(yaml);
    }
    if args.allow_unknown_static_fields {
        command.arg("--allow-unknown-static-fields");
    }
    command.output().ok()
}

/// `pillion read-bootstrap`: the bootstrap goes to standard output, warnings and errors to standard error.
pub fn print(args: &BootstrapArgs) -> ExitCode {
    let read = read_with(args, &mut |warning| eprintln!("{warning}"));
    let written = read.and_then(|bootstrap| {
        std::io::stdout().write_all(&bootstrap.encode_to_vec()).map_err(Into::into)
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the bootstrap in this process.
///
/// # Errors
/// What is wrong with the bootstrap, with its path and line.
pub fn read(args: &BootstrapArgs) -> Result<Bootstrap, Box<dyn Error>> {
    read_with(args, &mut |warning| tracing::warn!("{warning}"))
}

fn read_with(
    args: &BootstrapArgs,
    warn: &mut dyn FnMut(String),
) -> Result<Bootstrap, Box<dyn Error>> {
    let registry = Registry::load();
    let mut message = Bootstrap::default();
    if let Some(path) = &args.config_path {
        message = settle(registry.read_file::<Bootstrap>(path)?, args, warn)?;
    }
    if let Some(text) = &args.config_yaml {
        let over = settle(registry.parse(Format::Yaml, text)?, args, warn)?;
        proto::merge(&mut message, &over)?;
    }
    if args.config_path.is_none() && args.config_yaml.is_none() {
        return Err("no configuration: give a bootstrap with --config-path or --config-yaml".into());
    }
    registry.validate(&message).map_err(|violations| {
        let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
        format!("the bootstrap breaks the API's rules:\n  {}", lines.join("\n  "))
    })?;
    Ok(message)
}

/// Unknown fields are errors, unless they are allowed: then each is a warning.
fn settle<T>(
    parsed: Parsed<T>,
    args: &BootstrapArgs,
    warn: &mut dyn FnMut(String),
) -> Result<T, proto::ParseError> {
    if !args.allow_unknown_static_fields {
        return parsed.strict();
    }
    for unknown in &parsed.unknown {
        warn(unknown.to_string());
    }
    Ok(parsed.message)
}
