//! A program that runs beside the proxy: started when the proxy is ready, and the proxy ends with it.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal as Number, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::downstream::manager::ListenerManager;
use crate::drain::Phase;
use crate::server::ending::{Asked, Ending};
use crate::server::lifecycle::{Lifecycle, State};

/// A program with its arguments.
#[derive(Clone, Debug)]
pub struct Application {
    /// The program and its arguments; the program comes first.
    pub command: Vec<OsString>,
}

/// A program that was started.
pub(super) struct Running {
    child: Child,
    quit: Signal,
    first: Signal,
    second: Signal,
}

impl Application {
    /// Starts the program.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(&self) -> io::Result<Running> {
        let [program, arguments @ ..] = self.command.as_slice() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is given"));
        };
        let child = Command::new(program).args(arguments).spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", program.display()))
        })?;
        Ok(Running {
            child,
            quit: signal(SignalKind::quit())?,
            first: signal(SignalKind::user_defined1())?,
            second: signal(SignalKind::user_defined2())?,
        })
    }
}

impl Running {
    /// Waits until the program ends, and hands it the signals that the proxy gets meanwhile. From the first one that asks
    /// it to end, `/ready` fails and responses to those outside close their connections; the program itself still
    /// reaches everybody.
    pub(super) async fn ended(
        mut self,
        ending: &mut Ending,
        lifecycle: &Lifecycle,
        listeners: &RefCell<ListenerManager>,
    ) -> io::Result<u8> {
        // Whoever presses a key at a terminal signals the whole group, and so the program already.
        let by_terminal = io::stdin().is_terminal();
        loop {
            let asked = tokio::select! {
                status = self.child.wait() => return Ok(exit_code(status?)),
                asked = ending.next() => asked,
                _ = self.quit.recv() => Asked::Other(Number::QUIT),
                _ = self.first.recv() => Asked::Other(Number::USR1),
                _ = self.second.recv() => Asked::Other(Number::USR2),
            };
            let (number, ends, by_key) = match asked {
                Asked::Terminate | Asked::Quit => (Number::TERM, true, false),
                Asked::Interrupt => (Number::INT, true, true),
                Asked::Hangup => (Number::HUP, false, true),
                Asked::Other(number) => (number, false, number == Number::QUIT),
            };
            if ends {
                lifecycle.set(State::Draining);
                listeners.borrow().drain(Phase::Refusing, true);
            }
            if !(by_key && by_terminal) {
                self.send(number);
            }
        }
    }

    fn send(&self, number: Number) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // It may have ended just now, which `wait` tells.
            let _ = kill_process(pid, number);
        }
    }
}

/// As shells put it: the program's own code, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
