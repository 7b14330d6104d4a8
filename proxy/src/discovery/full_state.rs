//! A type of which everything is taken that a server has: clusters (CDS) and listeners (LDS). Their subscription, its first answer,
//! its statistics, and what is known of each resource.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::google::protobuf::Any;
use xds_client::{Answer, Event, Resource, ResourceError, SubscriptionHandle, Update};

use super::inbox::{Feed, Inbox, Notice};
use super::pending::Pending;
use super::resources::{Resources, TypeDump, Version};
use super::sources::{Kind, Sources};
use super::state::Known;
use super::stats::{ReloadStats, SubscriptionStats};
use crate::config::source::{ConfigSource, SourceKind};
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

/// After this time without a message, a server is taken to have said everything that it has.
pub const QUIET: Duration = Duration::from_secs(1);

/// Everything about one of the types but its objects.
pub struct FullState {
    api: Api,
    inbox: Inbox,
    /// Static resources, in the bootstrap's order. The server has no say about them.
    fixed: Vec<(Arc<str>, Version)>,
    fixed_names: HashSet<Arc<str>>,
    resources: Resources,
    feed: Option<Feed>,
    /// Whether a management server is to be asked.
    is_remote: bool,
    /// When it was asked, and when it answered first.
    asked: Option<Instant>,
    answered: Option<Instant>,
    /// Whether it is waited for; no more once it has answered or its time is over.
    is_awaited: bool,
    /// Resources of an earlier process that the server has not confirmed.
    unconfirmed: HashSet<String>,
    /// When the server said something last, and whether a part of it could not be read.
    heard: Option<Instant>,
    is_doubtful: bool,
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
    /// No resource yet; events will go to `inbox`. `source` is where resources will be asked for, if anywhere.
    pub fn new(api: Api, source: Option<&ConfigSource>, store: &Store, inbox: Inbox) -> Self {
        FullState {
            stats: store.register(SubscriptionStats::new(api.stat_prefix)),
            reloads: store.register(ReloadStats::new(api.stat_prefix)),
            api,
            inbox,
            fixed: Vec::new(),
            fixed_names: HashSet::new(),
            resources: Resources::default(),
            feed: None,
            is_remote: source.is_some_and(|source| !matches!(source.kind, SourceKind::Path { .. })),
            asked: None,
            answered: None,
            is_awaited: false,
            unconfirmed: HashSet::new(),
            heard: None,
            is_doubtful: false,
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
        self.asked = Some(Instant::now());
        self.is_awaited = true;
        self.stats.update_attempt.inc();
        Ok(())
    }

    /// Whether the server has answered or its time is over, or there is none.
    pub fn is_settled(&self) -> bool {
        !self.is_awaited
    }

    /// Takes an event; gives what it asks for.
    pub fn take(&mut self, event: Event) -> Option<Incoming> {
        match event {
            Event::Update(update) => {
                self.confirm(&update);
                Some(Incoming::Update(update))
            }
            Event::Expired(name) => Some(Incoming::Expired(name)),
            Event::InitialFetchTimeout => {
                self.stats.timed_out();
                self.is_awaited = false;
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
        self.is_awaited = false;
        answer.reject(errors);
    }

    /// The subscription's handle and statistics, to count its failures.
    pub fn subscription(&self) -> Option<(SubscriptionHandle, Arc<SubscriptionStats>)> {
        self.feed.as_ref().map(|feed| (feed.handle.clone(), Arc::clone(&self.stats)))
    }

    /// The first answer, while it is waited for.
    pub fn pending(&self) -> Option<Pending> {
        let since = self.asked.filter(|_| self.is_awaited)?;
        Some(Pending::new(self.api.name, "the first answer of its server", since))
    }

    /// Whether the server has answered, or there is none to answer.
    pub fn is_confirmed(&self) -> bool {
        self.answered.is_some() || !self.is_remote
    }

    /// For how long the server has been asked without an answer; none before and afterwards.
    pub fn unanswered_for(&self) -> Option<Duration> {
        self.asked.filter(|_| self.answered.is_none()).map(|asked| asked.elapsed())
    }

    /// How long ago the server answered first.
    pub fn answered_for(&self) -> Option<Duration> {
        self.answered.map(|answered| answered.elapsed())
    }

    /// Resources of an earlier process are about to come into force.
    pub fn note_unconfirmed(&mut self, resources: &[Resource]) {
        self.unconfirmed.extend(resources.iter().map(|resource| resource.name.clone()));
    }

    fn confirm(&mut self, update: &Update) {
        let now = Instant::now();
        self.answered.get_or_insert(now);
        self.heard = Some(now);
        // What cannot be read may be any of those that seem to be missing.
        self.is_doubtful = !update.answer.errors().is_empty();
        if !self.unconfirmed.is_empty() {
            let resources = update.resources.iter().map(|resource| &resource.name);
            for name in resources.chain(&update.removed) {
                self.unconfirmed.remove(name);
            }
        }
    }

    /// Whether the server has said everything that it has: the first answer names it all, but the incremental variant of
    /// the protocol may spread it over several messages.
    pub fn is_complete(&self) -> bool {
        self.heard.is_none_or(|heard| heard.elapsed() >= QUIET)
    }

    /// Whether resources of an earlier process wait to be confirmed.
    pub fn has_unconfirmed(&self) -> bool {
        !self.unconfirmed.is_empty()
    }

    /// Resources of an earlier process that the server does not have, once it has said everything.
    pub fn take_stale(&mut self) -> Vec<String> {
        match self.is_doubtful {
            true => Vec::new(),
            false => self.unconfirmed.drain().collect(),
        }
    }

    /// What a management server has brought and is in force.
    pub fn last_good(&self) -> impl Iterator<Item = Known> {
        let resources = self.resources.active().filter(|_| self.is_remote);
        resources.map(|(name, version)| Known {
            kind: self.api.kind,
            source: String::new(),
            name: Arc::clone(name),
            version: version.clone(),
        })
    }

    /// A copy for a dump.
    pub fn dump(&self) -> TypeDump {
        self.resources.dump(&self.fixed)
    }
}
