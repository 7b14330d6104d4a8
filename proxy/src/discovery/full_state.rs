//! A type of which everything is taken that a server has: clusters (CDS) and listeners (LDS). Their subscription, its first answer,
//! its statistics, and what is known of each resource.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use proto::google::protobuf::Any;
use xds_client::{Answer, Event, Resource, ResourceError, SubscriptionHandle, Update};

use super::inbox::{Feed, Inbox, Notice};
use super::pending::Pending;
use super::resources::{Resources, TypeDump, Version};
use super::sources::{Kind, Sources};
use super::stats::{ReloadStats, SubscriptionStats};
use crate::config::source::ConfigSource;
use crate::config::{At, ConfigError};
use crate::telemetry::stats::Store;

/// Which of the two types.
pub struct Api {
    /// The type.
    pub kind: Kind,
    /// What people call it: `CDS`.
    pub name: &'static str,
    /// Where it is configured, in `dynamic_resources`.
    pub field: &'static str,
    /// Before the names of its statistics.
    pub stat_prefix: &'static str,
    /// What its events are to the discovery loop.
    pub notice: fn(Event) -> Notice,
}

/// Everything about one of the types but its objects.
pub struct FullState {
    api: Api,
    inbox: Inbox,
    /// Static resources, in the bootstrap's order. The server has no say about them.
    fixed: Vec<(Arc<str>, Version)>,
    fixed_names: HashSet<Arc<str>>,
    resources: Resources,
    feed: Option<Feed>,
    /// Since when the server is waited for; none once it has answered or its time is over.
    awaited_since: Option<Instant>,
    stats: Arc<SubscriptionStats>,
    reloads: Arc<ReloadStats>,
}

/// What an event asks for.
pub enum Incoming {
    /// These resources are new, changed or gone.
    Update(Update),
    /// The time to live of this resource is over.
    Expired(String),
}

/// What a resource means, before anything is made of it.
pub enum News {
    /// It is static, or what it was.
    Nothing,
    /// The version in use has come back while another one warms, which must stop.
    Back,
    /// Something is to be made of it.
    New(Version),
}

/// What became of the resources of an update.
pub struct Applied {
    errors: Vec<ResourceError>,
    is_reload: bool,
}

impl Applied {
    /// Nothing yet but the removal of `removed`.
    pub fn new(removed: &[String]) -> Self {
        Applied { errors: Vec::new(), is_reload: !removed.is_empty() }
    }

    /// One resource was applied, and changed something or not, or is refused.
    pub fn note(&mut self, name: String, outcome: Result<bool, ConfigError>) {
        match outcome {
            Ok(is_changed) => self.is_reload |= is_changed,
            Err(error) => self.errors.push(ResourceError::new(name, error.to_string())),
        }
    }
}

impl FullState {
    /// No resource yet; events will go to `inbox`.
    pub fn new(api: Api, store: &Store, inbox: Inbox) -> Self {
        FullState {
            stats: store.register(SubscriptionStats::new(api.stat_prefix)),
            reloads: store.register(ReloadStats::new(api.stat_prefix)),
            api,
            inbox,
            fixed: Vec::new(),
            fixed_names: HashSet::new(),
            resources: Resources::default(),
            feed: None,
            awaited_since: None,
        }
    }

    /// Notes a static resource.
    pub fn add_fixed(&mut self, name: &Arc<str>, body: &Any) {
        self.fixed.push((Arc::clone(name), Version::now("", body.clone())));
        self.fixed_names.insert(Arc::clone(name));
    }

    /// Whether a resource of this name is static.
    pub fn is_fixed(&self, name: &str) -> bool {
        self.fixed_names.contains(name)
    }

    /// Subscribes to everything.
    ///
    /// # Errors
    /// The source cannot be reached by this configuration.
    pub fn subscribe(
        &mut self,
        sources: &mut Sources,
        source: &ConfigSource,
    ) -> Result<(), ConfigError> {
        let at = At::resource("bootstrap", "");
        let at = at.field("dynamic_resources");
        let subscription = sources.subscribe(self.api.kind, source);
        let subscription = subscription.map_err(|error| at.field(self.api.field).error(error))?;
        self.feed = Some(Feed::start(subscription, &self.inbox, self.api.notice));
        self.awaited_since = Some(Instant::now());
        self.stats.update_attempt.inc();
        Ok(())
    }

    /// Whether the server has answered or its time is over, or there is none.
    pub fn is_settled(&self) -> bool {
        self.awaited_since.is_none()
    }

    /// Takes an event; gives what it asks for.
    pub fn take(&mut self, event: Event) -> Option<Incoming> {
        match event {
            Event::Update(update) => Some(Incoming::Update(update)),
            Event::Expired(name) => Some(Incoming::Expired(name)),
            Event::InitialFetchTimeout => {
                self.stats.timed_out();
                self.awaited_since = None;
                None
            }
            // Nothing is asked for by name.
            Event::ResourceTimeout(_) => None,
        }
    }

    /// Compares a resource with what is known of it.
    pub fn compare(&mut self, name: &Arc<str>, resource: Resource) -> News {
        if self.is_fixed(name) {
            let api = self.api.name;
            tracing::debug!(api, name = &**name, "a static resource is not changed over xDS");
            return News::Nothing;
        }
        let versions = self.resources.entry(name);
        if versions.is_current(&resource.body) {
            versions.refused = None;
            return News::Nothing;
        }
        if versions.is_active(&resource.body) {
            versions.refused = None;
            versions.warming = None;
            return News::Back;
        }
        News::New(Version::now(&resource.version, resource.body))
    }

    /// What is known of each resource.
    pub fn resources(&mut self) -> &mut Resources {
        &mut self.resources
    }

    /// An update was applied: answers it.
    pub fn answer(&mut self, version: &str, answer: Answer, applied: Applied) {
        let Applied { errors, is_reload } = applied;
        let is_good = errors.is_empty() && answer.errors().is_empty();
        if is_good {
            self.resources.set_version(version);
        }
        if is_reload {
            self.reloads.reloaded();
        }
        self.stats.answered(version, is_good);
        self.awaited_since = None;
        answer.reject(errors);
    }

    /// The subscription's handle and statistics, to count its failures.
    pub fn subscription(&self) -> Option<(SubscriptionHandle, Arc<SubscriptionStats>)> {
        self.feed.as_ref().map(|feed| (feed.handle.clone(), Arc::clone(&self.stats)))
    }

    /// The first answer, while it is waited for.
    pub fn pending(&self) -> Option<Pending> {
        let since = self.awaited_since?;
        Some(Pending::new(self.api.name, "the first answer of its server", since))
    }

    /// A copy for a dump.
    pub fn dump(&self) -> TypeDump {
        self.resources.dump(&self.fixed)
    }
}
