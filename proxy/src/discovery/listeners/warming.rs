//! Listeners that wait for their route tables and secrets.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use xds_client::{Event, ResourceError, Update};

use super::Listeners;
use crate::config::hcm::RouteSource;
use crate::config::listener::Listener as Config;
use crate::config::network_filter::NetworkFilter;
use crate::config::source::{ConfigSource, SourceKind};
use crate::config::tls::DownstreamTls;
use crate::config::{At, ConfigError};
use crate::discovery::pending::Pending;
use crate::discovery::routes::Routes;
use crate::discovery::secrets::SharedSecrets;
use crate::discovery::sources::Sources;
use crate::downstream::build::Slots;
use crate::downstream::listener::State;
use crate::downstream::reservation::Reservation;
use crate::http::manager::RouteSlot;
use crate::tls::ServerTls;

/// A listener that is ready but for route tables and secrets. One of the same name may serve meanwhile.
pub(super) struct Warming {
    state: State,
    in_place: bool,
    /// Its addresses are taken when it is added, so that the server hears at once if they cannot be.
    reservation: Reservation,
    waits_for: Vec<(SourceKind, Arc<str>)>,
    since: Instant,
    /// Whether the log says that it stays closed.
    is_told: bool,
}

impl Warming {
    pub(super) fn pending(&self, name: &str) -> Pending {
        let names: BTreeSet<&str> = self.waits_for.iter().map(|(_, name)| &**name).collect();
        let routes = names.into_iter().collect::<Vec<_>>().join(", ");
        let secrets: BTreeSet<String> = contexts(&self.state)
            .filter(|tls| !tls.is_settled())
            .map(|tls| tls.waits_for())
            .collect();
        let secrets = secrets.into_iter().collect::<Vec<_>>().join(", ");
        let waits_for = match (routes.is_empty(), secrets.is_empty()) {
            (true, true) => "its certificate".to_owned(),
            (false, true) => format!("routes {routes}"),
            (true, false) => format!("secrets {secrets}"),
            (false, false) => format!("routes {routes} and secrets {secrets}"),
        };
        Pending::new(&format!("listener {name:?}"), &waits_for, self.since)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.waits_for.is_empty() && has_secrets(&self.state)
    }
}

/// The TLS contexts of the chains.
fn contexts(state: &State) -> impl Iterator<Item = &Arc<ServerTls>> {
    state.chains.iter().filter_map(|chain| chain.tls.as_ref()).map(|tls| &tls.slot)
}

/// Whether no secret is to be waited for.
fn has_secrets(state: &State) -> bool {
    contexts(state).all(|tls| tls.is_settled())
}

/// Whether a chain has no certificate to serve with.
fn lacks_secrets(state: &State) -> bool {
    contexts(state).any(|tls| tls.ready().is_none())
}

impl Listeners {
    /// Makes a listener ready. It is installed (true), or waits for its routes and secrets first.
    pub(super) fn start(
        &mut self,
        sources: &mut Sources,
        config: Arc<Config>,
        in_place: bool,
    ) -> Result<bool, ConfigError> {
        let name = Arc::clone(&config.name);
        let waits_for = self.watch_routes(sources, &config)?;
        let state = self.state(sources, Arc::clone(&config), in_place)?;
        let before = self.warming.get_mut(&name).map(|warming| &mut warming.reservation);
        let reservation = self.manager.borrow().reserve(&config, in_place, before)?;
        // The version that warmed is out of date, whatever becomes of this one.
        self.warming.remove(&name);
        let is_closed = self.keeps_closed && lacks_secrets(&state);
        let is_ready = waits_for.is_empty() && has_secrets(&state) && !is_closed;
        if is_ready {
            self.manager.borrow_mut().install(state, in_place, reservation)?;
        } else {
            let (since, is_told) = (Instant::now(), false);
            let warming = Warming { state, in_place, reservation, waits_for, since, is_told };
            self.warming.insert(name, warming);
        }
        self.count_warming();
        Ok(is_ready)
    }

    /// Subscribes to the route tables of a listener; gives those that are not there yet.
    fn watch_routes(
        &mut self,
        sources: &mut Sources,
        config: &Config,
    ) -> Result<Vec<(SourceKind, Arc<str>)>, ConfigError> {
        let at = At::resource("listener", &config.name);
        let mut missing = Vec::new();
        for (stat_prefix, source, name) in tables(config) {
            let watched = self.routes.watch(sources, stat_prefix, source, name);
            let is_there =
                watched.map_err(|error| at.field("rds").field("config_source").error(error))?;
            if !is_there {
                missing.push((source.kind.clone(), Arc::clone(name)));
            }
        }
        Ok(missing)
    }

