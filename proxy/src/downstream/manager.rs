//! The listeners of the process: added, updated in place or as a whole, removed, drained. Lives on the control thread.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::listener::{Direction, Listener as Config};
use crate::config::{At, ConfigError};
use crate::downstream::accept::Binding;
use crate::downstream::build::Builder;
use crate::downstream::listener::{Chain, Listener, State};
use crate::downstream::reservation::{Addresses, Claim, Reservation, same_sockets};
use crate::downstream::socket::{self, Socket};
use crate::downstream::stats::ListenerManagerStats;
use crate::downstream::worker::{Command, HandOffTable, WorkerHandle};
use crate::drain::{self, Phase};
use crate::io::Address;
use crate::telemetry::stats::Store;

mod hand_over;

pub use hand_over::{Predecessor, Shared};

/// Every listener, and the workers that serve them.
pub struct ListenerManager {
    /// Makes listeners ready.
    pub builder: Builder,
    /// `listener_manager.`
    pub stats: Arc<ListenerManagerStats>,
    workers: Vec<WorkerHandle>,
    active: HashMap<Arc<str>, Active>,
    /// Of active listeners and of those that get ready.
    addresses: Addresses,
    hand_off: Arc<ArcSwap<HandOffTable>>,
    drain: drain::Settings,
    /// Sockets listen as soon as they are bound: connections wait in them for their listener to get ready.
    listens_early: bool,
    predecessor: Option<Rc<dyn Predecessor>>,
    /// Another process has the sockets and accepts.
    is_handed_over: bool,
    /// Directions whose listeners were stopped by hand: updates for them no longer bind.
    stopped: HashSet<Direction>,
    /// Whether [`ListenerManager::publish`] has something to tell.
    is_changed: bool,
}

/// A listener that serves, with its sockets.
struct Active {
    listener: Arc<Listener>,
    bindings: Vec<Bound>,
    _claim: Option<Claim>,
}

/// An address of a listener.
struct Bound {
    /// As bound; differs from the configured one for port 0.
    bound: Address,
    binding: Arc<Binding>,
}

impl ListenerManager {
    /// No listeners yet.
    pub fn new(
        builder: Builder,
        store: &Store,
        workers: Vec<WorkerHandle>,
        hand_off: Arc<ArcSwap<HandOffTable>>,
        drain: drain::Settings,
    ) -> Self {
        ListenerManager {
            builder,
            stats: store.register(ListenerManagerStats::new("listener_manager.")),
            workers,
            active: HashMap::new(),
            addresses: Addresses::default(),
            hand_off,
            drain,
            listens_early: false,
            predecessor: None,
            is_handed_over: false,
            stopped: HashSet::new(),
            is_changed: false,
        }
    }

    /// Lets connections wait for listeners that get ready, instead of refusing them (`--listen-early`).
    pub fn listen_early(&mut self, early: bool) {
        self.listens_early = early;
    }

