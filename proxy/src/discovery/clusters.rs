//! Clusters, static ones and those of CDS: made, warmed, put into the registry, removed.

mod membership;
mod restored;
mod secrets;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use proto::google::protobuf::Any;
use xds_client::{Event, Pause, Resource, Update};

use super::endpoints::Endpoints;
use super::full_state::{Api, Applied, FullState, Incoming, News};
use super::inbox::{Inbox, Notice};
use super::pending::Pending;
use super::resources::TypeDump;
use super::secrets::SharedSecrets;
use super::sources::{Kind, Sources};
use super::state::Known;
use super::stats::SubscriptionStats;
use super::translate;
use crate::config::cluster::{Cluster as Config, Discovery};
use crate::config::source::{ConfigSource, SourceKind};
use crate::config::{At, ConfigError};
use crate::telemetry::stats::Store;
use crate::upstream::cluster::resolve::{self, Resolver};
use crate::upstream::cluster::{Cluster, ClusterRegistry, Sockets};
use crate::upstream::cluster::{health_check, outlier};

const API: Api = Api {
    kind: Kind::Clusters,
    name: "CDS",
    field: "cds_config",
    stat_prefix: "cluster_manager.cds.",
    notice: Notice::Clusters,
};

/// What clusters are made with.
pub struct Tools {
    /// Where statistics are registered.
    pub store: Arc<Store>,
    /// Where clusters that serve are put.
    pub registry: Arc<ClusterRegistry>,
    /// Resolves the names of DNS clusters.
    pub resolver: Arc<dyn Resolver>,
    /// The secrets of TLS contexts.
    pub secrets: SharedSecrets,
}

/// Every cluster that serves or warms.
pub struct Clusters {
    tools: Tools,
    inbox: Inbox,
    cds: FullState,
    entries: HashMap<Arc<str>, Entry>,
    warming: BTreeMap<Arc<str>, Warming>,
    /// Clusters of `warming` that wait for nothing any more. They are installed together: the registry's table is copied
    /// for each time that clusters are added.
    ready: Vec<Arc<str>>,
    endpoints: Endpoints,
    /// Whether the first clusters of CDS are warm, so that the answers to later ones wait for theirs.
    is_started: bool,
    /// Holds the answers to CDS back, see [`Clusters::hold_answers`].
    held: Vec<Pause>,
}

/// A cluster by name, through all of its versions.
#[derive(Default)]
struct Entry {
    active: Option<Arc<Cluster>>,
    /// `cluster.<name>.` of an EDS cluster's subscription.
    eds: Option<Arc<SubscriptionStats>>,
}

/// A cluster that has no hosts yet, or not every secret. One of the same name may serve meanwhile.
struct Warming {
    cluster: Arc<Cluster>,
    /// Whether its hosts are there, or are not to be waited for.
    has_hosts: bool,
    /// Whether its hosts have been checked once, or are not to be.
    is_checked: bool,
    since: Instant,
}

impl Warming {
    fn is_ready(&self) -> bool {
        self.has_hosts
            && self.is_checked
            && self.cluster.sockets.get().is_none_or(Sockets::is_settled)
    }

    fn pending(&self, name: &str) -> Pending {
        let secrets = || {
            let sockets = self.cluster.sockets.get().into_iter().flat_map(Sockets::iter);
            let waiting = sockets.map(|tls| tls.waits_for()).filter(|names| !names.is_empty());
            waiting.collect::<Vec<_>>().join(", ")
        };
        let waits_for = match &self.cluster.config().discovery {
            _ if self.has_hosts && !self.is_checked => "the first check of its hosts".to_owned(),
            _ if self.has_hosts => format!("secrets {}", secrets()),
            Discovery::Eds { service_name, .. } => format!("endpoints of {service_name:?}"),
            _ => "the resolution of its names".to_owned(),
        };
        Pending::new(&format!("cluster {name:?}"), &waits_for, self.since)
    }
}

impl Clusters {
    /// No clusters yet; events will go to `inbox`. `cds` is where CDS will be asked for, if anywhere.
    pub fn new(tools: Tools, cds: Option<&ConfigSource>, inbox: Inbox) -> Self {
        Clusters {
            cds: FullState::new(API, cds, &tools.store, inbox.clone()),
            tools,
            endpoints: Endpoints::new(inbox.clone()),
            inbox,
            entries: HashMap::new(),
            warming: BTreeMap::new(),
            ready: Vec::new(),
            is_started: false,
            held: Vec::new(),
        }
    }

