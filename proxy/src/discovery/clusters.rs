//! Clusters, static ones and those of CDS: made, warmed, put into the registry, removed.

mod membership;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use proto::google::protobuf::Any;
use xds_client::{Event, Resource, ResourceError, Update};

use super::endpoints::Endpoints;
use super::inbox::{Feed, Inbox, Notice};
use super::pending::Pending;
use super::resources::{Resources, TypeDump, Version};
use super::secrets::SharedSecrets;
use super::sources::{Kind, Sources};
use super::stats::{ReloadStats, SubscriptionStats};
use super::translate;
use crate::config::cluster::{Cluster as Config, Discovery};
use crate::config::source::{ConfigSource, SourceKind};
use crate::config::{At, ConfigError};
use crate::telemetry::stats::Store;
use crate::tls::ClientTls;
use crate::upstream::cluster::resolve::{self, Resolver};
use crate::upstream::cluster::{Cluster, ClusterRegistry};

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
    /// Static clusters. CDS has no say about them.
    fixed: Vec<(Arc<str>, Version)>,
    entries: HashMap<Arc<str>, Entry>,
    warming: BTreeMap<Arc<str>, Warming>,
    /// Clusters of `warming` that wait for nothing any more. They are installed together: the registry's table is copied
    /// for each time that clusters are added.
    ready: Vec<Arc<str>>,
    endpoints: Endpoints,
    resources: Resources,
    feed: Option<Feed>,
    /// Since when CDS is waited for; none once it has answered or its time is over.
    awaited_since: Option<Instant>,
    stats: Arc<SubscriptionStats>,
    reloads: Arc<ReloadStats>,
}

/// A cluster by name, through all of its versions.
#[derive(Default)]
struct Entry {
    is_static: bool,
    active: Option<Arc<Cluster>>,
    /// `cluster.<name>.` of an EDS cluster's subscription.
    eds: Option<Arc<SubscriptionStats>>,
}

/// A cluster that has no hosts yet. One of the same name may serve meanwhile.
struct Warming {
    cluster: Arc<Cluster>,
    since: Instant,
}

