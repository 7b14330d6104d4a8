//! Reading the bootstrap: a file, a flag, or one merged over the other.
//!
//! Reading YAML and JSON takes the descriptors of Envoy's whole API: some 15 MB that a sidecar never needs again. So a
//! short-lived process of the same program reads them, and hands the bootstrap over in protobuf's binary form. No process
//! ever holds the whole of it in Rust's types: in a large mesh these take a hundred times the bytes.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use prost::Message;
use prost::bytes::Bytes;
use proto::envoy::config::bootstrap::v3::Bootstrap;
use proto::{Apart, ConfigFile, Document, Format, Parsed, Registry, Untyped, Violation};

use crate::config::bootstrap::BootstrapParts;

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
pub fn read_aside(args: &BootstrapArgs) -> Result<BootstrapParts, Box<dyn Error>> {
    let Some(output) = run_reader(args) else { return read(args) };
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(said.trim_end().trim_start_matches("error: ").into());
    }
    for warning in said.lines() {
        tracing::warn!("{warning}");
    }
    Ok(BootstrapParts::decode(Bytes::from(output.stdout))?)
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
    let written = read.and_then(|reading| {
        let mut out = std::io::stdout();
        out.write_all(&reading.parts.encode_to_vec())?;
        out.flush()?;
        // The process ends here: to take apart what it has read would only take time.
        std::mem::forget(reading);
        Ok(())
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
pub fn read(args: &BootstrapArgs) -> Result<BootstrapParts, Box<dyn Error>> {
    let warn = &mut |warning| tracing::warn!("{warning}");
    Ok(read_with(args, warn)?.parts)
}

/// The list that a large mesh makes long.
const CLUSTERS: &[&str] = &["static_resources", "clusters"];

/// A bootstrap, and what it was made of.
struct Reading {
    parts: BootstrapParts,
    _made_of: (Option<ConfigFile>, Option<Document>, Registry),
}

fn read_with(
    args: &BootstrapArgs,
    warn: &mut dyn FnMut(String),
) -> Result<Reading, Box<dyn Error>> {
    let loading = std::thread::spawn(Registry::load);
    let file = args.config_path.as_ref().map(|path| ConfigFile::read(path)).transpose()?;
    let text = args.config_yaml.as_ref().map(|text| Document::parse(Format::Yaml, text));
    let text = text.transpose()?;
    let registry = loading.join().map_err(|_| "the descriptors of the API cannot be loaded")?;
    let mut clusters = Apart::new(&registry, CLUSTERS);
    let base = file.as_ref();
    let base = base.map(|file| registry.untyped_file::<Bootstrap>(file, Some(&mut clusters)));
    let base = base.transpose()?.map(|parsed| settle(parsed, args, warn)).transpose()?;
    let over = text.as_ref();
    let over = over.map(|text| registry.untyped_without::<Bootstrap>(text, &mut clusters));
    let over = over.transpose()?.map(|parsed| settle(parsed, args, warn)).transpose()?;
    let rest = match (base, over) {
        (Some(mut base), Some(over)) => {
            base.merge(&over)?;
            base
        }
        (Some(message), None) | (None, Some(message)) => message,
        (None, None) => {
            let missing = "no configuration: give a bootstrap with --config-path or --config-yaml";
            return Err(missing.into());
        }
    };
    registry.validate_untyped(&rest).map_err(broken)?;
    let clusters = clusters.finish().map_err(broken)?;
    let parts = BootstrapParts {
        rest: rest.encode().into(),
        clusters: clusters.into_iter().map(Into::into).collect(),
    };
    Ok(Reading { parts, _made_of: (file, text, registry) })
}

/// Says which rules are broken.
fn broken(violations: Vec<Violation>) -> String {
    let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
    format!("the bootstrap breaks the API's rules:\n  {}", lines.join("\n  "))
}

/// Unknown fields are errors, unless they are allowed: then each is a warning.
fn settle(
    parsed: Parsed<Untyped>,
    args: &BootstrapArgs,
    warn: &mut dyn FnMut(String),
) -> Result<Untyped, proto::ParseError> {
    if !args.allow_unknown_static_fields {
        return parsed.strict();
    }
    for unknown in &parsed.unknown {
        warn(unknown.to_string());
    }
    Ok(parsed.message)
}
