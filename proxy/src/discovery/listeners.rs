//! Listeners, static ones and those of LDS: made ready, warmed, installed, removed.

mod inline_routes;
mod warming;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use proto::google::protobuf::Any;
use xds_client::{Event, Resource, ResourceError, Update};

use super::inbox::{Feed, Inbox, Notice};
use super::pending::Pending;
use super::resources::{Resources, TypeDump, Version};
use super::routes::Routes;
use super::secrets::SharedSecrets;
use super::sources::{Kind, Sources};
use super::stats::{ReloadStats, SubscriptionStats};
use super::translate;
use crate::config::listener::Listener as Config;
use crate::config::source::ConfigSource;
use crate::config::{At, ConfigError};
use crate::downstream::manager::ListenerManager;
use crate::telemetry::stats::Store;
use warming::Warming;

/// Every listener that serves or warms.
pub struct Listeners {
    manager: Rc<RefCell<ListenerManager>>,
    inbox: Inbox,
    /// Static listeners. LDS has no say about them.
    fixed: Vec<(Arc<str>, Version)>,
    fixed_names: HashSet<Arc<str>>,
    warming: BTreeMap<Arc<str>, Warming>,
    routes: Routes,
    secrets: SharedSecrets,
    resources: Resources,
    feed: Option<Feed>,
    /// Since when LDS is waited for; none once it has answered or its time is over.
    awaited_since: Option<Instant>,
    stats: Arc<SubscriptionStats>,
    reloads: Arc<ReloadStats>,
}

impl Listeners {
    /// No listeners yet; events will go to `inbox`.
    pub fn new(
        manager: Rc<RefCell<ListenerManager>>,
        store: &Arc<Store>,
        secrets: SharedSecrets,
        inbox: Inbox,
    ) -> Self {
        Listeners {
            manager,
            secrets,
            routes: Routes::new(Arc::clone(store), inbox.clone()),
            inbox,
            fixed: Vec::new(),
            fixed_names: HashSet::new(),
            warming: BTreeMap::new(),
            resources: Resources::default(),
            feed: None,
            awaited_since: None,
            stats: store.register(SubscriptionStats::new("listener_manager.lds.")),
            reloads: store.register(ReloadStats::new("listener_manager.lds.")),
        }
    }

    /// Adds static listeners.
    ///
    /// # Errors
    /// A listener cannot be made ready, or its address cannot be bound.
    pub fn add_static(
        &mut self,
        sources: &mut Sources,
        listeners: &[(Arc<Config>, Any)],
    ) -> Result<(), ConfigError> {
        for (config, body) in listeners {
            self.fixed.push((Arc::clone(&config.name), Version::now("", body.clone())));
            self.fixed_names.insert(Arc::clone(&config.name));
            self.start(sources, Arc::clone(config), false)?;
        }
        Ok(())
    }

    /// Subscribes to LDS.
    ///
    /// # Errors
    /// The source cannot be reached by this configuration.
    pub fn subscribe(
        &mut self,
        sources: &mut Sources,
        source: &ConfigSource,
    ) -> Result<(), ConfigError> {
        let subscription = sources.subscribe(Kind::Listeners, source);
        let at = At::resource("bootstrap", "");
        let at = at.field("dynamic_resources");
        let subscription = subscription.map_err(|error| at.field("lds_config").error(error))?;
        self.feed = Some(Feed::start(subscription, &self.inbox, Notice::Listeners));
        self.awaited_since = Some(Instant::now());
        self.stats.update_attempt.inc();
        Ok(())
    }

    /// Whether LDS has answered or its time is over, and no listener warms.
    pub fn is_settled(&self) -> bool {
        self.awaited_since.is_none() && self.warming.is_empty()
    }

    /// Takes an event of LDS.
    pub fn on_event(&mut self, sources: &mut Sources, event: Event) {
        match event {
            Event::Update(update) => self.on_update(sources, update),
            Event::InitialFetchTimeout => {
                self.stats.timed_out();
                self.awaited_since = None;
            }
            Event::Expired(name) => {
                self.remove(&name);
                self.routes.forget_unused();
            }
            // Listeners are not asked for by name.
            Event::ResourceTimeout(_) => {}
        }
    }

