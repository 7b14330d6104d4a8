//! Hot restart: a new process takes the listening sockets of an old one over, so that no connection is refused.
//!
//! Each process with hot restart waits at a unix socket, whose name holds the base id and the epoch, for the one that
//! comes after it. That one asks for each listening socket as it needs it, and so shares the queue of connections that
//! wait. Once it serves, the old process stops accepting and asks its clients to go by closing connections after
//! responses; it ends when nobody is left, or when the new process says so after `--parent-shutdown-time-s`.
//! Counters are carried on; gauges are each process's own, except that `server.total_connections` counts both's.

use std::fs::{Permissions, set_permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::Notify;
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::downstream::socket::{self, Acceptor};
use crate::io::Address;
use crate::server::lifecycle::Lifecycle;

mod message;
mod parent;
mod successor;

pub use parent::{Parent, Sockets};
pub use successor::{Estate, wait};

/// How often the old process is asked what it has counted.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How long an old process that does not answer may take over SIGTERM before it gets SIGKILL.
const LAST_WORD: Duration = Duration::from_secs(3);
/// How many numbers are tried for `--use-dynamic-base-id`.
const ATTEMPTS: u32 = 1000;

/// The version of hot restart, as agents compare it.
pub fn version() -> String {
    format!("pillion.{}", message::PROTOCOL)
}

/// What the command line says about hot restart.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--base-id`; none was given.
    pub base_id: Option<u32>,
    /// `--use-dynamic-base-id`
    pub dynamic_base_id: bool,
    /// `--base-id-path`
    pub base_id_path: Option<PathBuf>,
    /// `--socket-path`
    pub socket_path: PathBuf,
    /// `--socket-mode`
    pub socket_mode: u32,
    /// `--parent-shutdown-time-s`
    pub parent_shutdown_time: Duration,
    /// `--skip-hot-restart-on-no-parent`: that there is no old process is no reason to warn.
    pub may_have_no_parent: bool,
    /// `--skip-hot-restart-parent-stats`
    pub skip_parent_stats: bool,
}

/// What was found at the start.
#[derive(Default)]
pub struct Restart {
    /// Where the process that comes after will be heard.
    pub acceptor: Option<Acceptor>,
    /// The process before.
    pub parent: Option<Arc<Parent>>,
}

impl Options {
    /// The unix socket at which a process of this epoch waits for the next one.
    fn path(&self, base_id: u32, epoch: u32) -> PathBuf {
        let mut path = self.socket_path.clone().into_os_string();
        path.push(format!("_{base_id}_{epoch}"));
        path.into()
    }

    /// Takes a place for the process that comes after, and finds the one before.
    ///
    /// # Errors
    /// Another proxy has the base id; or a file or the socket cannot be made.
    pub fn begin(&self, epoch: u32, lifecycle: &Lifecycle) -> io::Result<Restart> {
        let (base_id, acceptor) = match self.dynamic_base_id {
            true => self.choose(epoch)?,
            false => (self.base_id.unwrap_or(0), self.bind(self.base_id.unwrap_or(0), epoch)?),
        };
        if let Some(path) = &self.base_id_path {
            std::fs::write(path, base_id.to_string()).map_err(|error| {
                io::Error::new(error.kind(), format!("--base-id-path {}: {error}", path.display()))
            })?;
        }
        let parent = match epoch.checked_sub(1) {
            None => None,
            Some(before) => self.find_parent(&self.path(base_id, before), epoch, lifecycle),
        };
        Ok(Restart { acceptor, parent })
    }

