//! The process: the control thread, the workers, and how both end.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep};

use crate::admin;
use crate::config::access_log::LogSink;
use crate::config::bootstrap::{Admin, Bootstrap};
use crate::config::overload::OverloadManager;
use crate::discovery::{Discovery, Environment, StateOptions};
use crate::downstream::build::Builder;
use crate::downstream::manager::ListenerManager;
use crate::drain::Phase;
use crate::http::worker::Identity;
use crate::overload::Overload;
use crate::server::application::Application;
use crate::server::control::Control;
use crate::server::ending::Ending;
use crate::server::lifecycle::{Lifecycle, State};
use crate::server::workers::{Shared, Workers};
use crate::telemetry::log_level::LogLevels;
use crate::telemetry::log_writer::{LogWriter, LogWriterOptions};
use crate::telemetry::stats::Store;
use crate::upstream::cluster::ClusterRegistry;
use crate::upstream::cluster::resolve::SystemResolver;

pub mod application;
pub mod control;
mod ending;
pub mod lifecycle;
mod memory;
mod overload;
pub mod workers;

/// How long access log lines may take to be written at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

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
    /// Where the last good resources are kept; none keeps them nowhere.
    pub state: Option<StateOptions>,
    /// How access logs are buffered.
    pub logs: LogWriterOptions,
    /// The levels of log lines, to be changed by the admin interface.
    pub log_levels: LogLevels,
    /// The version, as `/server_info` tells it.
    pub version: String,
    /// The command line, as `/server_info` tells it.
    pub command_line_options: serde_json::Value,
    /// What runs beside the proxy, and ends it by its own end.
    pub application: Option<Application>,
}

/// Runs the proxy until it is told to end, or until its application ends. Returns the exit code: the application's, or 0.
///
/// # Errors
/// What kept it from starting.
pub fn run(bootstrap: Bootstrap, options: &Options) -> Result<u8, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, control(bootstrap, options))
}

async fn control(
    bootstrap: Bootstrap,
    options: &Options,
) -> Result<u8, Box<dyn std::error::Error>> {
    let bootstrap = Arc::new(bootstrap);
    let store = Arc::new(Store::default());
    let registry = ClusterRegistry::new(&store);
    if let (Some(cluster), Some(locality)) = (&bootstrap.local_cluster_name, bootstrap.locality()) {
        registry.set_local_zone(locality, cluster);
    }
    let lifecycle = Lifecycle::new(&store, options.workers);
    let mut ending = Ending::new(Rc::clone(&lifecycle))?;
    let logs = LogWriter::start(options.logs, &store)?;
    reopen_on_signal(logs.clone())?;
    let (listeners, _workers) = data_path(&bootstrap, options, &store, &registry, &logs)?;
    let environment = Environment {
        store: Arc::clone(&store),
        registry: Arc::clone(&registry),
        listeners: Rc::clone(&listeners),
        resolver: Arc::new(SystemResolver::default()),
        state: options.state.clone(),
    };
    let discovery = Rc::new(Discovery::start(&bootstrap, environment));
    if let Some(config) = &bootstrap.admin {
        let process = Control::new(&lifecycle, &listeners, &discovery, options.drain_time);
        let context = admin::Context {
            store,
            registry,
            listeners: Rc::clone(&listeners),
            discovery: Rc::clone(&discovery),
            logs: logs.clone(),
            log_levels: options.log_levels.clone(),
            bootstrap: Arc::clone(&bootstrap),
            process,
            version: options.version.clone(),
            command_line_options: options.command_line_options.clone(),
        };
        start_admin(config, context, options.admin_address_path.as_deref())?;
    }
    tokio::select! {
        ready = discovery.initialized() => ready?,
        () = ending.asked() => return Ok(0),
    }
    lifecycle.set(State::Live);
    memory::release_code();
    let mut code = 0;
    if !options.init_only {
        match &options.application {
            Some(application) => {
                code = application.start()?.ended(&mut ending, &lifecycle, &listeners).await?;
            }
            None => ending.asked().await,
        }
        drain(&lifecycle, &listeners, &mut ending, options.drain_time).await;
    }
    if !logs.flush(LAST_LINES) {
        tracing::warn!("access logs: lines that could not be written in time are lost");
    }
    Ok(code)
}

/// Starts the overload manager of the configuration, or the one that there is by default.
fn watch_overload(bootstrap: &Bootstrap, store: &Store) -> Arc<Overload> {
    let overload = Arc::new(Overload::default());
    let by_default = bootstrap.runtime.get("pillion.shed_at_memory_limit");
    let by_default = by_default.and_then(|value| value.as_bool()) != Some(false);
    let config = bootstrap.overload.clone();
    if let Some(config) = config.or_else(|| by_default.then(OverloadManager::by_default)) {
        overload::start(config, Arc::clone(&overload), store);
    }
    overload
}

/// Starts the workers, with no listener yet.
fn data_path(
    bootstrap: &Bootstrap,
    options: &Options,
    store: &Arc<Store>,
    registry: &Arc<ClusterRegistry>,
    logs: &LogWriter,
) -> io::Result<(Rc<RefCell<ListenerManager>>, Workers)> {
    let identity =
        Identity { cluster: bootstrap.node.cluster.clone(), id: bootstrap.node.id.clone() };
    let shared = Shared {
        registry: Arc::clone(registry),
        identity: Arc::new(identity),
        overload: watch_overload(bootstrap, store),
        hand_off: Arc::default(),
    };
    let (workers, handles) = Workers::start(options.workers, &shared)?;
    let builder = Builder::new(Arc::clone(store), Arc::clone(registry), logs.clone())
        .with_runtime(bootstrap.runtime.clone());
    let Shared { hand_off, .. } = shared;
    let listeners = ListenerManager::new(builder, store, handles, hand_off, options.drain_time);
    listeners.stats.workers_started.set(1);
    Ok((Rc::new(RefCell::new(listeners)), workers))
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

/// Fails `/ready`, lets connections finish, and returns once nothing is under way or the time is up. A second signal ends
/// it at once.
async fn drain(
    lifecycle: &Lifecycle,
    listeners: &RefCell<ListenerManager>,
    ending: &mut Ending,
    limit: Duration,
) {
    lifecycle.set(State::Draining);
    tracing::info!("draining: no new connections, waiting for what is under way");
    listeners.borrow_mut().stop(false);
    listeners.borrow().drain(Phase::Draining, false);
    let end = Instant::now() + limit;
    while listeners.borrow().active_streams() > 0 && Instant::now() < end {
        tokio::select! {
            () = sleep(Duration::from_millis(20)) => {}
            () = ending.asked() => {
                tracing::warn!("asked to end once more: what is under way is cut");
                break;
            }
        }
    }
    listeners.borrow().drain(Phase::Closing, false);
}