    /// What clusters are made with.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Adds static clusters.
    ///
    /// # Errors
    /// A cluster cannot be made.
    pub fn add_static<'a>(
        &mut self,
        sources: &mut Sources,
        clusters: impl IntoIterator<Item = &'a (Arc<Config>, Any)>,
    ) -> Result<(), ConfigError> {
        let mut later = Vec::new();
        for (config, body) in clusters {
            self.cds.add_fixed(&config.name, body);
            match config.uses_sds() {
                true => later.push(config),
                false => self.make(sources, Arc::clone(config))?,
            }
        }
        self.install();
        // Their secrets may come through one of the others, wherever it stands.
        for config in later {
            self.make(sources, Arc::clone(config))?;
        }
        self.install();
        Ok(())
    }

    /// Subscribes to CDS.
    ///
    /// # Errors
    /// The source cannot be reached by this configuration.
    pub fn subscribe(
        &mut self,
        sources: &mut Sources,
        source: &ConfigSource,
    ) -> Result<(), ConfigError> {
        self.cds.subscribe(sources, source)
    }

    /// Whether CDS has answered or its time is over, and no cluster warms.
    pub fn is_settled(&self) -> bool {
        self.cds.is_settled() && self.warming.is_empty()
    }

    /// The first clusters are settled.
    pub fn started(&mut self) {
        self.is_started = true;
    }

    /// Takes an event of CDS.
    pub fn on_event(&mut self, sources: &mut Sources, event: Event) {
        match self.cds.take(event) {
            Some(Incoming::Update(update)) => self.on_update(sources, update),
            Some(Incoming::Expired(name)) => self.remove(vec![name]),
            None => {}
        }
    }

    fn on_update(&mut self, sources: &mut Sources, update: Update) {
        // The names of all new clusters' services leave as one request, and so do those of their secrets.
        let _paused = sources.pause(&[Kind::Endpoints, Kind::Secrets]);
        let Update { version, resources, removed, answer } = update;
        let mut applied = Applied::new(&removed);
        for resource in resources {
            applied.note(resource.name.clone(), self.apply(sources, resource));
        }
        self.install();
        self.remove(removed);
        self.tools.secrets.borrow_mut().forget_unused();
        self.hold_answers(sources);
        self.cds.answer(&version, answer, applied);
    }

    /// Holds the answer to this and further updates back as long as a cluster warms, as Envoy does once it has started: a
    /// control plane takes the ACK as the sign that routes to the new clusters may follow. Endpoints, which end the wait, and
    /// everything else are asked for and answered meanwhile.
    fn hold_answers(&mut self, sources: &Sources) {
        if self.is_started && self.held.is_empty() && !self.warming.is_empty() {
            self.held = sources.hold_answers(Kind::Clusters);
        }
    }

    /// Applies a cluster of CDS; true if it changes anything.
    fn apply(&mut self, sources: &mut Sources, resource: Resource) -> Result<bool, ConfigError> {
        let name: Arc<str> = resource.name.as_str().into();
        let version = match self.cds.compare(&name, resource) {
            News::Nothing => return Ok(false),
            News::Back => {
                self.stop_warming(&name);
                return Ok(false);
            }
            News::New(version) => version,
        };
        let made = translate::cluster(&name, &version.body);
        let made = made.and_then(|config| self.make(sources, config));
        let versions = self.cds.resources().entry(&name);
        match made {
            Ok(()) => versions.warm(version),
            Err(error) => {
                versions.refuse(version, error.to_string());
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Makes a cluster, which warms from now on and is ready at once if it need not wait for anything.
    fn make(&mut self, sources: &mut Sources, config: Arc<Config>) -> Result<(), ConfigError> {
        let at = At::resource("cluster", &config.name);
        let sockets = self.sockets(sources, &config, &at)?;
        let is_known = self.watch_endpoints(sources, &config, &at)?;
        let name = Arc::clone(&config.name);
        let entry = self.entries.entry(Arc::clone(&name)).or_default();
        if matches!(config.discovery, Discovery::Eds { .. }) && entry.eds.is_none() {
            let prefix = format!("cluster.{}.", config.stat_name);
            entry.eds = Some(SubscriptionStats::start(&self.tools.store, prefix));
        }
        let before = entry.active.clone();
        let cluster =
            Cluster::new(config, &self.tools.store, &self.tools.registry, before.as_deref());
        // It was just made.
        let _ = cluster.sockets.set(sockets);
        if is_known {
            self.assign_known(&cluster, before.as_deref());
        }
        outlier::start(&cluster);
        health_check::start(&cluster);
        let names = resolve::start(&cluster, &self.tools.resolver);
        let has_hosts = is_known && names.is_none();
        if let Some(first_answers) = names {
            self.await_names(&cluster, first_answers);
        }
        let is_checked = cluster.config().health_check.is_none();
        let warming = Warming { cluster, has_hosts: false, is_checked, since: Instant::now() };
        if let Some(before) = self.warming.insert(Arc::clone(&name), warming) {
            self.release(&before.cluster);
        }
        if has_hosts {
            self.has_hosts(&name);
        }
        Ok(())
    }

    /// Puts clusters that are ready into the registry, each in the place of its predecessor.
    pub fn install(&mut self) {
        let names = std::mem::take(&mut self.ready);
        if names.is_empty() {
            return;
        }
        let mut clusters = Vec::with_capacity(names.len());
        let mut replaced = Vec::new();
        for name in names {
            let Some(Warming { cluster, .. }) = self.warming.remove(&name) else { continue };
            self.cds.resources().finish_warming(&name);
            let entry = self.entries.entry(name).or_default();
            replaced.extend(entry.active.replace(Arc::clone(&cluster)));
            clusters.push(cluster);
        }
        if !clusters.is_empty() {
            self.tools.registry.put(clusters);
        }
        for before in replaced {
            self.release(&before);
        }
        self.count_warming();
    }

    /// The active version came back before its successor was warm.
    fn stop_warming(&mut self, name: &str) {
        if let Some(warming) = self.warming.remove(name) {
            self.release(&warming.cluster);
        }
        self.count_warming();
    }

    fn remove(&mut self, names: Vec<String>) {
        let mut gone = Vec::new();
        let stats = Arc::clone(self.tools.registry.stats());
        for name in names {
            if self.cds.is_fixed(&name) {
                continue;
            }
            self.cds.resources().remove(&name);
            let Some(entry) = self.entries.remove(&*name) else { continue };
            let warming = self.warming.remove(&*name).map(|warming| warming.cluster);
            if entry.active.is_none() && warming.is_some() {
                // The registry counts those that it has.
                stats.cluster_removed.inc();
            }
            for cluster in entry.active.into_iter().chain(warming) {
                self.release(&cluster);
            }
            gone.push(name);
        }
        if !gone.is_empty() {
            self.tools.registry.remove(gone.iter().map(String::as_str));
        }
        self.count_warming();
    }

    /// Tells how many clusters warm. Once none does, the answers that were held back may go.
    fn count_warming(&mut self) {
        self.tools.registry.set_warming(self.warming.keys().cloned());
        if self.warming.is_empty() {
            self.held.clear();
        }
    }

    /// Whether CDS brought the cluster (`added_via_api` of `/clusters`).
    pub fn is_dynamic(&self, name: &str) -> bool {
        self.entries.contains_key(name) && !self.cds.is_fixed(name)
    }

    /// The subscription's handle and statistics, to count its failures.
    pub fn subscription(&self) -> Option<(xds_client::SubscriptionHandle, Arc<SubscriptionStats>)> {
        self.cds.subscription()
    }

    /// What clusters wait for.
    pub fn pending(&self) -> Vec<Pending> {
        let mut pending = Vec::from_iter(self.cds.pending());
        pending.extend(self.warming.iter().map(|(name, warming)| warming.pending(name)));
        pending
    }

    /// The clusters and endpoints that management servers have brought and that are in force.
    pub fn last_good(&self) -> impl Iterator<Item = Known> {
        self.cds.last_good().chain(self.endpoints.last_good())
    }

    /// Copies of clusters and endpoints.
    pub fn dump(&self) -> (TypeDump, TypeDump) {
        let endpoints = TypeDump { dynamic: self.endpoints.dump(), ..TypeDump::default() };
        (self.cds.dump(), endpoints)
    }
}

/// Whether a static cluster can be made before any stream to a management server is open.
pub fn is_primary(config: &Config) -> bool {
    match &config.discovery {
        Discovery::Eds { source, .. } => matches!(source.kind, SourceKind::Path { .. }),
        _ => true,
    }
}
