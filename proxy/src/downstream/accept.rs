//! Accepting connections on one worker.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::downstream::connection::{self, first_facts};
use crate::downstream::listener::Listener;
use crate::downstream::socket::Acceptor;
use crate::downstream::worker::Worker;
use crate::io::{Address, Stream};

/// Whether sockets are accepted from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accepting {
    /// Connections are taken.
    #[default]
    Open,
    /// Another process has the sockets too and takes what comes; they are kept in case that it dies.
    Paused,
    /// Never again: the sockets are closed, after what waits in them has been taken.
    Stopped,
    /// Never again: another process has the sockets, and takes what waits.
    Left,
}

impl Accepting {
    fn is_over(self) -> bool {
        matches!(self, Accepting::Stopped | Accepting::Left)
    }
}

/// Lets sockets be accepted from, or not.
#[derive(Debug, Default)]
pub struct Switch(watch::Sender<Accepting>);

impl Switch {
    /// What holds from now on. What is stopped stays so.
    pub fn set(&self, accepting: Accepting) {
        self.0.send_if_modified(|now| {
            let changes = !now.is_over() && *now != accepting;
            if changes {
                *now = accepting;
            }
            changes
        });
    }

    /// Ends accepting for good. Whoever has the sockets too goes on.
    pub fn stop(&self) {
        self.set(match self.get() {
            Accepting::Paused => Accepting::Left,
            _ => Accepting::Stopped,
        });
    }

    /// What holds now.
    pub fn get(&self) -> Accepting {
        *self.0.borrow()
    }

    /// Follows the switch.
    pub fn follow(&self) -> Follower {
        Follower(self.0.subscribe())
    }
}

/// Follows a [`Switch`].
pub struct Follower(watch::Receiver<Accepting>);

impl Follower {
    /// The next connection while the switch is open; none once it is stopped.
    pub async fn accept(
        &mut self,
        acceptor: &Acceptor,
    ) -> Option<io::Result<(Stream, Address, Address)>> {
        loop {
            let accepting = *self.0.borrow_and_update();
            let changed = self.0.changed();
            let changed = match accepting {
                Accepting::Stopped | Accepting::Left => return None,
                Accepting::Paused => changed.await,
                Accepting::Open => tokio::select! {
                    accepted = acceptor.accept() => return Some(accepted),
                    changed = changed => changed,
                },
            };
            // Whoever could open it again is gone.
            changed.ok()?;
        }
    }
}

/// A bound address with the listener that serves it now. An update of the listener keeps the sockets, so that no
/// connection is refused meanwhile.
pub struct Binding {
    /// The listener.
    pub listener: ArcSwap<Listener>,
    /// Whether workers accept.
    pub switch: Switch,
}

impl Binding {
    /// A binding that accepts.
    pub fn new(listener: Arc<Listener>) -> Arc<Self> {
        Arc::new(Binding { listener: ArcSwap::new(listener), switch: Switch::default() })
    }
}

/// Accepts until the binding stops.
pub async fn run(acceptor: Rc<Acceptor>, binding: Arc<Binding>, worker: Rc<Worker>) {
    let mut follower = binding.switch.follow();
    while let Some(accepted) = follower.accept(&acceptor).await {
        match accepted {
            Ok((stream, local, remote)) => start(stream, local, remote, &binding, &worker),
            Err(error) => survive(&error).await,
        }
    }
    if binding.switch.get() == Accepting::Left {
        return;
    }
    // Connections that the kernel has completed already would be reset with the socket.
    while let Some(Ok((stream, local, remote))) = ready(acceptor.accept()) {
        start(stream, local, remote, &binding, &worker);
    }
}

/// The future's output if it is ready at once.
fn ready<F: Future>(future: F) -> Option<F::Output> {
    futures_util::FutureExt::now_or_never(future)
}

fn start(stream: Stream, local: Address, remote: Address, binding: &Binding, worker: &Rc<Worker>) {
    let listener = binding.listener.load_full();
    let Some(slot) = listener.admit() else { return };
    let facts = first_facts(local, remote);
    tokio::task::spawn_local(connection::serve(stream, facts, slot, Rc::clone(worker)));
}

/// An error of `accept` never ends a listener. When descriptors or memory are short, it waits before it tries again.
async fn survive(error: &io::Error) {
    use rustix::io::Errno;
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    if code.is_some_and(|code| short.contains(&code)) {
        tracing::warn!(%error, "cannot accept connections; trying again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
