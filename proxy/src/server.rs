//! The process: the control thread, the workers, and how both end.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use crate::config::bootstrap::Bootstrap;
use crate::downstream::build::Builder;
use crate::downstream::manager::ListenerManager;
use crate::drain::Phase;
use crate::http::worker::Identity;
use crate::server::lifecycle::{Lifecycle, State};
use crate::server::workers::{Shared, Workers};
use crate::telemetry::log_writer::{LogWriter, LogWriterOptions};
use crate::telemetry::stats::Store;
use crate::tls::ServerContexts;
use crate::upstream::cluster::ClusterRegistry;

pub mod lifecycle;
pub mod workers;

/// What the command line decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many workers.
    pub workers: usize,
    /// How long connections get to end.
    pub drain_time: Duration,
    /// How access logs are buffered.
    pub logs: LogWriterOptions,
    /// Set everything up, then end.
    pub init_only: bool,
}

/// Runs the proxy until it is told to end.
///
/// # Errors
/// What kept it from starting.
pub fn run(bootstrap: Bootstrap, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, control(bootstrap, options))
}

async fn control(
    bootstrap: Bootstrap,
    options: &Options,
) -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(Store::default());
    let registry = ClusterRegistry::new(&store);
    let lifecycle = Lifecycle::new(&store, options.workers);
    let hand_off = Arc::new(ArcSwap::from_pointee(std::collections::HashMap::new()));
    let identity = Identity {
        cluster: bootstrap.node.cluster.clone(),
        id: bootstrap.node.id.clone(),
    };
    let shared = Shared {
        registry: Arc::clone(&registry),
        identity: Arc::new(identity),
        hand_off: Arc::clone(&hand_off),
    };
    let (_workers, handles) = Workers::start(options.workers, &shared)?;
    let builder = Builder::new(
        Arc::clone(&store),
        Arc::clone(&registry),
        LogWriter::start(options.logs, &store)?,
        ServerContexts::default(),
    );
    let listeners = ListenerManager::new(builder, &store, handles, hand_off, options.drain_time);
    let listeners = Rc::new(RefCell::new(listeners));
    let mut clusters = Vec::new();
    for (config, _) in &bootstrap.clusters {
        let cluster = crate::upstream::cluster::Cluster::new(Arc::clone(config), &store, None);
        clusters.push(cluster);
    }
    registry.put(clusters);
    for (config, _) in &bootstrap.listeners {
        let mut listeners = listeners.borrow_mut();
        let state = listeners.builder.state(Arc::clone(config), None, &mut |_, _| Arc::default())?;
        listeners.install(state, false)?;
    }
    lifecycle.set(State::Live);
    if options.init_only {
        return Ok(());
    }
    wait_for_end(&lifecycle).await?;
    drain(&lifecycle, &listeners, options.drain_time).await;
    Ok(())
}

/// Waits for SIGTERM, SIGINT or `/quitquitquit`.
async fn wait_for_end(lifecycle: &Lifecycle) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Agents send it to daemons; it means nothing here and must not end the process.
    let _hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = lifecycle.asked_to_quit() => {}
    }
    Ok(())
}

/// Fails `/ready`, lets connections finish, and returns once nothing is under way or the time is up. A second signal ends
/// it at once.
async fn drain(lifecycle: &Lifecycle, listeners: &RefCell<ListenerManager>, limit: Duration) {
    lifecycle.set(State::Draining);
    tracing::info!("draining: no new connections, waiting for what is under way");
    listeners.borrow_mut().stop(false);
    listeners.borrow().drain(Phase::Draining, false);
    let end = Instant::now() + limit;
    while listeners.borrow().active_streams() > 0 && Instant::now() < end {
        let again = tokio::select! {
            () = sleep(Duration::from_millis(20)) => true,
            ended = wait_for_end(lifecycle) => ended.is_err(),
        };
        if !again {
            tracing::warn!("asked to end once more: what is under way is cut");
            break;
        }
    }
    listeners.borrow().drain(Phase::Closing, false);
}
