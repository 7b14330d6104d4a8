//! xDS resources into running objects: subscriptions, warming, what is applied and what is answered.
//!
//! All of it runs on the control thread. `clusters` and `listeners` keep what serves and what warms, each with what
//! depends on it (`endpoints`, `routes`); `sources` opens streams and files. Their events go through one inbox to
//! one loop, which applies them in the order that makes before it breaks, and moves the start of the process on.

mod clusters;
mod endpoints;
mod full_state;
mod inbox;
mod listeners;
mod load_report;
mod pending;
mod resources;
mod routes;
mod secrets;
mod sources;
mod startup;
mod state;
mod stats;
mod translate;
mod watches;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use proto::envoy::config::core::v3::Node;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use xds_client::Event;

use crate::config::ConfigError;
use crate::config::bootstrap::Bootstrap;
use crate::config::source::ApiConfigSource;
use crate::downstream::manager::ListenerManager;
use crate::telemetry::stats::Store;
use crate::upstream::cluster::ClusterRegistry;
use crate::upstream::cluster::resolve::Resolver;

pub use pending::Pending;
pub use resources::{Dump, Dynamic, Refused, TypeDump, Version, Versions};
pub use startup::Stage;
pub use state::StateOptions;

use clusters::{Clusters, Tools};
use inbox::Notice;
use listeners::Listeners;
use load_report::LoadReporter;
use secrets::{Secrets, SharedSecrets};
use sources::{SourceError, Sources};
use startup::{Outcome, Startup};
use state::keeper::{Holder, Keeper};
use state::restore::Restore;
use state::{Known, StateStats};
use stats::{ControlPlaneStats, raise};

/// The most events that are put in order at once.
const BATCH: usize = 256;

/// What resources are made with and put into.
#[derive(Clone)]
pub struct Environment {
    /// Where statistics are registered.
    pub store: Arc<Store>,
    /// Where clusters that serve are put.
    pub registry: Arc<ClusterRegistry>,
    /// Where listeners that serve are put.
    pub listeners: Rc<RefCell<ListenerManager>>,
    /// Resolves the names of DNS clusters.
    pub resolver: Arc<dyn Resolver>,
    /// Where the last good resources are kept; none keeps them nowhere.
    pub state: Option<StateOptions>,
}

/// Discovery of a process. It ends when this is dropped; what serves goes on serving.
pub struct Discovery {
    core: Rc<RefCell<Core>>,
    outcome: Outcome,
    control_plane: Arc<ControlPlaneStats>,
    _events: AbortOnDropHandle<()>,
    _reports: Option<AbortOnDropHandle<()>>,
}

struct Core {
    sources: Sources,
    clusters: Clusters,
    listeners: Listeners,
    secrets: SharedSecrets,
    startup: Startup,
    /// Where the last good resources are kept.
    restore: Option<Restore>,
}

impl Discovery {
    /// Starts with the bootstrap's static resources, then its dynamic ones. Must be called within a `LocalSet`, which
    /// then drives it.
    pub fn start(bootstrap: &Bootstrap, environment: Environment) -> Discovery {
        let Environment { store, registry, listeners, resolver, state } = environment;
        let (inbox, events) = mpsc::unbounded_channel();
        let (startup, outcome) = Startup::new(bootstrap);
        let node = bootstrap.node.clone();
        let sources = Sources::new(node, bootstrap.ads.clone(), Arc::clone(&registry));
        let secrets = Secrets::new(&bootstrap.secrets, &store, &inbox);
        let (cds, lds) = (bootstrap.cds.as_ref(), bootstrap.lds.as_ref());
        let listeners = Listeners::new(listeners, lds, &store, Rc::clone(&secrets), inbox.clone());
        let control_plane = store.register(ControlPlaneStats::new("control_plane."));
        let stats = state.as_ref().map(|_| store.register(StateStats::new("control_plane.")));
        let tools = Tools { store, registry, resolver, secrets: Rc::clone(&secrets) };
        let clusters = Clusters::new(tools, cds, inbox.clone());
        let kept = state
            .zip(stats)
            .map(|(options, stats)| (options, state::owner(&bootstrap.node), stats));
        let restore =
            kept.clone().map(|(options, owner, stats)| Restore::new(options, owner, stats, inbox));
        let mut core = Core { sources, clusters, listeners, secrets, startup, restore };
        core.advance();
        let core = Rc::new(RefCell::new(core));
        let keeper = kept.map(|(options, owner, stats)| {
            Keeper::start(options, owner, Rc::downgrade(&core), stats)
        });
        let events = tokio::task::spawn_local(run(Rc::clone(&core), events, keeper));
        let reports = bootstrap.load_stats.clone().map(|api| {
            let node = bootstrap.node.clone();
            let reports = report_load(api, node, Rc::clone(&core), outcome.clone());
            AbortOnDropHandle::new(tokio::task::spawn_local(reports))
        });
        let events = AbortOnDropHandle::new(events);
        Discovery { core, outcome, control_plane, _events: events, _reports: reports }
    }

    /// Waits until every static and every first dynamic resource is there or its time is over, and listeners are open.
    ///
    /// # Errors
    /// A static resource or a source of dynamic ones cannot be used: the process cannot start.
    pub async fn initialized(&self) -> Result<(), ConfigError> {
        let mut outcome = self.outcome.clone();
        let outcome = outcome.wait_for(Option::is_some).await;
        // The sender lives as long as `self`, and the value is there.
        outcome.ok().and_then(|outcome| outcome.clone()).unwrap_or(Ok(()))
    }

    /// How far the start has come.
    pub fn stage(&self) -> Stage {
        self.core.borrow().startup.stage()
    }