    /// A base id that nobody has.
    fn choose(&self, epoch: u32) -> io::Result<(u32, Option<Acceptor>)> {
        for _ in 0..ATTEMPTS {
            let base_id = fastrand::u32(1..);
            match self.bind_at(&self.path(base_id, epoch)) {
                Ok(acceptor) => return Ok((base_id, Some(acceptor))),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("--use-dynamic-base-id: no free base id"))
    }

    fn bind(&self, base_id: u32, epoch: u32) -> io::Result<Option<Acceptor>> {
        let path = self.path(base_id, epoch);
        let error = match self.bind_at(&path) {
            Ok(acceptor) => return Ok(Some(acceptor)),
            Err(error) => error,
        };
        // Several proxies on a host without these flags are none of each other's business.
        if self.base_id.is_none() && epoch == 0 && error.kind() == io::ErrorKind::AddrInUse {
            tracing::info!(
                "no hot restart: another proxy has base id 0; --base-id keeps them apart"
            );
            return Ok(None);
        }
        let what = format!(
            "hot restart: cannot listen on '{}' (base id {base_id}, epoch {epoch}): {error}; give each proxy a --base-id \
             and each restart the next --restart-epoch, or --disable-hot-restart",
            path.display()
        );
        Err(io::Error::new(error.kind(), what))
    }

    fn bind_at(&self, path: &Path) -> io::Result<Acceptor> {
        let acceptor = socket::bind_plain(&Address::Pipe(path.into()))?.accept_here()?;
        if !path.as_os_str().as_encoded_bytes().starts_with(b"@") {
            set_permissions(path, Permissions::from_mode(self.socket_mode))?;
        }
        Ok(acceptor)
    }

    fn find_parent(&self, path: &Path, epoch: u32, lifecycle: &Lifecycle) -> Option<Arc<Parent>> {
        let parent = match Parent::find(path) {
            Ok(parent) => parent,
            Err(error) if self.may_have_no_parent => {
                tracing::info!(%error, "hot restart: no old process at '{}'", path.display());
                return None;
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    "hot restart: no old process at '{}'; this one binds its listeners itself",
                    path.display()
                );
                return None;
            }
        };
        match parent.greet(epoch) {
            Ok(welcome) => lifecycle.inherit(welcome.started, welcome.generation),
            Err(error) => tracing::warn!(
                %error,
                "hot restart: the old process hands nothing over; listeners bind beside it, and it is told to end \
                 after --parent-shutdown-time-s"
            ),
        }
        Some(Arc::new(parent))
    }
}

/// What the new process has to do with the old one while both run.
pub struct Succession {
    parent: Arc<Parent>,
    lifecycle: Rc<Lifecycle>,
    parent_shutdown_time: Duration,
    skip_parent_stats: bool,
    at_once: Notify,
    over: Notify,
}

impl Succession {
    /// This process serves: the old one drains from now on, and ends in time.
    pub fn start(parent: Arc<Parent>, lifecycle: &Rc<Lifecycle>, options: &Options) -> Rc<Self> {
        let succession = Rc::new(Succession {
            parent,
            lifecycle: Rc::clone(lifecycle),
            parent_shutdown_time: options.parent_shutdown_time,
            skip_parent_stats: options.skip_parent_stats,
            at_once: Notify::new(),
            over: Notify::new(),
        });
        spawn_local(Rc::clone(&succession).run());
        succession
    }

    /// Ends the old process at once, as far as it lets itself be ended.
    pub async fn finish(&self) {
        self.at_once.notify_one();
        let _ = timeout(2 * LAST_WORD, self.over.notified()).await;
    }

    async fn run(self: Rc<Self>) {
        let end = Instant::now() + self.parent_shutdown_time;
        // One that does not answer is found out by its silence.
        let _ = self.of_parent(Parent::drain).await;
        let is_time = self.accompany(end).await;
        if self.parent.answers() {
            self.parent.leave();
        } else {
            if !is_time {
                self.is_time(end, end).await;
            }
            self.put_down().await;
        }
        self.lifecycle.stats.parent_connections.set(0);
        self.over.notify_one();
    }

    /// Takes over what the old process counts, until it has ended or answers no more. Says whether its time is up.
    async fn accompany(&self, end: Instant) -> bool {
        loop {
            let is_time = self.is_time(end.min(Instant::now() + REPORT_INTERVAL), end).await;
            let ask = if is_time { Parent::terminate } else { Parent::report };
            let Ok(report) = self.of_parent(ask).await else { return is_time };
            self.lifecycle.stats.parent_connections.set(report.connections);
            if !self.skip_parent_stats {
                self.lifecycle.inherited.borrow_mut().learn(report.counts);
            }
            if report.over {
                return is_time;
            }
        }
    }

    /// Ends an old process that does not answer.
    async fn put_down(&self) {
        if self.parent.signal(Signal::TERM) {
            tracing::warn!("hot restart: the old process does not answer; it is told to end");
            sleep(LAST_WORD).await;
            if self.parent.signal(Signal::KILL) {
                tracing::warn!("hot restart: the old process did not end; it is killed");
            }
        }
    }

    /// Waits until then; whether the old process must end now.
    async fn is_time(&self, until: Instant, end: Instant) -> bool {
        tokio::select! {
            () = sleep_until(until) => Instant::now() >= end,
            () = self.at_once.notified() => true,
            () = self.lifecycle.succeeded() => true,
        }
    }

    /// Asks the old process without holding up the thread.
    async fn of_parent<T: Send + 'static>(
        &self,
        ask: fn(&Parent) -> io::Result<T>,
    ) -> io::Result<T> {
        let parent = Arc::clone(&self.parent);
        spawn_blocking(move || ask(&parent)).await.map_err(io::Error::other)?
    }
}
