//! What a worker's downstream side holds, and the messages that reach it.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::{self, Rc};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::downstream::accept::Binding;
use crate::downstream::listener::Listener;
use crate::downstream::socket::{Acceptor, Socket};
use crate::http;

/// Listeners by the address that a redirected connection may be handed to.
pub type HandOffTable = HashMap<SocketAddr, Arc<Listener>>;

/// One worker, as its downstream connections see it.
pub struct Worker {
    /// What HTTP and TCP connections use.
    pub http: Rc<http::worker::Worker>,
    /// Shared by all workers, replaced when listeners change.
    hand_off: Arc<ArcSwap<HandOffTable>>,
    /// Ids are unique in the process: workers count in steps of their number.
    next_id: Cell<u64>,
    step: u64,
}

impl Worker {
    /// Worker `index` of `count`.
    pub fn new(
        http: Rc<http::worker::Worker>,
        hand_off: Arc<ArcSwap<HandOffTable>>,
        index: u64,
        count: u64,
    ) -> Self {
        Worker { http, hand_off, next_id: Cell::new(index + 1), step: count }
    }

    /// The listener for an original destination: with exactly this address, or with the wildcard address and this port.
    pub fn hand_off(&self, to: SocketAddr) -> Option<Arc<Listener>> {
        let table = self.hand_off.load();
        let wildcard = match to {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let found = table.get(&to).or_else(|| table.get(&(wildcard, to.port()).into()));
        found.cloned()
    }

    /// The next connection's id.
    pub fn next_connection_id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + self.step);
        id
    }
}

/// What the control thread asks of a worker.
pub enum Command {
    /// Accept connections on this socket until the binding stops.
    Accept(Socket, Arc<Binding>),
    /// Hand out the sockets of a binding once more, for another process.
    Duplicate(Arc<Binding>, oneshot::Sender<io::Result<Vec<OwnedFd>>>),
}

/// The way to one worker.
pub type WorkerHandle = mpsc::UnboundedSender<Command>;

/// The sockets that a worker accepts from.
#[derive(Default)]
pub struct Acceptors(Vec<(Weak<Binding>, rc::Weak<Acceptor>)>);

impl Acceptors {
    /// Takes a socket in for as long as it is accepted from.
    pub fn add(&mut self, binding: &Arc<Binding>, acceptor: &Rc<Acceptor>) {
        self.0.retain(|(_, acceptor)| acceptor.strong_count() > 0);
        self.0.push((Arc::downgrade(binding), Rc::downgrade(acceptor)));
    }

    /// The sockets of a binding once more.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn duplicate(&self, binding: &Arc<Binding>) -> io::Result<Vec<OwnedFd>> {
        let of = |(owner, acceptor): &(Weak<Binding>, rc::Weak<Acceptor>)| {
            acceptor.upgrade().filter(|_| std::ptr::eq(owner.as_ptr(), Arc::as_ptr(binding)))
        };
        self.0.iter().filter_map(of).map(|acceptor| acceptor.duplicate()).collect()
    }
}
