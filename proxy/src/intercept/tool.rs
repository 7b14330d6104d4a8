//! Running the system's programs.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where administrators' programs are when the PATH lacks them.
const ADMIN_FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Why a program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not installed.
    #[error("`{0}` is neither in the PATH nor in /usr/sbin; {hint}", hint = package(.0))]
    Missing(&'static str),
    /// It could not be run.
    #[error("cannot run `{command}`: {source}")]
    Run {
        /// Program and arguments.
        command: String,
        /// What the system says.
        source: io::Error,
    },
    /// It failed.
    #[error("`{command}` failed: {said}")]
    Failed {
        /// Program and arguments.
        command: String,
        /// What it wrote to stderr.
        said: String,
    },
}

/// What to install.
fn package(program: &str) -> &'static str {
    match program {
        "nft" => "install nftables",
        "ip" => "install iproute2",
        _ => "install iptables",
    }
}

/// Where a program is.
pub fn find(program: &'static str) -> Result<PathBuf, ToolError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(ADMIN_FOLDERS.iter().map(PathBuf::from));
    let mut files = folders.map(|folder| folder.join(program));
    files.find(|file| file.is_file()).ok_or(ToolError::Missing(program))
}

/// Runs a program with `input` on its standard input; returns its standard output.
pub fn run(program: &'static str, args: &[&str], input: &str) -> Result<String, ToolError> {
    run_at(&find(program)?, args, input)
}

fn run_at(path: &Path, args: &[&str], input: &str) -> Result<String, ToolError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let command = || [&[&*name], args].concat().join(" ");
    let failed = |source| ToolError::Run { command: command(), source };
    let mut child = Command::new(path)
        .args(args)
        // Messages are quoted and looked at: they must not be translated.
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything says why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(ToolError::Failed { command: command(), said })
}
