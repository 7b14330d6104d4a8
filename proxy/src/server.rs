//! The process: the control thread, the workers, and how both end.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};

use crate::admin;
use crate::config::bootstrap::Bootstrap;
use crate::discovery::{Discovery, Environment, StateOptions};
use crate::downstream::build::Builder;
use crate::downstream::manager::ListenerManager;
use crate::drain;
use crate::http::worker::Identity;
use crate::server::application::Application;
use crate::server::control::Control;
use crate::server::ending::Ending;
use crate::server::hot_restart::{Estate, Parent, Restart, Sockets, Succession};
use crate::server::lifecycle::{Lifecycle, State};
use crate::server::stop::{Limits, stop};
use crate::server::workers::{Shared, Workers};
use crate::telemetry::log_level::LogLevels;
use crate::telemetry::log_writer::{LogWriter, LogWriterOptions};
use crate::telemetry::stats::Store;
use crate::upstream::cluster::ClusterRegistry;
use crate::upstream::cluster::resolve::SystemResolver;

pub mod application;
pub mod control;
mod ending;
pub mod hot_restart;
mod interface;
pub mod lifecycle;
mod memory;
mod stop;
pub mod workers;

/// How long access log lines may take to be written at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What the command line decides.
#[derive(Clone)]
pub struct Options {
    /// How many workers.
    pub workers: usize,
    /// How connections drain, and how long they get.
    pub drain: drain::Settings,
    /// How long connections are still taken once the process is asked to end.
    pub min_drain_time: Duration,
    /// Connections wait for listeners that get ready, instead of being refused.
    pub listen_early: bool,
    /// `--restart-epoch`
    pub restart_epoch: u32,
    /// Taking over from another process, and being taken over from; none takes part in no hot restart.
    pub hot_restart: Option<hot_restart::Options>,
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

impl Options {
    fn hot_restart_version(&self) -> String {
        match self.hot_restart {
            Some(_) => hot_restart::version(),
            None => "disabled".to_owned(),
        }
    }
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
    let lifecycle = Lifecycle::new(&store, options.workers, options.restart_epoch);
    let mut ending = Ending::new(Rc::clone(&lifecycle))?;
    let restart = match &options.hot_restart {
        Some(hot_restart) => hot_restart.begin(options.restart_epoch, &lifecycle)?,
        None => Restart::default(),
    };
    let logs = LogWriter::start(options.logs, &store)?;
    reopen_on_signal(logs.clone())?;
    let (listeners, _workers) = data_path(&bootstrap, options, &store, &registry, &logs)?;
    let estate = Estate::new(&listeners, &lifecycle, &store, options.restart_epoch);
    let Restart { acceptor, parent } = restart;
    if let Some(acceptor) = acceptor {
        spawn_local(hot_restart::wait(acceptor, Rc::clone(&estate)));
    }
    if let Some(parent) = &parent {
        listeners.borrow_mut().succeed(Sockets::of(parent));
    }
    let environment = Environment {
        store: Arc::clone(&store),
        registry: Arc::clone(&registry),
        listeners: Rc::clone(&listeners),
        resolver: Arc::new(SystemResolver::default()),
        state: options.state.clone(),
    };
    let discovery = Rc::new(Discovery::start(&bootstrap, environment.clone()));
    if let Some(config) = &bootstrap.admin {
        let shown =
            admin_context(&bootstrap, options, &environment, &discovery, &lifecycle, logs.clone());
        let path = options.admin_address_path.as_deref();
        interface::open(config, shown, parent.as_deref(), &estate, path)?;
    }
    tokio::select! {
        ready = discovery.initialized() => ready?,
        () = ending.asked() => return Ok(0),
    }
    lifecycle.set(State::Live);
    memory::release_code();
    let code = match options.init_only {
        true => 0,
        false => serve(options, &lifecycle, &listeners, &mut ending, parent).await?,
    };
    if !logs.flush(LAST_LINES) {
        tracing::warn!("access logs: lines that could not be written in time are lost");
    }
    Ok(code)
}

/// What the admin interface shows and changes.
fn admin_context(
    bootstrap: &Arc<Bootstrap>,
    options: &Options,
    environment: &Environment,
    discovery: &Rc<Discovery>,
    lifecycle: &Rc<Lifecycle>,
    logs: LogWriter,
) -> admin::Context {
    let Environment { store, registry, listeners, .. } = environment.clone();
    admin::Context {
        process: Control::new(lifecycle, &listeners, discovery, &store, options.drain.time),
        store,
        registry,
        listeners,
        discovery: Rc::clone(discovery),
        logs,
        log_levels: options.log_levels.clone(),
        bootstrap: Arc::clone(bootstrap),
        version: options.version.clone(),
        hot_restart_version: options.hot_restart_version(),
        command_line_options: options.command_line_options.clone(),
    }
}

/// Serves until the process is asked to end, or its application ends, and stops. Returns the exit code.
async fn serve(
    options: &Options,
    lifecycle: &Rc<Lifecycle>,
    listeners: &RefCell<ListenerManager>,
    ending: &mut Ending,
    parent: Option<Arc<Parent>>,
) -> io::Result<u8> {
    let succession = match (parent, &options.hot_restart) {
        (Some(parent), Some(options)) => Some(Succession::start(parent, lifecycle, options)),
        _ => None,
    };
    let code = match &options.application {
        Some(application) => application.start()?.ended(ending, lifecycle, listeners).await?,
        None => {
            ending.asked().await;
            0
        }
    };
    let limits = Limits { least: options.min_drain_time, most: options.drain.time };
    let parent_ends = async {
        if let Some(succession) = &succession {
            succession.finish().await;
        }
    };
    tokio::join!(stop(lifecycle, listeners, ending, limits), parent_ends);
    Ok(code)
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
        hand_off: Arc::default(),
    };
    let (workers, handles) = Workers::start(options.workers, &shared)?;
    let builder = Builder::new(Arc::clone(store), Arc::clone(registry), logs.clone())
        .with_runtime(bootstrap.runtime.clone());
    let Shared { hand_off, .. } = shared;
    let mut listeners = ListenerManager::new(builder, store, handles, hand_off, options.drain);
    listeners.listen_early(options.listen_early);
    listeners.stats.workers_started.set(1);
    Ok((Rc::new(RefCell::new(listeners)), workers))
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
