//! A sidecar under test: a process with its admin interface.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::block_in_place;

use super::config::merge;
use crate::programs::{HttpAnswer, Process, Ready, free_address, http_get, http_post, pillion};

/// How long anything may take before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// A running proxy. It ends when dropped. Its methods need tokio's multi-thread runtime.
pub struct Sidecar {
    /// The process.
    pub process: Process,
    /// Its admin interface.
    pub admin: SocketAddr,
}

impl Sidecar {
    /// Starts Pillion with two workers and waits until it is live.
    pub fn start(bootstrap: &Value, arguments: &[&str]) -> Sidecar {
        let mut sidecar = Self::spawn(&pillion(), bootstrap, arguments);
        sidecar.wait_live();
        sidecar
    }

    /// Starts a proxy that takes Envoy's flags, and does not wait. Without `--base-id`, it takes part in no hot restart.
    pub fn spawn(program: &Path, bootstrap: &Value, arguments: &[&str]) -> Sidecar {
        let mut all = vec!["--concurrency", "2", "-l", "warning"];
        if !arguments.contains(&"--base-id") {
            all.push("--disable-hot-restart");
        }
        all.extend(arguments);
        Self::spawn_at(free_address(), program, bootstrap, &all)
    }

    /// Starts a proxy with these flags and no others, whose admin interface is at `admin`, and does not wait.
    pub fn spawn_at(
        admin: SocketAddr,
        program: &Path,
        bootstrap: &Value,
        arguments: &[&str],
    ) -> Sidecar {
        let socket = json!({"address": admin.ip().to_string(), "port_value": admin.port()});
        let mut bootstrap = bootstrap.clone();
        merge(&mut bootstrap, &json!({"admin": {"address": {"socket_address": socket}}}));
        let mut command = Command::new(program);
        command.args(["--config-yaml", &bootstrap.to_string()]).args(arguments);
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let process = Process::spawn(&name, &mut command);
        Sidecar { process: process.unwrap_or_else(|error| panic!("{error}")), admin }
    }

    /// Waits until `/ready` says `LIVE`.
    pub fn wait_live(&mut self) {
        let ready = Ready::AdminLive(self.admin);
        let waited = block_in_place(|| self.process.wait_ready(ready, PATIENCE));
        waited.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let status = block_in_place(|| self.process.wait_exit(PATIENCE));
        status.unwrap_or_else(|error| panic!("{error}"))
    }

    /// `GET path` on the admin interface.
    pub fn get(&self, path: &str) -> HttpAnswer {
        block_in_place(|| http_get(self.admin, path)).unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    /// `POST path` on the admin interface.
    pub fn post(&self, path: &str) -> HttpAnswer {
        let answer = block_in_place(|| http_post(self.admin, path));
        answer.unwrap_or_else(|e| panic!("POST {path}: {e}"))
    }

    /// A counter or gauge; 0 if there is none of this name.
    pub fn stat(&self, name: &str) -> u64 {
        let text = self.get(&format!("/stats?filter=^{name}$")).body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map_or(0, |value| value.parse().unwrap_or_else(|e| panic!("{name}: {value:?}: {e}")))
    }

    /// Waits until a counter or gauge has this value.
    pub async fn wait_stat(&self, name: &str, value: u64) {
        until(&format!("{name} = {value}"), || self.stat(name) == value).await;
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.process.usage().unwrap_or_else(|e| panic!("{e}")).resident
    }

    /// CPU time so far.
    pub fn cpu(&self) -> Duration {
        self.process.usage().unwrap_or_else(|e| panic!("{e}")).cpu
    }
}

/// Waits for a condition, called `what` in the panic of a wait that takes too long.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(POLL).await;
        }
    });
    assert!(waited.await.is_ok(), "still waiting for {what} after {PATIENCE:?}");
}
