//! What the admin interface may ask of the process.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proto::envoy::admin::v3::server_info::State as AdminState;
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::admin::{DrainListeners, Process};
use crate::discovery::{Discovery, Stage};
use crate::downstream::manager::ListenerManager;
use crate::drain::Phase;
use crate::server::lifecycle::{Lifecycle, State};
use crate::telemetry::memory::Memory;
use crate::telemetry::stats::Store;

/// The process, as the admin interface sees it.
pub struct Control {
    lifecycle: Rc<Lifecycle>,
    listeners: Rc<RefCell<ListenerManager>>,
    discovery: Rc<Discovery>,
    store: Arc<Store>,
    drain_time: Duration,
    /// `/drain_listeners` keeps responses closing connections, whatever `/healthcheck/ok` says.
    draining: Cell<bool>,
    /// Whether a stop at the end of the drain time is under way: of inbound listeners, of all.
    stopping: [Cell<bool>; 2],
}

impl Control {
    /// The process with its listeners. `drain_time` is `--drain-time-s`.
    pub fn new(
        lifecycle: &Rc<Lifecycle>,
        listeners: &Rc<RefCell<ListenerManager>>,
        discovery: &Rc<Discovery>,
        store: &Arc<Store>,
        drain_time: Duration,
    ) -> Rc<Self> {
        Rc::new(Control {
            lifecycle: Rc::clone(lifecycle),
            listeners: Rc::clone(listeners),
            discovery: Rc::clone(discovery),
            store: Arc::clone(store),
            drain_time,
            draining: Cell::new(false),
            stopping: Default::default(),
        })
    }

    fn stop_after_drain_time(&self, inbound_only: bool) {
        if self.stopping[usize::from(!inbound_only)].replace(true) {
            return;
        }
        let listeners = Rc::clone(&self.listeners);
        let drain_time = self.drain_time;
        spawn_local(async move {
            sleep(drain_time).await;
            listeners.borrow_mut().stop(inbound_only);
        });
    }
}

impl Process for Control {
    fn state(&self) -> AdminState {
        let starting = self.lifecycle.state() == State::PreInitializing;
        if starting && self.discovery.stage() > Stage::PrimaryClusters {
            self.lifecycle.set(State::Initializing);
        }
        match self.lifecycle.state() {
            State::Live => AdminState::Live,
            State::Draining => AdminState::Draining,
            State::PreInitializing => AdminState::PreInitializing,
            State::Initializing => AdminState::Initializing,
        }
    }

    fn uptime(&self) -> Duration {
        self.lifecycle.uptime()
    }

    fn uptime_of_all(&self) -> Duration {
        self.lifecycle.uptime_of_all()
    }

    fn refresh_stats(&self) {
        // The gauge of the state follows.
        self.state();
        let stats = &self.lifecycle.stats;
        let Memory { private, resident } = Memory::now();
        stats.uptime.set(self.lifecycle.uptime().as_secs());
        stats.days_until_first_cert_expiring.set(days_until(self.discovery.first_expiry()));
        stats.memory_allocated.set(private);
        stats.memory_heap_size.set(private);
        stats.memory_physical_size.set(resident);
        let connections = self.listeners.borrow().active_connections();
        stats.total_connections.set(connections + stats.parent_connections.get());
        self.lifecycle.inherited.borrow_mut().add_to(&self.store);
    }

    fn fail_health_check(&self, fail: bool) {
        self.lifecycle.fail_health_check(fail);
        match fail {
            true => self.listeners.borrow().drain(Phase::Refusing, false),
            false if self.draining.get() => {}
            false => self.listeners.borrow().resume(),
        }
    }

    fn drain_listeners(&self, drain: DrainListeners) {
        let DrainListeners { inbound_only, graceful, skip_exit } = drain;
        if !graceful && !skip_exit {
            self.listeners.borrow_mut().stop(inbound_only);
            return;
        }
        self.draining.set(true);
        self.listeners.borrow().refuse(inbound_only);
        if !skip_exit {
            self.stop_after_drain_time(inbound_only);
        }
    }

    fn quit(&self) {
        self.lifecycle.quit();
    }
}

/// Whole days until then; the most that Envoy's number holds if there is no such time, 0 if it is over.
fn days_until(time: Option<SystemTime>) -> u64 {
    let Some(time) = time else { return u32::MAX.into() };
    let left = time.duration_since(SystemTime::now()).unwrap_or_default();
    left.as_secs() / (24 * 60 * 60)
}
