//! The listeners of the process: added, updated in place or as a whole, removed, drained. Lives on the control thread.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::config::listener::{Direction, Listener as Config};
use crate::config::{At, ConfigError};
use crate::downstream::accept::Binding;
use crate::downstream::build::Builder;
use crate::downstream::listener::{Chain, Listener, State};
use crate::downstream::socket;
use crate::downstream::stats::ListenerManagerStats;
use crate::downstream::worker::{Command, HandOffTable, WorkerHandle};
use crate::drain::Phase;
use crate::io::Address;
use crate::telemetry::stats::Store;

/// Every listener, and the workers that serve them.
pub struct ListenerManager {
    /// Makes listeners ready.
    pub builder: Builder,
    /// `listener_manager.`
    pub stats: Arc<ListenerManagerStats>,
    workers: Vec<WorkerHandle>,
    active: HashMap<Arc<str>, Active>,
    hand_off: Arc<ArcSwap<HandOffTable>>,
    drain_time: Duration,
    /// Directions whose listeners were stopped by hand: updates for them no longer bind.
    stopped: Vec<Direction>,
}

/// A listener that serves, with its sockets.
struct Active {
    listener: Arc<Listener>,
    bindings: Vec<Bound>,
}

/// An address of a listener.
struct Bound {
    /// As bound; differs from the configured one for port 0.
    bound: Address,
    binding: Arc<Binding>,
}

impl ListenerManager {
    /// No listeners yet. `drain_time` is `--drain-time-s`.
    pub fn new(
        builder: Builder,
        store: &Store,
        workers: Vec<WorkerHandle>,
        hand_off: Arc<ArcSwap<HandOffTable>>,
        drain_time: Duration,
    ) -> Self {
        ListenerManager {
            builder,
            stats: store.register(ListenerManagerStats::new("listener_manager.")),
            workers,
            active: HashMap::new(),
            hand_off,
            drain_time,
            stopped: Vec::new(),
        }
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

    /// Adds a listener that is ready, or puts it in the place of the one with its name. With `in_place` only the filter
    /// chains differ, and only connections of chains that are gone drain.
    ///
    /// # Errors
    /// An address cannot be bound, or another listener has it.
    pub fn install(&mut self, state: State, in_place: bool) -> Result<(), ConfigError> {
        let config = Arc::clone(&state.config);
        self.refuse_duplicates(&config)?;
        match self.active.contains_key(&config.name) {
            true if in_place => self.update_in_place(state),
            true => self.update(state)?,
            false => self.add(state)?,
        }
        self.publish();
        Ok(())
    }

    fn add(&mut self, state: State) -> Result<(), ConfigError> {
        let config = Arc::clone(&state.config);
        let stats = self.builder.listener_stats(&config);
        let listener = Arc::new(Listener::new(state, stats));
        let bindings = self.bind(&listener, &config)?;
        self.active.insert(Arc::clone(&config.name), Active { listener, bindings });
        self.stats.listener_added.inc();
        Ok(())
    }

    fn update(&mut self, state: State) -> Result<(), ConfigError> {
        let config = Arc::clone(&state.config);
        let stats = self.builder.listener_stats(&config);
        let listener = Arc::new(Listener::new(state, stats));
        let same_sockets = self.active.get(&config.name).is_some_and(|active| {
            let old = active.listener.config();
            old.addresses == config.addresses
                && old.bind_to_port == config.bind_to_port
                && old.transparent == config.transparent
                && old.freebind == config.freebind
        });
        let bindings = match same_sockets {
            true => None,
            false => Some(self.bind(&listener, &config)?),
        };
        let Some(active) = self.active.get_mut(&config.name) else { return Ok(()) };
        let old = std::mem::replace(&mut active.listener, Arc::clone(&listener));
        match bindings {
            None => {
                for bound in &active.bindings {
                    bound.binding.listener.store(Arc::clone(&listener));
                }
            }
            Some(bindings) => {
                for bound in std::mem::replace(&mut active.bindings, bindings) {
                    bound.binding.stop();
                }
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
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(active) = self.active.remove(name) else { return false };
        for bound in &active.bindings {
            bound.binding.stop();
        }
        let chains = active.listener.state.load().chains.iter().cloned().collect();
        self.drain_out(chains);
        self.stats.listener_removed.inc();
        self.publish();
        true
    }

    /// Stops accepting, on all listeners or only on inbound ones (`/drain_listeners`).
    pub fn stop(&mut self, inbound_only: bool) {
        for active in self.active.values() {
            if inbound_only && active.listener.config().direction != Direction::Inbound {
                continue;
            }
            for bound in &active.bindings {
                bound.binding.stop();
            }
            self.stats.listener_stopped.inc();
        }
        self.stopped = match inbound_only {
            true => vec![Direction::Inbound],
            false => vec![Direction::Inbound, Direction::Outbound, Direction::Unspecified],
        };
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

    fn refuse_duplicates(&self, config: &Config) -> Result<(), ConfigError> {
        let others = self.active.values().filter(|a| a.listener.config().name != config.name);
        for other in others {
            let other = other.listener.config();
            let taken = config.addresses.iter().find(|address| {
                let port_zero = config.bind_to_port && address.port() == Some(0);
                !port_zero && other.addresses.contains(address)
            });
            if let Some(address) = taken {
                let at = At::resource("listener", &config.name);
                return Err(at.field("address").error(format!(
                    "duplicate address '{address}': listener '{}' has it already",
                    other.name
                )));
            }
        }
        Ok(())
    }

    fn bind(&self, listener: &Arc<Listener>, config: &Config) -> Result<Vec<Bound>, ConfigError> {
        if !config.bind_to_port || self.is_stopped(config.direction) {
            return Ok(Vec::new());
        }
        let at = At::resource("listener", &config.name);
        let mut ready = Vec::new();
        for address in &config.addresses {
            let sockets = socket::bind(address, config, self.workers.len()).map_err(|error| {
                self.stats.listener_create_failure.inc();
                at.field("address").error(format!("cannot bind '{address}': {error}"))
            })?;
            ready.push((address, sockets));
        }
        let mut bindings = Vec::new();
        for (address, sockets) in ready {
            let bound = sockets[0].local_address().unwrap_or_else(|| address.clone());
            let binding = Binding::new(Arc::clone(listener));
            for (worker, socket) in self.workers.iter().zip(sockets) {
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
            chain.drain.advance(Phase::Draining);
            let stats = Arc::clone(&self.stats);
            let drain_time = self.drain_time;
            stats.total_filter_chains_draining.inc();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(drain_time, chain.drain.idle()).await;
                chain.drain.advance(Phase::Closing);
                stats.total_filter_chains_draining.dec();
            });
        }
    }

    /// Publishes what redirected connections may be handed to.
    fn publish(&self) {
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
