//! The two programs under comparison, started alike.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::programs::{HttpAnswer, Process, ProcessError, Ready, http_get, http_post};

/// Both are ready within a fraction of a second, also on a busy machine.
const START: Duration = Duration::from_secs(20);

/// One of the two.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name for the reader.
    pub name: &'static str,
    /// The binary.
    pub path: PathBuf,
}

/// A folder of one run, removed in the end.
pub struct Folder(pub PathBuf);

impl Folder {
    /// Creates it.
    pub fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("pillion-case-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What came of a start.
pub enum Started {
    /// The program is live.
    Live(Process),
    /// It ended instead, with this log.
    Refused(String),
}

impl Program {
    /// Starts the program with a bootstrap and waits until it is live.
    pub async fn start(
        &self,
        bootstrap: &Value,
        admin: u16,
        folder: &Path,
    ) -> Result<Started, String> {
        let config = folder.join("bootstrap.json");
        let text = serde_json::to_vec_pretty(bootstrap).map_err(|e| e.to_string())?;
        fs::write(&config, text).map_err(|e| format!("{}: {e}", config.display()))?;
        let mut command = Command::new(&self.path);
        command.arg("-c").arg(config).args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "-l",
            "warning",
        ]);
        command.args(["--file-flush-interval-msec", "10"]);
        let name = self.name;
        let started = tokio::task::spawn_blocking(move || {
            let mut process = Process::spawn(name, &mut command)?;
            process.wait_ready(Ready::AdminLive(address(admin)), START)?;
            Ok(process)
        });
        match started.await.map_err(|e| e.to_string())? {
            Ok(process) => Ok(Started::Live(process)),
            // Ended by a signal, it has crashed.
            Err(ProcessError::Ended { status, log, .. }) if status.code().is_some() => {
                Ok(Started::Refused(log))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Asks the admin port; `request` is `GET /path` or `POST /path`.
pub async fn admin(port: u16, request: &str) -> Result<HttpAnswer, String> {
    let (method, path) = request
        .split_once(' ')
        .ok_or_else(|| format!("{request}: a method and a path are needed"))?;
    let (post, path) = (method == "POST", path.to_owned());
    let asked = tokio::task::spawn_blocking(move || match post {
        true => http_post(address(port), &path),
        false => http_get(address(port), &path),
    });
    asked.await.map_err(|e| e.to_string())?.map_err(|e| format!("{request}: {e}"))
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
