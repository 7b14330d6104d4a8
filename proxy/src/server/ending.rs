//! How the process is asked to end.

use std::io;
use std::rc::Rc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::server::lifecycle::Lifecycle;

/// SIGTERM, SIGINT and `/quitquitquit`, from the moment when this is made.
pub struct Ending {
    terminate: Signal,
    interrupt: Signal,
    /// Agents send it to daemons; it means nothing here and must not end the process.
    _hangup: Signal,
    lifecycle: Rc<Lifecycle>,
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
            _hangup: signal(SignalKind::hangup())?,
            lifecycle,
        })
    }

    /// Waits until the process is asked to end, each time it is.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = self.lifecycle.asked_to_quit() => {}
        }
    }
}
