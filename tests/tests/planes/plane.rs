//! A control plane as a process: snapshots go in, what clients answered comes out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use pillion_tests::programs::{free_address, in_path, tool};
use pillion_tests::scenario::until;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Whose control plane it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// go-control-plane
    Go,
    /// java-control-plane
    Java,
    /// grpcio and xds-protos
    Python,
}

impl Maker {
    /// Whether it can be started.
    pub fn is_there(self) -> bool {
        self.command().is_some()
    }

    fn command(self) -> Option<Command> {
        let with = |program: PathBuf, arguments: &[PathBuf]| {
            let mut command = Command::new(program);
            command.args(arguments);
            command
        };
        match self {
            Maker::Go => Some(with(tool("peers/go-control-plane")?, &[])),
            Maker::Java => {
                let jar = tool("peers/java-control-plane.jar")?;
                Some(with(in_path("java")?, &["-jar".into(), jar]))
            }
            Maker::Python => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/python/server.py");
                let packages = tool("peers/python/grpc/__init__.py")?;
                let mut command = with(in_path("python3")?, &[script.into()]);
                command.env("PYTHONPATH", packages.ancestors().nth(2)?);
                Some(command)
            }
        }
    }
}

/// What a client answered.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Reply {
    /// Type URL.
    #[serde(rename = "type")]
    pub type_url: String,
    /// The version that it has, or of the response that it answers.
    pub version: String,
    /// Why it refused; empty for an ACK.
    pub error: String,
}

/// A running control plane; it ends when dropped.
pub struct Plane {
    /// Its gRPC services.
    pub streams: SocketAddr,
    /// Its REST endpoints.
    pub polls: SocketAddr,
    snapshots: ChildStdin,
    replies: Arc<Mutex<Vec<Reply>>>,
    _process: Child,
}

impl Plane {
    /// Starts one, with its first snapshot, and waits until it listens.
    pub async fn start(maker: Maker, is_aggregated: bool, resources: &[Value]) -> Plane {
        let (streams, polls) = (free_address(), free_address());
        let mut command = maker.command().expect("the caller has looked for it");
        command.arg(format!("-grpc={streams}")).arg(format!("-rest={polls}"));
        command.arg(format!("-ads={is_aggregated}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{maker:?}: {error}"));
        let snapshots = process.stdin.take().expect("it is piped");
        let replies = Arc::default();
        tokio::spawn(collect(process.stdout.take().expect("it is piped"), Arc::clone(&replies)));
        let mut plane = Plane { streams, polls, snapshots, replies, _process: process };
        plane.serve("1", resources).await;
        while TcpStream::connect(streams).await.is_err() {
            let ended = plane._process.try_wait().expect("it is ours");
            assert!(ended.is_none(), "{maker:?}: {ended:?}");
            tokio::task::yield_now().await;
        }
        plane
    }

    /// Serves these resources and no others.
    pub async fn serve(&mut self, version: &str, resources: &[Value]) {
        let line = format!("{}\n", json!({"version": version, "resources": resources}));
        self.snapshots.write_all(line.as_bytes()).await.expect("it reads its input");
    }

    /// Waits for an answer to a type with which something is right.
    pub async fn wait_reply(&self, what: &str, is_right: impl Fn(&Reply) -> bool) {
        let replies = || self.replies.lock().expect("no reader panics");
        until(what, || replies().iter().any(&is_right)).await;
    }
}

async fn collect(output: ChildStdout, replies: Arc<Mutex<Vec<Reply>>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let reply = serde_json::from_str(&line);
        let reply = reply.unwrap_or_else(|error| panic!("{line}: {error}"));
        replies.lock().expect("no other reader panics").push(reply);
    }
}
