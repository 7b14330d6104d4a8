//! The process's state, and how it ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::stat_group;
use crate::telemetry::stats::{Inherited, Store};

stat_group! {
    /// `server.`
    pub struct ServerStats {
        gauge state,
        gauge live,
        gauge uptime,
        gauge concurrency,
        gauge version,
        gauge hot_restart_epoch,
        gauge hot_restart_generation,
        gauge total_connections,
        gauge parent_connections,
        gauge days_until_first_cert_expiring,
        gauge memory_allocated,
        gauge memory_heap_size,
        gauge memory_physical_size,
        histogram initialization_time_ms,
        counter static_unknown_fields,
        counter dynamic_unknown_fields,
    }
}

/// The server's state, numbered as `server.state` and `ServerInfo.State` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Serving.
    Live = 0,
    /// `/healthcheck/fail`, or about to end.
    Draining = 1,
    /// Static clusters are not ready yet.
    PreInitializing = 2,
    /// Waiting for the first resources.
    Initializing = 3,
}

impl State {
    /// As `/ready` and `/server_info` print it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Live => "LIVE",
            State::Draining => "DRAINING",
            State::PreInitializing => "PRE_INITIALIZING",
            State::Initializing => "INITIALIZING",
        }
    }
}

/// The process's state. Lives on the control thread.
pub struct Lifecycle {
    state: Cell<State>,
    failed: Cell<bool>,
    quit: Notify,
    successor: Notify,
    is_retired: Cell<bool>,
    started: Instant,
    /// When the process started, in seconds since 1970.
    pub start_epoch: u64,
    /// When the first of the processes that came one after the other by hot restarts started.
    first_start: Cell<u64>,
    /// What the process before has counted.
    pub inherited: RefCell<Inherited>,
    /// `server.`
    pub stats: Arc<ServerStats>,
}

impl Lifecycle {
    /// A process that starts now with so many workers, the one of this epoch (`--restart-epoch`).
    pub fn new(store: &Store, workers: usize, epoch: u32) -> Rc<Self> {
        let stats = store.register(ServerStats::new("server."));
        stats.concurrency.set(workers as u64);
        stats.hot_restart_epoch.set(epoch.into());
        stats.hot_restart_generation.set(1);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let lifecycle = Lifecycle {
            state: Cell::new(State::PreInitializing),
            failed: Cell::new(false),
            quit: Notify::new(),
            successor: Notify::new(),
            is_retired: Cell::new(false),
            started: Instant::now(),
            start_epoch: since.as_secs(),
            first_start: Cell::new(since.as_secs()),
            inherited: RefCell::default(),
            stats,
        };
        lifecycle.set(State::PreInitializing);
        Rc::new(lifecycle)
    }

    /// Moves to a state. A process that drains never comes back to life.
    pub fn set(&self, state: State) {
        if self.state.get() == State::Draining {
            return;
        }
        self.state.set(state);
        if state == State::Live {
            self.stats.initialization_time_ms.record(self.started.elapsed().as_millis() as u64);
        }
        self.publish();
    }

    /// The state as the outside sees it: a failed health check drains.
    pub fn state(&self) -> State {
        match self.state.get() {
            State::Live if self.failed.get() => State::Draining,
            state => state,
        }
    }

    /// `/healthcheck/fail` (true) and `/healthcheck/ok` (false).
    pub fn fail_health_check(&self, failed: bool) {
        self.failed.set(failed);
        self.publish();
    }

    /// How long the process runs.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Asks the process to end (`/quitquitquit`, SIGTERM).
    pub fn quit(&self) {
        self.quit.notify_one();
    }

    /// Waits until the process is asked to end.
    pub async fn asked_to_quit(&self) {
        self.quit.notified().await;
    }

    /// Another process came before, at a hot restart.
    pub fn inherit(&self, first_start: u64, generation: u64) {
        self.first_start.set(first_start.min(self.start_epoch));
        self.stats.hot_restart_generation.set(generation);
    }

    /// When the first of the processes that came one after the other started, in seconds since 1970.
    pub fn first_start(&self) -> u64 {
        self.first_start.get()
    }

    /// Which of these processes this one is, from 1 on.
    pub fn generation(&self) -> u64 {
        self.stats.hot_restart_generation.get()
    }

    /// How long one of these processes or another has run.
    pub fn uptime_of_all(&self) -> Duration {
        self.uptime() + Duration::from_secs(self.start_epoch - self.first_start.get())
    }

    /// A process comes after this one.
    pub fn succeed(&self) {
        self.successor.notify_one();
    }

    /// Waits until another process comes after this one.
    pub async fn succeeded(&self) {
        self.successor.notified().await;
    }

    /// Asks the process to end, since another one serves in its place.
    pub fn retire(&self) {
        self.is_retired.set(true);
        self.quit();
    }

    /// Whether another process serves in its place.
    pub fn is_retired(&self) -> bool {
        self.is_retired.get()
    }

    fn publish(&self) {
        let state = self.state();
        self.stats.state.set(state as u64);
        self.stats.live.set(u64::from(state == State::Live));
    }
}
