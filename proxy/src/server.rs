//! The process: the control thread, the workers, and how both end.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep};

use crate::admin;
use crate::config::access_log::LogSink;
use crate::config::bootstrap::{Admin, Bootstrap};
use crate::downstream::build::Builder;
use crate::downstream::manager::ListenerManager;
use crate::drain::Phase;
use crate::http::worker::Identity;
use crate::server::control::Control;
use crate::server::lifecycle::{Lifecycle, State};
use crate::server::workers::{Shared, Workers};
use crate::telemetry::log_level::LogLevels;
use crate::telemetry::log_writer::{LogWriter, LogWriterOptions};
use crate::telemetry::stats::Store;
use crate::tls::ServerContexts;
use crate::upstream::cluster::ClusterRegistry;

pub mod control;
pub mod lifecycle;
pub mod workers;

/// What the command line decides.
#[derive(Clone)]
pub struct Options {
    /// How many workers.
    pub workers: usize,
    /// How long connections get to end.
    pub drain_time: Duration,
    /// Set everything up, then end.
    pub init_only: bool,
    /// Where to write the address that the admin interface is bound to.
    pub admin_address_path: Option<PathBuf>,
    /// How access logs are buffered.
    pub logs: LogWriterOptions,
    /// The levels of log lines, to be changed by the admin interface.
    pub log_levels: LogLevels,
    /// The version, as `/server_info` tells it.
    pub version: String,
    /// The command line, as `/server_info` tells it.
    pub command_line_options: serde_json::Value,
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
    let bootstrap = Arc::new(bootstrap);
    let store = Arc::new(Store::default());
    let registry = ClusterRegistry::new(&store);
    let lifecycle = Lifecycle::new(&store, options.workers);
    let hand_off = Arc::new(ArcSwap::from_pointee(std::collections::HashMap::new()));
    let identity =
        Identity { cluster: bootstrap.node.cluster.clone(), id: bootstrap.node.id.clone() };
    let shared = Shared {
        registry: Arc::clone(&registry),
        identity: Arc::new(identity),
        hand_off: Arc::clone(&hand_off),
    };
    let (_workers, handles) = Workers::start(options.workers, &shared)?;
    let logs = LogWriter::start(options.logs, &store)?;
    let builder = Builder::new(
        Arc::clone(&store),
        Arc::clone(&registry),
        logs.clone(),
        ServerContexts::default(),
    )
    .with_runtime(bootstrap.runtime.clone());
    let listeners = ListenerManager::new(builder, &store, handles, hand_off, options.drain_time);
    listeners.stats.workers_started.set(1);
    let listeners = Rc::new(RefCell::new(listeners));
    reopen_on_signal(logs.clone())?;
    let context = admin::Context {
        store: Arc::clone(&store),
        registry: Arc::clone(&registry),
        listeners: Rc::clone(&listeners),
        logs,
        log_levels: options.log_levels.clone(),
        bootstrap: Arc::clone(&bootstrap),
        process: Control::new(Rc::clone(&lifecycle), Rc::clone(&listeners), options.drain_time),
        version: options.version.clone(),
        command_line_options: options.command_line_options.clone(),
    };
    if let Some(config) = &bootstrap.admin {
        start_admin(config, context, options.admin_address_path.as_deref())?;
    }
    let mut clusters = Vec::new();
    for (config, _) in &bootstrap.clusters {
        let cluster = crate::upstream::cluster::Cluster::new(Arc::clone(config), &store, None);
        clusters.push(cluster);
    }
    registry.put(clusters);
    for (config, _) in &bootstrap.listeners {
        let mut listeners = listeners.borrow_mut();
        let state =
            listeners.builder.state(Arc::clone(config), None, &mut |_, _| Arc::default())?;
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

/// Opens the admin interface and tells where it is.
fn start_admin(config: &Admin, context: admin::Context, path: Option<&Path>) -> io::Result<()> {
    let nowhere = LogSink::File("/dev/null".into());
    if config.access_log.iter().any(|log| log.sink != nowhere) {
        tracing::warn!("admin.access_log: requests of the admin interface are not logged");
    }
    let address = admin::start(&config.address, context).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("admin.address: cannot bind '{}': {error}", config.address),
        )
    })?;
    tracing::info!("admin interface on {address}");
    if let Some(path) = path {
        std::fs::write(path, address.to_string()).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("--admin-address-path {}: {error}", path.display()),
            )
        })?;
    }
    Ok(())
}

/// Opens access logs anew at every SIGUSR1, for log rotation.
fn reopen_on_signal(logs: LogWriter) -> io::Result<()> {
    let mut signals = signal(SignalKind::user_defined1())?;
    spawn_local(async move {
        while signals.recv().await.is_some() {
            logs.reopen();
        }
    });
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