    fn on_update(&mut self, sources: &mut Sources, update: Update) {
        // The names of all new listeners' routes leave as one request.
        let _paused = sources.pause(&[Kind::Routes]);
        let Update { version, resources, removed, answer } = update;
        let mut errors = Vec::new();
        let mut is_reload = !removed.is_empty();
        // Before anything is added, so that an address can move from one listener to another.
        removed.iter().for_each(|name| self.remove(name));
        for resource in resources {
            let name = resource.name.clone();
            match self.apply(sources, resource) {
                Ok(is_changed) => is_reload |= is_changed,
                Err(error) => errors.push(ResourceError::new(name, error.to_string())),
            }
        }
        self.routes.forget_unused();
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

    /// Applies a listener of LDS; true if it changes anything.
    fn apply(&mut self, sources: &mut Sources, resource: Resource) -> Result<bool, ConfigError> {
        let name: Arc<str> = resource.name.as_str().into();
        if self.fixed_names.contains(&name) {
            tracing::debug!(listener = resource.name, "a static listener is not changed over xDS");
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
            self.warming.remove(&name);
            self.count_warming();
            return Ok(false);
        }
        let before = versions.active.as_ref().map(|version| Arc::clone(&version.body));
        let version = Version::now(&resource.version, resource.body);
        let started = translate::listener(&name, &version.body).and_then(|config| {
            if self.manager.borrow().is_stopped(config.direction) {
                tracing::info!(listener = &*name, "listeners of this direction were stopped");
                return Ok(None);
            }
            let in_place =
                before.is_some_and(|before| differ_in_chains_only(&before, &version.body));
            let in_place = in_place && !config.filter_chains.is_empty();
            self.start(sources, config, in_place).map(Some)
        });
        let versions = self.resources.entry(&name);
        match started {
            Ok(None) => return Ok(false),
            Ok(Some(true)) => versions.activate(version),
            Ok(Some(false)) => versions.warm(version),
            Err(error) => {
                versions.refuse(version, error.to_string());
                return Err(error);
            }
        }
        Ok(true)
    }

    fn remove(&mut self, name: &str) {
        if self.fixed_names.contains(name) {
            return;
        }
        self.warming.remove(name);
        self.count_warming();
        self.resources.remove(name);
        self.manager.borrow_mut().remove(name);
    }

    /// The subscription's handle and statistics, to count its failures.
    pub fn subscription(&self) -> Option<(xds_client::SubscriptionHandle, Arc<SubscriptionStats>)> {
        self.feed.as_ref().map(|feed| (feed.handle.clone(), Arc::clone(&self.stats)))
    }

    /// What listeners wait for.
    pub fn pending(&self) -> Vec<Pending> {
        let first_answer = |since| Pending::new("LDS", "the first answer of its server", since);
        let mut pending: Vec<Pending> = self.awaited_since.map(first_answer).into_iter().collect();
        pending.extend(self.warming.iter().map(|(name, warming)| warming.pending(name)));
        pending
    }

    /// Copies of listeners and route tables.
    pub fn dump(&self) -> (TypeDump, TypeDump) {
        let listeners = self.resources.dump(&self.fixed);
        let fixed = listeners.fixed.iter().map(|(_, version)| version);
        let dynamic = listeners.dynamic.iter().filter_map(|d| d.versions.active.as_ref());
        let inline = fixed.chain(dynamic).flat_map(inline_routes::of).collect();
        let routes = TypeDump { fixed: inline, dynamic: self.routes.dump(), ..TypeDump::default() };
        (listeners, routes)
    }
}

/// Whether two versions of a listener differ in nothing that its sockets and listener filters depend on.
fn differ_in_chains_only(before: &Any, after: &Any) -> bool {
    let without_chains = |body: &Any| {
        let message = proto::any::unpack::<proto::envoy::config::listener::v3::Listener>(body);
        message.ok().map(|message| proto::envoy::config::listener::v3::Listener {
            filter_chains: Vec::new(),
            default_filter_chain: None,
            filter_chain_matcher: None,
            ..message
        })
    };
    let before = without_chains(before);
    before.is_some() && before == without_chains(after)
}
