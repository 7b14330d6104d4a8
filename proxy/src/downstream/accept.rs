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
use crate::overload::{CountedConnection, Overload, Point};

/// A bound address with the listener that serves it now. An update of the listener keeps the sockets, so that no
/// connection is refused meanwhile.
pub struct Binding {
    /// The listener.
    pub listener: ArcSwap<Listener>,
    stopped: watch::Sender<bool>,
}

impl Binding {
    /// A binding that accepts.
    pub fn new(listener: Arc<Listener>) -> Arc<Self> {
        Arc::new(Binding { listener: ArcSwap::new(listener), stopped: watch::Sender::new(false) })
    }

    /// Every worker stops accepting, after it has taken what waits already.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }
}

/// What `accept` gives.
type Accepted = io::Result<(Stream, Address, Address)>;

/// Accepts until the binding stops.
pub async fn run(acceptor: Acceptor, binding: Arc<Binding>, worker: Rc<Worker>) {
    let mut stopped = binding.stopped.subscribe();
    let mut paused = worker.http.overload.paused();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&acceptor, &mut paused) => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        match accepted {
            Ok((stream, local, remote)) => start(stream, local, remote, &binding, &worker),
            Err(error) => survive(&error).await,
        }
    }
    // Connections that the kernel has completed already would be reset with the socket.
    while let Some(Ok((stream, local, remote))) = ready(acceptor.accept()) {
        start(stream, local, remote, &binding, &worker);
    }
}

/// Accepts the next connection, but none while overload pauses listeners.
async fn accept(acceptor: &Acceptor, paused: &mut watch::Receiver<bool>) -> Accepted {
    loop {
        // The sender lives as long as the worker.
        let _ = paused.wait_for(|paused| !*paused).await;
        tokio::select! {
            biased;
            _ = paused.changed() => {}
            accepted = acceptor.accept() => return accepted,
        }
    }
}

/// The future's output if it is ready at once.
fn ready<F: Future>(future: F) -> Option<F::Output> {
    futures_util::FutureExt::now_or_never(future)
}

fn start(stream: Stream, local: Address, remote: Address, binding: &Binding, worker: &Rc<Worker>) {
    let listener = binding.listener.load_full();
    let Some(counted) = admit(&listener, &worker.http.overload) else { return };
    let Some(slot) = listener.admit(counted) else { return };
    let facts = first_facts(local, remote);
    tokio::task::spawn_local(connection::serve(stream, facts, slot, Rc::clone(worker)));
}

/// Whether overload lets a connection in; what counts it against the limit of the process.
fn admit(listener: &Listener, overload: &Arc<Overload>) -> Option<CountedConnection> {
    let counted = match listener.state.load().config.ignore_global_connection_limit {
        true => CountedConnection::default(),
        false => overload.count_connection().or_else(|| {
            listener.stats.downstream_global_cx_overflow.inc();
            None
        })?,
    };
    if overload.sheds(Point::TcpListenerAccept) || overload.reject_incoming_connections.hits() {
        listener.stats.downstream_cx_overload_reject.inc();
        return None;
    }
    Some(counted)
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
