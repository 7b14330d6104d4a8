//! The demo's processes: this program again, under other commands.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a process may take to start or to end.
const LIMIT: Duration = Duration::from_secs(10);
/// How many lines of a log are quoted in errors.
const QUOTED: usize = 12;

/// Why a process is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started, watched or ended.
    #[error("{name}: {source}")]
    System {
        /// Its name in the demo.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// It did not say what it should.
    #[error("{name} did not print its address within {LIMIT:?}; its log ends:\n{log}")]
    Silent {
        /// Its name in the demo.
        name: String,
        /// The end of its log.
        log: String,
    },
    /// It does not end.
    #[error("{name} does not end within {LIMIT:?} after SIGTERM; its log ends:\n{log}")]
    Stuck {
        /// Its name in the demo.
        name: String,
        /// The end of its log.
        log: String,
    },
}

/// A child process; killed when dropped. What it writes to stderr goes to a file.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts this program with other arguments; its log goes into `folder`.
    ///
    /// # Errors
    /// The system says no.
    pub fn spawn(name: &str, arguments: &[&str], folder: &Path) -> Result<Self, ProcessError> {
        let log = folder.join(format!("{name}.log"));
        let spawn = || {
            Command::new(std::env::current_exe()?)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(File::create(&log)?)
                // Ctrl-C is for the director alone, which ends the others in order.
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
        };
        let error = |source| ProcessError::System { name: name.to_owned(), source };
        let child = spawn().map_err(error)?;
        Ok(Process { name: name.to_owned(), child, log })
    }

    /// Waits for the first line that it prints.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn first_line(&mut self) -> Result<String, ProcessError> {
        let mut line = String::new();
        if let Some(output) = self.child.stdout.take() {
            let mut output = BufReader::new(output);
            let read = timeout(LIMIT, output.read_line(&mut line)).await;
            read.unwrap_or(Ok(0)).map_err(|source| self.error(source))?;
        }
        match line.trim_end() {
            "" => Err(ProcessError::Silent { name: self.name.clone(), log: self.log_end() }),
            line => Ok(line.to_owned()),
        }
    }

    /// Its name in the demo.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Kills it (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// The system says no.
    pub async fn kill(&mut self) -> Result<(), ProcessError> {
        self.child.kill().await.map_err(|source| self.error(source))
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn terminate(&mut self) -> Result<ExitStatus, ProcessError> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id as i32)) {
            kill_process(pid, Signal::TERM).map_err(|error| self.error(error.into()))?;
        }
        match timeout(LIMIT, self.child.wait()).await {
            Ok(ended) => ended.map_err(|source| self.error(source)),
            Err(_) => Err(ProcessError::Stuck { name: self.name.clone(), log: self.log_end() }),
        }
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(QUOTED)..].join("\n")
    }

    fn error(&self, source: io::Error) -> ProcessError {
        ProcessError::System { name: self.name.clone(), source }
    }
}

/// A free port of the loopback address that stays ours until a child listens there: the socket is bound but does not
/// listen, so the kernel gives the port to nobody else, and a child may bind it beside us.
pub struct ReservedPort {
    _socket: Socket,
    /// The address.
    pub address: SocketAddr,
}

impl ReservedPort {
    /// Reserves a port.
    ///
    /// # Errors
    /// The system has none.
    pub fn new() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket().expect("an IPv4 socket has such an address");
        Ok(ReservedPort { _socket: socket, address })
    }
}
