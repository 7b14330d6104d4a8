//! The programs under comparison, and how each is told to do the same work.

pub mod envoy;
mod haproxy;
mod nginx;
pub mod relay;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use pillion_tests::programs::{self, Process, Ready, free_address};
use serde::Serialize;

use crate::Result;

/// Five thousand clusters take Envoy some seconds, and the machine may be busy.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Endpoints of each of [`Work::idle_clusters`].
pub const ENDPOINTS: usize = 10;

/// A program that stands between client and upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// This project.
    Pillion,
    /// Envoy, with the same configuration file as Pillion.
    Envoy,
    /// HAProxy.
    Haproxy,
    /// nginx, where it speaks the protocol on both sides.
    Nginx,
    /// [`relay`]: copies bytes and parses nothing.
    Relay,
}

/// What goes through the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 on both sides.
    Http1,
    /// HTTP/2 without TLS on both sides.
    Http2,
    /// As [`Protocol::Http2`], and every request is a unary gRPC call.
    Grpc,
    /// TCP connections; the bytes are those of HTTP/1.1.
    Tcp,
}

/// What a program is configured for.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Between client, program and upstream.
    pub protocol: Protocol,
    /// The one address that traffic goes to.
    pub upstream: SocketAddr,
    /// Further clusters (backends, upstream blocks) of [`ENDPOINTS`] endpoints that nobody calls.
    pub idle_clusters: usize,
}

/// A started program; dropping it ends it.
pub struct Running {
    /// Its process.
    pub process: Process,
    /// Where it takes traffic.
    pub address: SocketAddr,
    /// Its admin interface; where it takes traffic, if it has none.
    pub admin: SocketAddr,
    /// From the start of the process until it was ready.
    pub ready_after: Duration,
    /// Configuration; removed when this is dropped.
    _folder: Folder,
}

impl Program {
    /// The name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Program::Pillion => "pillion",
            Program::Envoy => "envoy",
            Program::Haproxy => "haproxy",
            Program::Nginx => "nginx",
            Program::Relay => "relay",
        }
    }

    /// The executable, when it is installed.
    pub fn find(self) -> Option<PathBuf> {
        match self {
            Program::Pillion => programs::find_pillion(),
            Program::Envoy => programs::envoy(),
            Program::Haproxy | Program::Nginx => programs::in_path(self.name()),
            Program::Relay => std::env::current_exe().ok(),
        }
    }

    /// One line that names the version.
    pub fn version(self) -> Option<String> {
        let flag = match self {
            Program::Pillion | Program::Envoy => "--version",
            Program::Haproxy | Program::Nginx => "-v",
            Program::Relay => return Some("a byte copy in this program".to_owned()),
        };
        let output = Command::new(self.find()?).arg(flag).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.rsplit_once("version: ").map_or(line, |(_, version)| version).to_owned())
    }

    /// Whether it reads Envoy's configuration and speaks xDS.
    pub fn speaks_xds(self) -> bool {
        matches!(self, Program::Pillion | Program::Envoy)
    }

    /// Whether it can do `work` at all.
    pub fn supports(self, work: &Work) -> bool {
        match self {
            Program::Pillion | Program::Envoy | Program::Haproxy => true,
            // No HTTP/2 towards upstreams other than gRPC; TCP needs a module that Debian ships apart.
            Program::Nginx => matches!(work.protocol, Protocol::Http1 | Protocol::Grpc),
            Program::Relay => work.idle_clusters == 0,
        }
    }

    /// Starts it for `work` with one worker and waits until it is ready.
    pub fn start(self, work: &Work) -> Result<Running> {
        if self.speaks_xds() {
            return self.start_with(|admin, listen| envoy::bootstrap(admin, listen, work));
        }
        let listen = free_address();
        let folder = Folder::new()?;
        let mut command = self.command()?;
        match self {
            Program::Haproxy => {
                let file = folder.write("haproxy.cfg", &haproxy::config(listen, work))?;
                command.arg("-db").arg("-f").arg(file);
            }
            Program::Nginx => {
                let file = folder.write("nginx.conf", &nginx::config(listen, work, &folder.0))?;
                command.arg("-p").arg(&folder.0).args(["-e", "stderr", "-c"]).arg(file);
            }
            _ => {
                command.args(["relay", &listen.to_string(), &work.upstream.to_string()]);
            }
        }
        self.spawn(command, folder, listen, Ready::Port(listen))
    }

    /// Starts Envoy or Pillion with the bootstrap for an admin interface and a listener at these addresses.
    pub fn start_with(
        self,
        bootstrap: impl FnOnce(SocketAddr, SocketAddr) -> serde_json::Value,
    ) -> Result<Running> {
        let (admin, listen) = (free_address(), free_address());
        self.start_with_bootstrap(&bootstrap(admin, listen), admin, listen)
    }

    /// Starts Envoy or Pillion with `bootstrap`, whose admin interface is at `admin` and listener at `listen`.
    pub fn start_with_bootstrap(
        self,
        bootstrap: &serde_json::Value,
        admin: SocketAddr,
        listen: SocketAddr,
    ) -> Result<Running> {
        let folder = Folder::new()?;
        let file = folder.write("bootstrap.yaml", &yaml_serde::to_string(bootstrap)?)?;
        let mut command = self.command()?;
        command.arg("-c").arg(file);
        command.args(["--concurrency", "1", "-l", "warning", "--use-dynamic-base-id"]);
        self.spawn(command, folder, listen, Ready::AdminLive(admin))
    }

    fn command(self) -> Result<Command> {
        let path = self.find().ok_or_else(|| format!("{} is not installed", self.name()))?;
        Ok(Command::new(path))
    }

    fn spawn(
        self,
        mut command: Command,
        folder: Folder,
        address: SocketAddr,
        ready: Ready,
    ) -> Result<Running> {
        let mut process = Process::spawn(self.name(), &mut command)?;
        let ready_after = process.wait_ready(ready, START_LIMIT)?;
        let (Ready::AdminLive(admin) | Ready::Port(admin)) = ready;
        Ok(Running { process, address, admin, ready_after, _folder: folder })
    }
}

/// A temporary folder that goes away with its guard.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pillion-bench-{}-{count}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0)?;
        Ok(folder)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Only a few small files in the temporary folder would stay.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Addresses of the endpoints of idle cluster `cluster`: private ones, each different.
pub fn idle_endpoints(cluster: usize) -> impl Iterator<Item = SocketAddr> {
    (0..ENDPOINTS).map(move |endpoint| {
        let [_, a, b, c] = u32::try_from(cluster * 16 + endpoint + 1)
            .expect("fewer clusters than 10.0.0.0/8 has room for")
            .to_be_bytes();
        SocketAddr::from(([10, a, b, c], 8080))
    })
}
