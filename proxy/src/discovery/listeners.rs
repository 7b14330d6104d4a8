//! Listeners, static ones and those of LDS: made ready, warmed, installed, removed.

mod inline_routes;
mod restored;
mod warming;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use proto::google::protobuf::Any;
use xds_client::{Event, Resource, Update};

use super::full_state::{Api, Applied, FullState, Incoming, News};
use super::inbox::{Inbox, Notice};
use super::pending::Pending;
use super::resources::TypeDump;
use super::routes::Routes;
use super::secrets::SharedSecrets;
use super::sources::{Kind, Sources};
use super::state::Known;
use super::stats::SubscriptionStats;
use super::translate;
use crate::config::ConfigError;
use crate::config::listener::Listener as Config;
use crate::config::source::ConfigSource;
use crate::downstream::manager::ListenerManager;
use crate::telemetry::stats::Store;
use warming::Warming;

const API: Api = Api {
    kind: Kind::Listeners,
    name: "LDS",
    field: "lds_config",
    stat_prefix: "listener_manager.lds.",
    notice: Notice::Listeners,
};

/// Every listener that serves or warms.
pub struct Listeners {
    manager: Rc<RefCell<ListenerManager>>,
    lds: FullState,
    warming: BTreeMap<Arc<str>, Warming>,
    /// Those that get no certificate in time stay closed, instead of closing each connection.
    keeps_closed: bool,
    routes: Routes,
    secrets: SharedSecrets,
}

impl Listeners {
    /// No listeners yet; events will go to `inbox`. `lds` is where LDS will be asked for, if anywhere.
    pub fn new(
        manager: Rc<RefCell<ListenerManager>>,
        lds: Option<&ConfigSource>,
        store: &Arc<Store>,
        secrets: SharedSecrets,
        inbox: Inbox,
    ) -> Self {
        Listeners {
            manager,
            lds: FullState::new(API, lds, store, inbox.clone()),
            secrets,
            warming: BTreeMap::new(),
            keeps_closed: false,
            routes: Routes::new(Arc::clone(store), inbox),
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
            self.lds.add_fixed(&config.name, body);
            self.start(sources, Arc::clone(config), false)?;
        }
        self.publish();
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
        self.lds.subscribe(sources, source)
    }

    /// Whether LDS has answered or its time is over, and no listener warms; those that stay closed do not count.
    pub fn is_settled(&self) -> bool {
        self.lds.is_settled() && self.warming.values().all(|w| self.keeps_closed && w.is_ready())
    }

    /// Takes an event of LDS.
    pub fn on_event(&mut self, sources: &mut Sources, event: Event) {
        match self.lds.take(event) {
            Some(Incoming::Update(update)) => self.on_update(sources, update),
            Some(Incoming::Expired(name)) => {
                self.remove(&name);
                self.forget_unused();
            }
            None => {}
        }
    }

    fn on_update(&mut self, sources: &mut Sources, update: Update) {
        // The names of all new listeners' routes leave as one request, and so do those of their secrets.
        let _paused = sources.pause(&[Kind::Routes, Kind::Secrets]);
        let Update { version, resources, removed, answer } = update;
        let mut applied = Applied::new(&removed);
        // Before anything is added, so that an address can move from one listener to another.
        removed.iter().for_each(|name| self.remove(name));
        for resource in resources {
            let name = resource.name.clone();
            let again = self.lds.has_unconfirmed().then(|| resource.clone());
            let mut outcome = self.apply(sources, resource);
            if let (Err(_), Some(resource)) = (&outcome, again) {
                // A listener of an earlier process may have its address.
                self.remove_stale();
                outcome = self.apply(sources, resource);
            }
            applied.note(name, outcome);
        }
        self.forget_unused();
        self.lds.answer(&version, answer, applied);
    }

    /// Ends subscriptions that no listener needs any more.
    fn forget_unused(&mut self) {
        self.routes.forget_unused();
        self.secrets.borrow_mut().forget_unused();
    }

    /// Makes what was installed and removed known to the workers that hand connections over. That takes a look at every
    /// listener, so that it is done once for all that came together.
    pub fn publish(&mut self) {
        self.manager.borrow_mut().publish();
    }

    /// Applies a listener of LDS; true if it changes anything.
    fn apply(&mut self, sources: &mut Sources, resource: Resource) -> Result<bool, ConfigError> {
        let name: Arc<str> = resource.name.as_str().into();
        let version = match self.lds.compare(&name, resource) {
            News::Nothing => return Ok(false),
            News::Back => {
                self.warming.remove(&name);
                self.count_warming();
                return Ok(false);
            }
            News::New(version) => version,
        };
        let before = self.lds.resources().entry(&name).active.clone();
        let started = translate::listener(&name, &version.body).and_then(|config| {
            if self.manager.borrow().is_stopped(config.direction) {
                tracing::info!(listener = &*name, "listeners of this direction were stopped");
                return Ok(None);
            }
            let in_place =
                before.is_some_and(|before| differ_in_chains_only(&before.body, &version.body));
            let in_place = in_place && !config.filter_chains.is_empty();
            self.start(sources, config, in_place).map(Some)
        });
        let versions = self.lds.resources().entry(&name);
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
        if self.lds.is_fixed(name) {
            return;
        }
        self.warming.remove(name);
        self.count_warming();
        self.lds.resources().remove(name);
        self.manager.borrow_mut().remove(name);
    }

    /// The subscription's handle and statistics, to count its failures.
    pub fn subscription(&self) -> Option<(xds_client::SubscriptionHandle, Arc<SubscriptionStats>)> {
        self.lds.subscription()
    }

    /// What listeners wait for.
    pub fn pending(&self) -> Vec<Pending> {
        let mut pending = Vec::from_iter(self.lds.pending());
        pending.extend(self.warming.iter().map(|(name, warming)| warming.pending(name)));
        pending
    }

    /// The listeners and route tables that management servers have brought and that are in force.
    pub fn last_good(&self) -> impl Iterator<Item = Known> {
        self.lds.last_good().chain(self.routes.last_good())
    }

    /// Copies of listeners and route tables.
    pub fn dump(&self) -> (TypeDump, TypeDump) {
        let listeners = self.lds.dump();
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
