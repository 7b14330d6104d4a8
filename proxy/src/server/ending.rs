//! How the process is asked to end.

use std::io;
use std::rc::Rc;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::server::lifecycle::Lifecycle;

/// SIGTERM, SIGINT and `/quitquitquit`, from the moment when this is made.
pub struct Ending {
    terminate: Signal,
    interrupt: Signal,
    /// Agents send it to daemons; it means nothing here and must not end the process.
    hangup: Signal,
    lifecycle: Rc<Lifecycle>,
}

/// What the process is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM: to end.
    Terminate,
    /// SIGINT: to end.
    Interrupt,
    /// `/quitquitquit`: to end.
    Quit,
    /// SIGHUP
    Hangup,
    /// A signal that only an application can have a use for.
    Other(Number),
}

impl Ending {
    /// Takes the signals over.
    ///
    /// # Errors
    /// The system refuses to hand them over.
    pub fn new(lifecycle: Rc<Lifecycle>) -> io::Result<Self> {
        Ok(Ending {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            lifecycle,
        })
    }

    /// Waits until the process is asked to end, each time it is.
    pub async fn asked(&mut self) {
        while self.next().await == Asked::Hangup {}
    }

    /// The next thing that the process is asked.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.hangup.recv() => Asked::Hangup,
            () = self.lifecycle.asked_to_quit() => Asked::Quit,
        }
    }
}