    /// What waits for something now, at the start and later.
    pub fn pending(&self) -> Vec<Pending> {
        let core = self.core.borrow();
        let mut pending = core.clusters.pending();
        pending.extend(core.listeners.pending());
        pending.extend(core.restore.as_ref().and_then(Restore::pending));
        pending
    }

    /// A copy of every resource for `/config_dump`.
    pub fn dump(&self) -> Dump {
        let core = self.core.borrow();
        let (clusters, endpoints) = core.clusters.dump();
        let (listeners, routes) = core.listeners.dump();
        let secrets = TypeDump { dynamic: core.secrets.borrow().dump(), ..TypeDump::default() };
        Dump { clusters, endpoints, listeners, routes, secrets }
    }

    /// When the first certificate or trust anchor in use expires; none if there is none.
    pub fn first_expiry(&self) -> Option<SystemTime> {
        self.core.borrow().secrets.borrow().first_expiry()
    }

    /// Whether CDS brought the cluster of this name (`added_via_api` of `/clusters`).
    pub fn is_dynamic_cluster(&self, name: &str) -> bool {
        self.core.borrow().clusters.is_dynamic(name)
    }

    /// Brings statistics up to date that only streams know: `control_plane.` and `update_failure` of CDS and LDS. To be
    /// called before statistics are exported.
    pub async fn refresh_stats(&self) {
        let (ads, subscriptions) = {
            let core = self.core.borrow();
            let both = [core.clusters.subscription(), core.listeners.subscription()];
            (core.sources.ads(), both)
        };
        for (handle, stats) in subscriptions.into_iter().flatten() {
            if let Some(seen) = handle.stats().await {
                stats.set_failures(seen.update_failure);
            }
        }
        let Some(ads) = ads else { return };
        let seen = ads.stats().await;
        self.control_plane.connected_state.set(u64::from(seen.connected_state));
        self.control_plane.pending_requests.set(seen.pending_requests as u64);
        raise(&self.control_plane.rate_limit_enforced, seen.rate_limit_enforced);
        *self.control_plane.identifier.lock() = seen.identifier;
    }
}

/// Applies what comes, and what came together in order.
async fn run(
    core: Rc<RefCell<Core>>,
    mut inbox: mpsc::UnboundedReceiver<Notice>,
    keeper: Option<Keeper>,
) {
    let mut batch = Vec::new();
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        batch.sort_by_key(Notice::order);
        let mut core = core.borrow_mut();
        batch.drain(..).for_each(|notice| core.take(notice));
        core.clusters.install();
        core.advance();
        if let Some(keeper) = &keeper {
            keeper.changed();
        }
    }
}

/// Reports load, once the clusters of the bootstrap are there.
async fn report_load(
    api: ApiConfigSource,
    node: Node,
    core: Rc<RefCell<Core>>,
    mut started: Outcome,
) {
    // The sender lives as long as the core.
    let _ = started.wait_for(Option::is_some).await;
    let reporter = core.borrow().load_reporter(&api, node);
    drop(core);
    match reporter {
        Ok(reporter) => reporter.run().await,
        Err(error) => {
            tracing::error!(%error, "cluster_manager.load_stats_config: no load is reported")
        }
    }
}

impl Holder for Core {
    fn last_good(&self) -> Option<Vec<Known>> {
        // What an earlier process has kept is better than half of what is to come.
        let is_whole = self.startup.stage() == Stage::Live
            && self.clusters.is_confirmed()
            && self.listeners.is_confirmed()
            && !self.restore.as_ref().is_some_and(Restore::is_serving);
        is_whole.then(|| self.clusters.last_good().chain(self.listeners.last_good()).collect())
    }
}

impl Core {
    fn load_reporter(
        &self,
        api: &ApiConfigSource,
        node: Node,
    ) -> Result<LoadReporter, SourceError> {
        let server = self.sources.first_server(api)?;
        let tools = self.clusters.tools();
        Ok(LoadReporter::new(server, node, Arc::clone(&tools.registry), &tools.store))
    }

    fn take(&mut self, notice: Notice) {
        if let Notice::Clusters(Event::InitialFetchTimeout)
        | Notice::Listeners(Event::InitialFetchTimeout) = &notice
            && let Some(restore) = &mut self.restore
        {
            restore.first_fetch_failed(&self.sources, &self.clusters);
        }
        match notice {
            Notice::Clusters(event) => self.clusters.on_event(&mut self.sources, event),
            Notice::Resolved(cluster) => self.clusters.on_resolved(&cluster),
            Notice::Checked(cluster) => self.clusters.on_checked(&cluster),
            Notice::Endpoints(source, event) => self.clusters.on_endpoints(&source, event),
            Notice::Secrets(source, event) => {
                self.secrets.borrow_mut().on_event(&source, event);
                self.clusters.on_secrets();
                self.listeners.on_secrets();
            }
            Notice::Moved(folders) => self.secrets.borrow_mut().on_moved(&folders),
            Notice::Listeners(event) => self.listeners.on_event(&mut self.sources, event),
            Notice::Routes(source, event) => self.listeners.on_routes(&source, event),
            Notice::Grace => {
                if let Some(restore) = &mut self.restore {
                    restore.on_time(&self.sources, &mut self.clusters, &mut self.listeners);
                }
            }
        }
    }

    /// Moves the start on, and what serves in place of a control plane that does not answer.
    fn advance(&mut self) {
        let Core { sources, clusters, listeners, startup, restore, .. } = self;
        loop {
            startup.advance(sources, clusters, listeners);
            let restored =
                restore.as_mut().map(|restore| restore.advance(sources, clusters, listeners));
            if restored != Some(true) {
                break;
            }
        }
        listeners.publish();
    }
}
