//! Listening sockets that go from one process to the next, without a moment in which nobody listens.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Bound, ListenerManager};
use crate::downstream::accept::{Accepting, Binding};
use crate::downstream::worker::Command;
use crate::io::Address;

/// The process whose listeners this one takes over.
pub trait Predecessor {
    /// Its sockets that are bound to this address; none if it has none.
    fn sockets(&self, address: &Address) -> Vec<OwnedFd>;
    /// This process listens on the address no longer, so that the other one must not either.
    fn release(&self, address: &Address);
}

/// Sockets on their way from the workers to another process.
pub struct Shared(Vec<oneshot::Receiver<io::Result<Vec<OwnedFd>>>>);

impl Shared {
    /// All of them, worker by worker.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub async fn sockets(self) -> io::Result<Vec<OwnedFd>> {
        let mut all = Vec::new();
        for answer in self.0 {
            // A worker that is gone means that the process ends.
            all.extend(answer.await.unwrap_or_else(|_| Ok(Vec::new()))?);
        }
        Ok(all)
    }
}

impl ListenerManager {
    /// Takes sockets from this process instead of binding anew, where it has them.
    pub fn succeed(&mut self, predecessor: Rc<dyn Predecessor>) {
        self.predecessor = Some(predecessor);
    }

    /// The sockets of the process before for an address. Port 0 is another port each time.
    pub(super) fn inherited(&self, address: &Address) -> Vec<OwnedFd> {
        match &self.predecessor {
            Some(predecessor) if address.port() != Some(0) => predecessor.sockets(address),
            _ => Vec::new(),
        }
    }

    /// Ends accepting on an address for good.
    pub(super) fn close(&self, bound: &Bound) {
        if let Some(predecessor) = &self.predecessor {
            predecessor.release(&bound.bound);
        }
        bound.binding.switch.stop();
    }

    /// The sockets that are bound to an address, for the process that comes after.
    pub fn share(&self, address: &Address) -> Shared {
        let ask = |binding: &Arc<Binding>| {
            let binding = Arc::clone(binding);
            self.workers.iter().filter_map(move |worker| {
                let (answer, answered) = oneshot::channel();
                let asked = worker.send(Command::Duplicate(Arc::clone(&binding), answer));
                asked.ok().map(|()| answered)
            })
        };
        Shared(self.bindings(address).flat_map(ask).collect())
    }

    /// Another process accepts from now on. The sockets stay open, should it die.
    pub fn hand_over(&mut self) {
        self.is_handed_over = true;
        self.switch_all(Accepting::Paused);
        self.refuse(false);
    }

    /// The other process is gone: everything is as before.
    pub fn take_back(&mut self) {
        self.is_handed_over = false;
        self.switch_all(Accepting::Open);
        self.resume();
    }

    /// The other process, which has the sockets, listens on the address no longer.
    pub fn release(&self, address: &Address) {
        let handed = self.bindings(address).filter(|b| b.switch.get() == Accepting::Paused);
        handed.for_each(|binding| binding.switch.set(Accepting::Stopped));
    }

    /// How many connections are open.
    pub fn active_connections(&self) -> u64 {
        let listeners = self.active.values().map(|active| &active.listener);
        listeners.map(|listener| listener.stats.downstream_cx_active.get()).sum()
    }

    fn bindings(&self, address: &Address) -> impl Iterator<Item = &Arc<Binding>> {
        let bound = self.active.values().flat_map(|active| &active.bindings);
        bound.filter(move |bound| bound.bound == *address).map(|bound| &bound.binding)
    }

    fn switch_all(&self, accepting: Accepting) {
        for bound in self.active.values().flat_map(|active| &active.bindings) {
            bound.binding.switch.set(accepting);
        }
    }
}
