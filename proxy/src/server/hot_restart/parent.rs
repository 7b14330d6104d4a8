//! The old process, as the new one sees it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, Signal, getuid, pidfd_open, pidfd_send_signal};

use super::message::{self, Answer, Ask, MAX_ANSWER, PROTOCOL};
use crate::downstream::manager::Predecessor;
use crate::io::{Address, descriptor};
use crate::telemetry::stats::Counts;

/// The old process answers each question at once, unless it hangs.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// The old process.
pub struct Parent {
    /// None once it is known to answer no more.
    stream: Mutex<Option<UnixStream>>,
    process: OwnedFd,
}

/// What the old process tells about itself.
#[derive(Clone, Copy, Debug)]
pub struct Welcome {
    /// When the process of the first epoch started, in seconds since 1970.
    pub started: u64,
    /// How many processes there were before this one.
    pub generation: u64,
}

/// What the old process has counted.
pub struct Report {
    /// Its counters.
    pub counts: Counts,
    /// Its open connections.
    pub connections: u64,
    /// It has ended.
    pub over: bool,
}

impl Parent {
    /// Finds the old process at a unix socket.
    ///
    /// # Errors
    /// There is none, or it runs as another user.
    pub fn find(path: &Path) -> io::Result<Parent> {
        let stream = match path.as_os_str().as_bytes().strip_prefix(b"@") {
            Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            None => UnixStream::connect(path)?,
        };
        let owner = socket_peercred(&stream)?;
        if owner.uid != getuid() && !owner.uid.is_root() {
            return Err(io::Error::other(format!("user {} listens there", owner.uid.as_raw())));
        }
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        stream.set_write_timeout(Some(ANSWER_TIME))?;
        let process = pidfd_open(owner.pid, PidfdFlags::empty())?;
        Ok(Parent { stream: Mutex::new(Some(stream)), process })
    }

    /// Begins the take-over.
    ///
    /// # Errors
    /// The old process refuses it, or does not answer. It is asked nothing more then.
    pub fn greet(&self, epoch: u32) -> io::Result<Welcome> {
        let answer = self.ask(&Ask::Hello { protocol: PROTOCOL, epoch })?;
        let why = match answer {
            Answer::Welcome { started, generation } => return Ok(Welcome { started, generation }),
            Answer::Refused { reason } => reason,
            other => format!("it answers {other:?}"),
        };
        self.leave();
        Err(io::Error::other(why))
    }

    /// Whether it still answers.
    pub fn answers(&self) -> bool {
        self.stream.lock().is_some()
    }

    /// It has ended, or may be forgotten.
    pub fn leave(&self) {
        *self.stream.lock() = None;
    }

    /// Asks, and gives it up if there is no answer.
    fn ask(&self, ask: &Ask) -> io::Result<Answer> {
        self.converse(|stream| {
            message::write(stream, ask)?;
            message::read(stream, MAX_ANSWER)
        })
    }

    fn converse<T>(&self, talk: impl FnOnce(&UnixStream) -> io::Result<T>) -> io::Result<T> {
        let mut stream = self.stream.lock();
        let Some(open) = &*stream else { return Err(io::ErrorKind::NotConnected.into()) };
        let result = talk(open);
        if let Err(error) = &result {
            let hangs = error.kind() == io::ErrorKind::WouldBlock;
            let what = if hangs { "it hangs" } else { "it is gone" };
            tracing::warn!(%error, "hot restart: the old process does not answer: {what}");
            *stream = None;
        }
        result
    }

    fn take(&self, ask: &Ask) -> Vec<OwnedFd> {
        let taken = self.converse(|stream| {
            message::write(stream, ask)?;
            let Answer::Sockets { count } = message::read(stream, MAX_ANSWER)? else {
                return Ok(Vec::new());
            };
            (0..count).map(|_| descriptor::receive(stream.as_fd())).collect()
        });
        taken.unwrap_or_default()
    }

    /// The socket of its admin interface, which it serves no longer.
    pub fn admin(&self) -> Option<OwnedFd> {
        self.take(&Ask::Admin).pop()
    }

    /// It stops accepting and drains.
    ///
    /// # Errors
    /// It does not answer.
    pub fn drain(&self) -> io::Result<()> {
        self.ask(&Ask::Drain).map(drop)
    }

    /// What it has counted.
    ///
    /// # Errors
    /// It does not answer.
    pub fn report(&self) -> io::Result<Report> {
        Self::reported(self.ask(&Ask::Stats)?)
    }

    /// It ends; what it has counted to the last.
    ///
    /// # Errors
    /// It does not answer.
    pub fn terminate(&self) -> io::Result<Report> {
        Self::reported(self.ask(&Ask::Terminate)?)
    }

    fn reported(answer: Answer) -> io::Result<Report> {
        match answer {
            Answer::Stats { counts, connections, over } => Ok(Report { counts, connections, over }),
            other => Err(io::Error::other(format!("it answers {other:?}"))),
        }
    }

    /// Sends it a signal, where it does not answer. False if it is gone.
    pub fn signal(&self, signal: Signal) -> bool {
        pidfd_send_signal(&self.process, signal).is_ok()
    }
}

/// The old process, where listeners ask for their sockets.
pub struct Sockets(Arc<Parent>);

impl Predecessor for Sockets {
    fn sockets(&self, address: &Address) -> Vec<OwnedFd> {
        self.0.take(&Ask::Sockets { address: address.to_string() })
    }

    fn release(&self, address: &Address) {
        // One that is gone has released everything.
        let _ = self.0.ask(&Ask::Release { address: address.to_string() });
    }
}

impl Sockets {
    /// For the listener manager.
    pub fn of(parent: &Arc<Parent>) -> Rc<dyn Predecessor> {
        Rc::new(Sockets(Arc::clone(parent)))
    }
}