    fn state(
        &self,
        sources: &mut Sources,
        config: Arc<Config>,
        in_place: bool,
    ) -> Result<State, ConfigError> {
        let manager = self.manager.borrow();
        // Connections of unchanged chains stay only if the listener does.
        let active = manager.get(&config.name).filter(|_| in_place);
        let previous = active.map(|listener| listener.state.load_full());
        let mut slots = Dependencies { routes: &self.routes, secrets: &self.secrets, sources };
        manager.builder.state(config, previous.as_deref(), &mut slots)
    }

    /// Takes an event of RDS.
    pub fn on_routes(&mut self, source: &SourceKind, event: Event) {
        match event {
            Event::Update(update) => self.on_tables(source, update),
            Event::ResourceTimeout(name) => {
                self.routes.give_up(source, &name);
                self.settle(source, &HashSet::from([name]));
            }
            // Tables are asked for by name, and one that vanishes stays.
            Event::InitialFetchTimeout | Event::Expired(_) => {}
        }
    }

    /// Removed tables stay in use.
    fn on_tables(&mut self, source: &SourceKind, update: Update) {
        let Update { resources, removed, answer, .. } = update;
        removed.iter().for_each(|name| self.routes.confirm(source, name));
        let mut errors = Vec::new();
        let mut settled = HashSet::new();
        for resource in resources {
            let name = resource.name.clone();
            let taken = self.routes.take(source, resource, &self.manager.borrow().builder);
            if let Err(error) = taken {
                errors.push(ResourceError::new(&name, error.to_string()));
            }
            // After a refusal, too, a listener waits no longer, as in Envoy.
            settled.insert(name);
        }
        self.settle(source, &settled);
        // The last connection manager of a table may have drained since.
        self.routes.forget_unused();
        answer.reject(errors);
    }

    /// Installs the listeners that waited for nothing but these tables.
    fn settle(&mut self, source: &SourceKind, tables: &HashSet<String>) {
        for warming in self.warming.values_mut() {
            let is_settled =
                |(own, table): &(SourceKind, Arc<str>)| own == source && tables.contains(&**table);
            warming.waits_for.retain(|table| !is_settled(table));
        }
        self.finish_ready();
    }

    /// Secrets came, or their time is over: installs the listeners that waited for nothing else.
    pub fn on_secrets(&mut self) {
        self.finish_ready();
    }

    pub(super) fn finish_ready(&mut self) {
        let mut ready = Vec::new();
        for (name, warming) in self.warming.iter_mut().filter(|(_, warming)| warming.is_ready()) {
            if !(self.keeps_closed && lacks_secrets(&warming.state)) {
                ready.push(Arc::clone(name));
            } else if !std::mem::replace(&mut warming.is_told, true) {
                tracing::error!(
                    listener = &**name,
                    "it stays closed: its certificate would come from the control plane, which does not answer"
                );
            }
        }
        for name in &ready {
            self.finish(name);
        }
        self.count_warming();
    }

    fn finish(&mut self, name: &Arc<str>) {
        let Some(Warming { state, in_place, reservation, .. }) = self.warming.remove(name) else {
            return;
        };
        let installed = self.manager.borrow_mut().install(state, in_place, reservation);
        let Err(error) = installed else { return self.lds.resources().finish_warming(name) };
        // The response that brought the listener was answered long ago.
        tracing::error!(listener = &**name, %error, "a listener that has warmed cannot be installed");
        let versions = self.lds.resources().entry(name);
        if let Some(failed) = versions.warming.take() {
            versions.refuse(failed, error.to_string());
        }
    }

    pub(super) fn count_warming(&self) {
        let warming = self.warming.len() as u64;
        self.manager.borrow().stats.total_listeners_warming.set(warming);
    }
}

/// What the chains of a listener get from elsewhere.
struct Dependencies<'a> {
    routes: &'a Routes,
    secrets: &'a SharedSecrets,
    sources: &'a mut Sources,
}

impl Slots for Dependencies<'_> {
    fn routes(&mut self, name: &Arc<str>, source: &ConfigSource) -> RouteSlot {
        self.routes.slot(&source.kind, name)
    }

    fn tls(
        &mut self,
        context: &Arc<DownstreamTls>,
        listener: &Config,
        at: &At<'_>,
    ) -> Result<Arc<ServerTls>, ConfigError> {
        let factory = format!("listener.{}.server_ssl_socket_factory.", listener.stat_name);
        self.secrets.borrow_mut().tls(self.sources, context, factory, at)
    }
}

/// The route tables that the listener's connection managers get over RDS, with the managers' `stat_prefix`.
fn tables(config: &Config) -> impl Iterator<Item = (&Arc<str>, &ConfigSource, &Arc<str>)> {
    let chains = config.filter_chains.iter().chain(&config.default_filter_chain);
    chains.filter_map(|chain| match chain.filters.last() {
        Some(NetworkFilter::Http(http)) => match &http.routes {
            RouteSource::Rds { name, source } => Some((&http.stat_prefix, source, name)),
            RouteSource::Inline(_) => None,
        },
        _ => None,
    })
}