impl Clusters {
    /// No clusters yet; events will go to `inbox`.
    pub fn new(tools: Tools, inbox: Inbox) -> Self {
        Clusters {
            stats: tools.store.register(SubscriptionStats::new("cluster_manager.cds.")),
            reloads: tools.store.register(ReloadStats::new("cluster_manager.cds.")),
            tools,
            endpoints: Endpoints::new(inbox.clone()),
            inbox,
            fixed: Vec::new(),
            entries: HashMap::new(),
            warming: BTreeMap::new(),
            ready: Vec::new(),
            resources: Resources::default(),
            feed: None,
            awaited_since: None,
        }
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
        for (config, body) in clusters {
            self.fixed.push((Arc::clone(&config.name), Version::now("", body.clone())));
            self.make(sources, Arc::clone(config))?;
            self.entries.entry(Arc::clone(&config.name)).or_default().is_static = true;
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
        let subscription = sources.subscribe(Kind::Clusters, source);
        let at = At::resource("bootstrap", "");
        let at = at.field("dynamic_resources");
        let subscription = subscription.map_err(|error| at.field("cds_config").error(error))?;
        self.feed = Some(Feed::start(subscription, &self.inbox, Notice::Clusters));
        self.awaited_since = Some(Instant::now());
        self.stats.update_attempt.inc();
        Ok(())
    }

    /// Whether CDS has answered or its time is over, and no cluster warms.
    pub fn is_settled(&self) -> bool {
        self.awaited_since.is_none() && self.warming.is_empty()
    }

    /// Takes an event of CDS.
    pub fn on_event(&mut self, sources: &mut Sources, event: Event) {
        match event {
            Event::Update(update) => self.on_update(sources, update),
            Event::InitialFetchTimeout => {
                self.stats.timed_out();
                self.awaited_since = None;
            }
            Event::Expired(name) => self.remove(vec![name]),
            // Clusters are not asked for by name.
            Event::ResourceTimeout(_) => {}
        }
    }

    fn on_update(&mut self, sources: &mut Sources, update: Update) {
        // The names of all new clusters' services leave as one request.
        let _paused = sources.pause(&[Kind::Endpoints]);
        let Update { version, resources, removed, answer } = update;
        let mut errors = Vec::new();
        let mut is_reload = !removed.is_empty();
        for resource in resources {
            let name = resource.name.clone();
            match self.apply(sources, resource) {
                Ok(is_changed) => is_reload |= is_changed,
                Err(error) => errors.push(ResourceError::new(name, error.to_string())),
            }
        }
        self.install();
        self.remove(removed);
        let is_good = errors.is_empty() && answer.errors().is_empty();
        if is_good {
            self.resources.set_version(&version);
        }
        if is_reload {
            self.reloads.reloaded();
        }
        self.stats.answered(&version, is_good);
        self.awaited_since = None;
        answer.reject(errors);
    }

    /// Applies a cluster of CDS; true if it changes anything.
    fn apply(&mut self, sources: &mut Sources, resource: Resource) -> Result<bool, ConfigError> {
        let name: Arc<str> = resource.name.as_str().into();
        if self.entries.get(&name).is_some_and(|entry| entry.is_static) {
            tracing::debug!(cluster = resource.name, "a static cluster is not changed over xDS");
            return Ok(false);
        }
        let versions = self.resources.entry(&name);
        if versions.is_current(&resource.body) {
            versions.refused = None;
            return Ok(false);
        }
        if versions.is_active(&resource.body) {
            versions.refused = None;
            versions.warming = None;
            self.stop_warming(&name);
            return Ok(false);
        }
        let version = Version::now(&resource.version, resource.body);
        let made = translate::cluster(&name, &version.body);
        match made.and_then(|config| self.make(sources, config)) {
            Ok(()) => {
                self.resources.entry(&name).warm(version);
                Ok(true)
            }
            Err(error) => {
                self.resources.entry(&name).refuse(version, error.to_string());
                Err(error)
            }
        }
    }

    /// Makes a cluster, which warms from now on and is ready at once if it need not wait for anything.
    fn make(&mut self, sources: &mut Sources, config: Arc<Config>) -> Result<(), ConfigError> {
        let at = At::resource("cluster", &config.name);
        let tls = match &config.tls {
            Some(context) => {
                let mut secrets = self.tools.secrets.borrow_mut();
                let mut find =
                    |name: &Arc<str>, source: Option<&ConfigSource>| secrets.find(name, source);
                let at = at.field("transport_socket");
                Some(ClientTls::new(Arc::clone(context), &at, &mut find)?)
            }
            None => None,
        };
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
        if let Some(tls) = tls {
            // It was just made.
            let _ = cluster.tls.set(tls);
        }
        if is_known {
            self.assign_known(&cluster, before.as_deref());
        }
        let names = resolve::start(&cluster, &self.tools.resolver);
        match names {
            Some(first_answers) => self.await_names(&cluster, first_answers),
            None if is_known => self.ready.push(Arc::clone(&name)),
            None => {}
        }
        let warming = Warming { cluster, since: Instant::now() };
        if let Some(before) = self.warming.insert(name, warming) {
            self.release(&before.cluster);
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
            self.resources.finish_warming(&name);
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
        self.tools.registry.stats().warming_clusters.set(self.warming.len() as u64);
    }

    /// The active version came back before its successor was warm.
    fn stop_warming(&mut self, name: &str) {
        if let Some(warming) = self.warming.remove(name) {
            self.release(&warming.cluster);
        }
        self.tools.registry.stats().warming_clusters.set(self.warming.len() as u64);
    }

    fn remove(&mut self, names: Vec<String>) {
        let mut gone = Vec::new();
        for name in names {
            let is_static = |entry: &Entry| entry.is_static;
            if self.entries.get(&*name).is_none_or(is_static) {
                self.resources.remove(&name);
                continue;
            }
            let active = self.entries.remove(&*name).and_then(|entry| entry.active);
            let warming = self.warming.remove(&*name).map(|warming| warming.cluster);
            for cluster in active.into_iter().chain(warming) {
                self.release(&cluster);
            }
            self.resources.remove(&name);
            gone.push(name);
        }
        if !gone.is_empty() {
            self.tools.registry.remove(gone.iter().map(String::as_str));
        }
        self.tools.registry.stats().warming_clusters.set(self.warming.len() as u64);
    }

    /// Whether CDS brought the cluster (`added_via_api` of `/clusters`).
    pub fn is_dynamic(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| !entry.is_static)
    }

    /// The subscription's handle and statistics, to count its failures.
    pub fn subscription(&self) -> Option<(xds_client::SubscriptionHandle, Arc<SubscriptionStats>)> {
        self.feed.as_ref().map(|feed| (feed.handle.clone(), Arc::clone(&self.stats)))
    }

    /// What clusters wait for.
    pub fn pending(&self) -> Vec<Pending> {
        let first_answer = |since| Pending::new("CDS", "the first answer of its server", since);
        let mut pending: Vec<Pending> = self.awaited_since.map(first_answer).into_iter().collect();
        pending.extend(self.warming.iter().map(|(name, warming)| {
            let waits_for = match &warming.cluster.config().discovery {
                Discovery::Eds { service_name, .. } => format!("endpoints of {service_name:?}"),
                _ => "the resolution of its names".to_owned(),
            };
            Pending::new(&format!("cluster {name:?}"), &waits_for, warming.since)
        }));
        pending
    }

    /// Copies of clusters and endpoints.
    pub fn dump(&self) -> (TypeDump, TypeDump) {
        let endpoints = TypeDump { dynamic: self.endpoints.dump(), ..TypeDump::default() };
        (self.resources.dump(&self.fixed), endpoints)
    }
}

/// Whether a static cluster can be made before any stream to a management server is open.
pub fn is_primary(config: &Config) -> bool {
    match &config.discovery {
        Discovery::Eds { source, .. } => matches!(source.kind, SourceKind::Path { .. }),
        _ => true,
    }
}
