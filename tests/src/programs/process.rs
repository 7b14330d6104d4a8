//! A child process that is watched while it starts and ended when the guard is dropped.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::http::http_get;
use super::usage::Usage;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(1);
/// How long a process may take over an orderly end before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How much of a log is quoted in errors, in bytes.
const QUOTED: usize = 4_000;

/// What a started process must show before it counts as ready.
#[derive(Debug, Clone, Copy)]
pub enum Ready {
    /// Somebody accepts connections here.
    Port(SocketAddr),
    /// Envoy's admin interface is here and `/ready` answers 200 with `LIVE`.
    AdminLive(SocketAddr),
}

impl fmt::Display for Ready {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ready::Port(address) => write!(formatter, "a listener at {address}"),
            Ready::AdminLive(address) => write!(formatter, "LIVE from http://{address}/ready"),
        }
    }
}

impl Ready {
    fn holds(self) -> bool {
        match self {
            Ready::Port(address) => TcpStream::connect(address).is_ok(),
            Ready::AdminLive(address) => http_get(address, "/ready")
                .is_ok_and(|answer| answer.status == 200 && answer.body.trim() == "LIVE"),
        }
    }
}

/// Why a process is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program could not be started, or its log could not be written.
    #[error("{program}: cannot start: {source}")]
    Start {
        /// Name given to [`Process::spawn`].
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended while something was awaited from it.
    #[error("{program} ended with {status} instead of {awaited}; its log ends:\n{log}")]
    Ended {
        /// Name given to [`Process::spawn`].
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What was awaited.
        awaited: String,
        /// The end of its output.
        log: String,
    },
    /// The condition did not come true in time.
    #[error("{program}: still waiting for {awaited} after {waited:?}; its log ends:\n{log}")]
    TimedOut {
        /// Name given to [`Process::spawn`].
        program: String,
        /// What was awaited.
        awaited: String,
        /// How long.
        waited: Duration,
        /// The end of its output.
        log: String,
    },
}

/// A running program. Its standard output and error go to a file of its own; dropping it ends the process (SIGKILL)
/// and removes the file, after the end of the log was printed if the thread is panicking.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl Process {
    /// Starts `command`. `name` stands in errors.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Process, ProcessError> {
        let error = |source| ProcessError::Start { program: name.to_owned(), source };
        let log = log_path(name);
        let output = File::create(&log).map_err(error)?;
        command.stdin(Stdio::null()).stdout(output.try_clone().map_err(error)?).stderr(output);
        let started = Instant::now();
        let child = command.spawn().map_err(error)?;
        Ok(Process { name: name.to_owned(), child, log, started })
    }

    /// Waits for `ready`, at most `limit` from now; returns the time since the start of the process.
    pub fn wait_ready(&mut self, ready: Ready, limit: Duration) -> Result<Duration, ProcessError> {
        self.wait_until(&ready.to_string(), limit, || ready.holds())?;
        Ok(self.started.elapsed())
    }

    /// Waits for any condition, which errors call `awaited`. Fails early when the process ends.
    pub fn wait_until(
        &mut self,
        awaited: &str,
        limit: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> Result<(), ProcessError> {
        let begin = Instant::now();
        // The process is looked at first: another program on the same port must not pass for this one.
        while self.running(awaited)? && !condition() {
            if begin.elapsed() > limit {
                return Err(ProcessError::TimedOut {
                    program: self.name.clone(),
                    awaited: awaited.to_owned(),
                    waited: limit,
                    log: self.log_end(),
                });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus, ProcessError> {
        let begin = Instant::now();
        loop {
            let error = |source| ProcessError::Start { program: self.name.clone(), source };
            if let Some(status) = self.child.try_wait().map_err(error)? {
                return Ok(status);
            }
            if begin.elapsed() > limit {
                return Err(ProcessError::TimedOut {
                    program: self.name.clone(),
                    awaited: "its end".to_owned(),
                    waited: limit,
                    log: self.log_end(),
                });
            }
            thread::sleep(POLL);
        }
    }

    /// Asks for an orderly end (SIGTERM) and waits for it; a process that does not end in 5 s is killed on drop.
    pub fn terminate(&mut self) -> Result<ExitStatus, ProcessError> {
        self.signal("TERM")?;
        self.wait_exit(GRACE)
    }

    /// Sends the signal `name` as kill(1) calls it: `TERM`, `HUP`, `USR1`.
    pub fn signal(&self, name: &str) -> Result<(), ProcessError> {
        let error = |source| ProcessError::Start { program: "kill".to_owned(), source };
        Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status()
            .map_err(error)?;
        Ok(())
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time and memory so far.
    pub fn usage(&self) -> io::Result<Usage> {
        Usage::of(self.pid())
    }

    /// All output so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn running(&mut self, awaited: &str) -> Result<bool, ProcessError> {
        let error = |source| ProcessError::Start { program: self.name.clone(), source };
        match self.child.try_wait().map_err(error)? {
            None => Ok(true),
            Some(status) => Err(ProcessError::Ended {
                program: self.name.clone(),
                status,
                awaited: awaited.to_owned(),
                log: self.log_end(),
            }),
        }
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let start = log.ceil_char_boundary(log.len().saturating_sub(QUOTED));
        log[start..].to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already, and that is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the log of {} ends:\n{}", self.name, self.log_end());
        }
        let _ = fs::remove_file(&self.log);
    }
}

fn log_path(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::env::temp_dir().join(format!("pillion-tests-{}-{count}-{name}.log", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::{free_address, in_path};

    fn shell(script: &str) -> Process {
        Process::spawn("sh", Command::new(in_path("sh").unwrap()).args(["-c", script])).unwrap()
    }

    #[test]
    fn a_process_that_ends_early_is_reported_with_its_log() {
        let mut process = shell("echo no such file >&2; exit 3");
        let error =
            process.wait_ready(Ready::Port(free_address()), Duration::from_secs(20)).unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        assert!(error.to_string().contains("no such file"), "{error}");
    }

    #[test]
    fn waiting_ends_when_the_condition_comes_true() {
        let mut process = shell("echo up; exec sleep 60");
        let log = process.log.clone();
        process
            .wait_until("its log", Duration::from_secs(20), || {
                fs::read_to_string(&log).unwrap() == "up\n"
            })
            .unwrap();
    }

    #[test]
    fn dropping_ends_the_process_and_removes_its_log() {
        let process = shell("exec sleep 60");
        let (pid, log) = (process.pid(), process.log.clone());
        drop(process);
        assert!(Usage::of(pid).is_err());
        assert!(!log.exists());
    }

    #[test]
    fn an_orderly_end_is_waited_for() {
        let mut process = shell("exec sleep 60");
        assert!(!process.terminate().unwrap().success());
    }
}