    /// The listener of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Listener>> {
        self.active.get(name).map(|active| &active.listener)
    }

    /// Every listener with the addresses that it is bound to, by name.
    pub fn list(&self) -> Vec<(Arc<Listener>, Vec<Address>)> {
        let mut all: Vec<_> = self.active.values().collect();
        all.sort_by_key(|active| Arc::clone(&active.listener.config().name));
        let addresses = |active: &Active| active.bindings.iter().map(|b| b.bound.clone()).collect();
        all.into_iter().map(|a| (Arc::clone(&a.listener), addresses(a))).collect()
    }

    /// Takes the addresses of a listener that is to be installed, and binds them where the listener's last version has no
    /// sockets for them. `warming` is the reservation of a version that gets ready and will not be installed any more.
    ///
    /// # Errors
    /// An address cannot be bound, or another listener has it. Then `warming` is as it was.
    pub fn reserve(
        &self,
        config: &Arc<Config>,
        in_place: bool,
        warming: Option<&mut Reservation>,
    ) -> Result<Reservation, ConfigError> {
        let claim = match in_place {
            true => None,
            false => Some(self.addresses.claim(config)?),
        };
        let active = self.active.get(&config.name).map(|active| active.listener.config());
        let keeps = active.is_some_and(|active| in_place || same_sockets(&active, config));
        let sockets = match warming.filter(|warming| same_sockets(&warming.config, config)) {
            _ if keeps => None,
            Some(warming) => warming.sockets.take(),
            None => Some(self.bind(config)?),
        };
        Ok(Reservation { claim, sockets, config: Arc::clone(config) })
    }

    /// Adds a listener that is ready, or puts it in the place of the one with its name. With `in_place` only the filter
    /// chains differ, and only connections of chains that are gone drain. [`ListenerManager::publish`] must follow.
    ///
    /// # Errors
    /// Another socket listens on an address.
    pub fn install(
        &mut self,
        state: State,
        in_place: bool,
        reservation: Reservation,
    ) -> Result<(), ConfigError> {
        self.is_changed = true;
        match self.active.contains_key(&state.config.name) {
            true if in_place => {
                self.update_in_place(state);
                Ok(())
            }
            true => self.update(state, reservation),
            false => self.add(state, reservation),
        }
    }

    fn add(&mut self, state: State, reservation: Reservation) -> Result<(), ConfigError> {
        let Reservation { claim, sockets, config } = reservation;
        let stats = self.builder.listener_stats(&config);
        let listener = Arc::new(Listener::new(state, stats));
        let bindings = self.open(&listener, &config, sockets.unwrap_or_default())?;
        let active = Active { listener, bindings, _claim: claim };
        self.active.insert(Arc::clone(&config.name), active);
        self.stats.listener_added.inc();
        Ok(())
    }

    fn update(&mut self, state: State, reservation: Reservation) -> Result<(), ConfigError> {
        let Reservation { claim, sockets, config } = reservation;
        let stats = self.builder.listener_stats(&config);
        let listener = Arc::new(Listener::new(state, stats));
        let bindings = match sockets {
            None => None,
            Some(sockets) => Some(self.open(&listener, &config, sockets)?),
        };
        let Some(active) = self.active.get_mut(&config.name) else { return Ok(()) };
        active._claim = claim;
        let old = std::mem::replace(&mut active.listener, Arc::clone(&listener));
        match bindings {
            None => {
                for bound in &active.bindings {
                    bound.binding.listener.store(Arc::clone(&listener));
                }
            }
            Some(bindings) => {
                let old = std::mem::replace(&mut active.bindings, bindings);
                old.iter().for_each(|bound| self.close(bound));
            }
        }
        let chains = old.state.load().chains.iter().cloned().collect();
        self.drain_out(chains);
        self.stats.listener_modified.inc();
        Ok(())
    }

    fn update_in_place(&mut self, state: State) {
        let Some(active) = self.active.get(&state.config.name) else { return };
        let kept: Vec<Arc<Chain>> = state.chains.iter().cloned().collect();
        let old = active.listener.state.swap(Arc::new(state));
        let gone = old.chains.iter().filter(|old| !kept.iter().any(|kept| Arc::ptr_eq(kept, old)));
        self.drain_out(gone.cloned().collect());
        self.stats.listener_in_place_updated.inc();
        self.stats.listener_modified.inc();
    }

    /// Removes a listener: it stops accepting at once, and its connections drain. Says whether there was one.
    /// [`ListenerManager::publish`] must follow.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(active) = self.active.remove(name) else { return false };
        active.bindings.iter().for_each(|bound| self.close(bound));
        let chains = active.listener.state.load().chains.iter().cloned().collect();
        self.drain_out(chains);
        self.stats.listener_removed.inc();
        self.is_changed = true;
        true
    }

    /// Stops accepting, on all listeners or only on inbound ones (`/drain_listeners`).
    pub fn stop(&mut self, inbound_only: bool) {
        for active in self.active.values() {
            if inbound_only && active.listener.config().direction != Direction::Inbound {
                continue;
            }
            active.bindings.iter().for_each(|bound| self.close(bound));
            self.stats.listener_stopped.inc();
        }
        self.stopped.insert(Direction::Inbound);
        if !inbound_only {
            self.stopped.extend([Direction::Outbound, Direction::Unspecified]);
        }
    }

    /// Whether listeners of this direction were stopped by hand.
    pub fn is_stopped(&self, direction: Direction) -> bool {
        self.stopped.contains(&direction)
    }

    /// Moves the drain of all connections, or only of those of inbound listeners.
    pub fn drain(&self, phase: Phase, inbound_only: bool) {
        for active in self.active.values() {
            if !inbound_only || active.listener.config().direction == Direction::Inbound {
                active.listener.drain(phase);
            }
        }
    }

    /// Lets responses close their connections, all at once or little by little (`--drain-strategy`).
    pub fn refuse(&self, inbound_only: bool) {
        let pace = self.drain.pace();
        for active in self.active.values() {
            if !inbound_only || active.listener.config().direction == Direction::Inbound {
                active
                    .listener
                    .state
                    .load()
                    .chains
                    .iter()
                    .for_each(|chain| chain.drain.refuse(pace));
            }
        }
    }

    /// Takes `/healthcheck/fail` back.
    pub fn resume(&self) {
        for active in self.active.values() {
            for chain in active.listener.state.load().chains.iter() {
                chain.drain.resume();
            }
        }
    }

    /// How many requests and TCP sessions are under way.
    pub fn active_streams(&self) -> u64 {
        let states = self.active.values().map(|active| active.listener.state.load_full());
        states.map(|state| state.chains.iter().map(|chain| chain.active()).sum::<u64>()).sum()
    }

    /// Binds the addresses of a listener that binds.
    fn bind(&self, config: &Config) -> Result<Vec<(Address, Vec<Socket>)>, ConfigError> {
        let is_bound_elsewhere = self.is_handed_over || self.is_stopped(config.direction);
        if !config.bind_to_port || is_bound_elsewhere {
            return Ok(Vec::new());
        }
        let bind = |address: &Address| {
            let workers = self.workers.len();
            let inherited = self.inherited(address);
            let sockets = match inherited.is_empty() {
                true => socket::bind(address, config, workers),
                false => socket::adopt(inherited, address, config, workers),
            };
            let sockets = sockets.map_err(|error| self.cannot("bind", config, address, &error))?;
            if self.listens_early {
                self.listen(config, address, &sockets)?;
            }
            Ok((address.clone(), sockets))
        };
        config.addresses.iter().map(bind).collect()
    }

    fn cannot(
        &self,
        what: &str,
        config: &Config,
        address: &Address,
        why: &io::Error,
    ) -> ConfigError {
        self.stats.listener_create_failure.inc();
        let at = At::resource("listener", &config.name);
        at.field("address").error(format!("cannot {what} '{address}': {why}"))
    }

    fn listen(
        &self,
        config: &Config,
        address: &Address,
        sockets: &[Socket],
    ) -> Result<(), ConfigError> {
        let listening = sockets.iter().try_for_each(Socket::listen);
        listening.map_err(|error| self.cannot("listen on", config, address, &error))
    }

    /// Lets the workers accept on sockets.
    fn open(
        &self,
        listener: &Arc<Listener>,
        config: &Config,
        sockets: Vec<(Address, Vec<Socket>)>,
    ) -> Result<Vec<Bound>, ConfigError> {
        if self.is_handed_over || self.is_stopped(config.direction) {
            return Ok(Vec::new());
        }
        for (address, sockets) in &sockets {
            self.listen(config, address, sockets)?;
        }
        let mut bindings = Vec::new();
        for (address, sockets) in sockets {
            let bound = sockets[0].local_address().unwrap_or(address);
            let binding = Binding::new(Arc::clone(listener));
            for (worker, socket) in self.workers.iter().cycle().zip(sockets) {
                // A worker that is gone means that the process ends.
                let _ = worker.send(Command::Accept(socket, Arc::clone(&binding)));
            }
            self.stats.listener_create_success.add(self.workers.len() as u64);
            bindings.push(Bound { bound, binding });
        }
        Ok(bindings)
    }

    /// Drains chains that no longer serve new connections; at the end of the drain time what is left is closed.
    fn drain_out(&self, chains: Vec<Arc<Chain>>) {
        for chain in chains {
            match self.drain.strategy {
                drain::Strategy::Gradual => chain.drain.refuse(self.drain.pace()),
                drain::Strategy::Immediate => chain.drain.advance(Phase::Draining),
            }
            let stats = Arc::clone(&self.stats);
            let drain_time = self.drain.time;
            stats.total_filter_chains_draining.inc();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(drain_time, chain.drain.idle()).await;
                chain.drain.advance(Phase::Closing);
                stats.total_filter_chains_draining.dec();
            });
        }
    }

    /// Makes what was installed and removed known to those who hand redirected connections over.
    pub fn publish(&mut self) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        let mut table: HashMap<SocketAddr, Arc<Listener>> = HashMap::new();
        for active in self.active.values() {
            for address in &active.listener.config().addresses {
                if let Address::Ip(ip) = address {
                    table.insert(*ip, Arc::clone(&active.listener));
                }
            }
        }
        self.hand_off.store(Arc::new(table));
        self.stats.total_listeners_active.set(self.active.len() as u64);
    }
}
