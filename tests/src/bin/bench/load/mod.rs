//! Load generators, each a program of its own.

pub mod h2load;
pub mod wrk;

use std::path::PathBuf;
use std::process::Command;

use pillion_tests::programs::in_path;

use crate::Result;

/// What a load generator saw in one run.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Requests answered.
    pub requests: f64,
    /// Requests a second.
    pub rate: f64,
    /// Median latency in milliseconds.
    pub p50: f64,
    /// 99th percentile of latency in milliseconds.
    pub p99: f64,
}

fn find(name: &str) -> Result<PathBuf> {
    in_path(name).ok_or_else(|| format!("{name} is not installed: run .ci/install-tools").into())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!(
        "{command:?}: {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}

/// The first number that `pattern` captures in `text`.
fn number(text: &str, pattern: &str) -> Option<f64> {
    regex::Regex::new(pattern)
        .expect("a constant pattern")
        .captures(text)?
        .get(1)?
        .as_str()
        .parse()
        .ok()
}

/// As [`number`], where the load generator always prints it.
fn needed(text: &str, pattern: &str) -> Result<f64> {
    number(text, pattern)
        .ok_or_else(|| format!("no {pattern:?} in the load generator's output:\n{text}").into())
}
