//! The data workers: a thread each, with a runtime of its own.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;

use crate::downstream::accept;
use crate::downstream::worker::{Acceptors, Command, HandOffTable, Worker, WorkerHandle};
use crate::http::worker::{Identity, Worker as HttpWorker};
use crate::upstream::cluster::ClusterRegistry;
use crate::upstream::pool::Pools;

/// What every worker shares.
#[derive(Clone)]
pub struct Shared {
    /// Every cluster.
    pub registry: Arc<ClusterRegistry>,
    /// Who this proxy is.
    pub identity: Arc<Identity>,
    /// Listeners for redirected connections.
    pub hand_off: Arc<ArcSwap<HandOffTable>>,
}

/// The threads. They end when every handle to them is dropped.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` workers.
    ///
    /// # Errors
    /// A thread or its runtime cannot be made.
    pub fn start(count: usize, shared: &Shared) -> io::Result<(Workers, Vec<WorkerHandle>)> {
        let mut threads = Vec::with_capacity(count);
        let mut handles = Vec::with_capacity(count);
        for index in 0..count {
            let (handle, commands) = mpsc::unbounded_channel();
            let shared = shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("worker_{index}"))
                .spawn(move || start(index, count, shared, commands))?;
            threads.push(thread);
            handles.push(handle);
        }
        Ok((Workers { threads }, handles))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }
}

/// Runs a worker on the current thread.
fn start(index: usize, count: usize, shared: Shared, commands: mpsc::UnboundedReceiver<Command>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(run(index, count, shared, commands)),
        Err(error) => tracing::error!(%error, worker = index, "cannot start a worker"),
    }
}

async fn run(
    index: usize,
    count: usize,
    shared: Shared,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let http = Rc::new(HttpWorker {
        pools: Pools::new(),
        registry: shared.registry,
        identity: shared.identity,
    });
    let worker = Rc::new(Worker::new(http, shared.hand_off, index as u64, count as u64));
    let mut acceptors = Acceptors::default();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Accept(socket, binding) => match socket.accept_here() {
                Ok(acceptor) => {
                    let acceptor = Rc::new(acceptor);
                    acceptors.add(&binding, &acceptor);
                    tokio::task::spawn_local(accept::run(acceptor, binding, Rc::clone(&worker)));
                }
                Err(error) => {
                    tracing::error!(%error, worker = index, "cannot accept connections");
                }
            },
            Command::Duplicate(binding, answer) => {
                // Nobody waits any more if the other process has given up.
                let _ = answer.send(acceptors.duplicate(&binding));
            }
        }
    }
}
