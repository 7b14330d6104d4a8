//! What is requested and known of one type. State-of-the-world, delta and file subscriptions
//! share it; only how it is put into messages differs.

mod delivery;
mod entry;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio_util::time::delay_queue::Key;
use xxhash_rust::xxh64::xxh64;

use crate::resource::{Refusals, Resource, ResourceError, Response};
use crate::state::{ResourceState, ResourceStatus, SubscriptionStats, TypeState};
use crate::subscription::{Event, SubscriptionConfig};
use delivery::Touched;
pub(crate) use delivery::{Delivery, Unanswered};
use entry::{Entry, Timer, Timers, arm, disarm};

/// Every resource of one type that is requested or known.
pub(crate) struct Table {
    config: SubscriptionConfig,
    entries: BTreeMap<Arc<str>, Entry>,
    /// How many entries are requested by name.
    requested: usize,
    unanswered: VecDeque<Unanswered>,
    /// Number of the last response.
    sequence: u64,
    /// Version of the last response that was accepted as a whole, and its number.
    accepted: (String, u64),
    timers: Timers,
    first_fetch: Option<Key>,
    stats: SubscriptionStats,
}

impl Table {
    pub fn new(config: SubscriptionConfig) -> Self {
        let mut table = Self {
            config: config.clone(),
            entries: BTreeMap::new(),
            requested: 0,
            unanswered: VecDeque::new(),
            sequence: 0,
            accepted: Default::default(),
            timers: Timers::new(),
            first_fetch: None,
            stats: SubscriptionStats::default(),
        };
        table.restart(config);
        table
    }

    /// A subscription begins. The table is new or was cleared.
    pub fn restart(&mut self, config: SubscriptionConfig) {
        self.config = config;
        self.stats = SubscriptionStats { update_attempt: 1, ..Default::default() };
        let waits = self.config.initial_fetch_timeout.filter(|_| self.config.wildcard);
        self.first_fetch = waits.map(|timeout| arm(&mut self.timers, Timer::FirstFetch, timeout));
    }

    pub fn config(&self) -> &SubscriptionConfig {
        &self.config
    }

    pub fn type_url(&self) -> &str {
        &self.config.type_url
    }

    pub fn is_wildcard(&self) -> bool {
        self.config.wildcard
    }

    pub fn stats(&self) -> &SubscriptionStats {
        &self.stats
    }

    /// Whether anything at all is wanted.
    pub fn wants_anything(&self) -> bool {
        self.config.wildcard || self.requested > 0
    }

    /// How many names are requested, the wildcard not counted.
    pub fn requested_len(&self) -> usize {
        self.requested
    }

    pub fn requested(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.iter().filter(|(_, entry)| entry.requested).map(|(name, _)| name)
    }

    /// Every resource whose version the server knows to be accepted.
    pub fn acked_versions(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.entries.iter().filter_map(|(name, entry)| Some((name, entry.acked.as_ref()?)))
    }

    /// Whether this is the version in use, or the one that the server knows to be accepted.
    pub fn knows(&self, name: &str, version: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| {
            entry.present && (&*entry.version == version || entry.acked.as_deref() == Some(version))
        })
    }

    pub fn unanswered_len(&self) -> usize {
        self.unanswered.len()
    }

    /// Whether the receiver still owes an answer to a response of this stream that came after the
    /// response of this number.
    pub fn owes_answer(&self, stream: u64, after: u64) -> bool {
        self.unanswered
            .iter()
            .any(|response| response.stream == stream && response.sequence > after)
    }

    /// Requests a name; whether that is news.
    pub fn add(&mut self, name: &Arc<str>) -> bool {
        let entry = self.entries.entry(name.clone()).or_insert_with(Entry::new);
        if entry.requested {
            return false;
        }
        entry.requested = true;
        self.requested += 1;
        if !entry.present {
            entry.await_fetch(&mut self.timers, name, self.config.initial_fetch_timeout);
        }
        true
    }

    /// Requests a name no more; whether that is news.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.requested) else {
            return false;
        };
        entry.requested = false;
        self.requested -= 1;
        if self.config.wildcard && entry.present {
            // The server says whether the wildcard covers it.
            disarm(&mut self.timers, &mut entry.fetch);
        } else {
            self.forget(name);
        }
        true
    }

    /// Starts the initial fetch timeout of a requested name anew; whether it is requested.
    pub fn refresh(&mut self, name: &Arc<str>) -> bool {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.requested) else {
            return false;
        };
        entry.await_fetch(&mut self.timers, name, self.config.initial_fetch_timeout);
        true
    }

    fn forget(&mut self, name: &str) {
        if let Some(mut entry) = self.entries.remove(name) {
            entry.disarm(&mut self.timers);
        }
    }

    /// Wants nothing any more and forgets everything; gives what nobody will answer.
    pub fn clear(&mut self) -> VecDeque<Unanswered> {
        self.config.wildcard = false;
        self.entries.clear();
        self.requested = 0;
        self.timers.clear();
        self.first_fetch = None;
        self.accepted.0.clear();
        std::mem::take(&mut self.unanswered)
    }

    /// Another server took over: it does not know what the last one had accepted.
    pub fn forget_acked_versions(&mut self) {
        for entry in self.entries.values_mut() {
            entry.acked = None;
        }
    }

    /// Takes a response in and says what the receiver has to apply.
    pub fn receive(&mut self, response: Response, stream: u64) -> Delivery {
        self.sequence += 1;
        self.end_first_fetch();
        let absent = if response.full_state { self.absent(&response) } else { Vec::new() };
        for (name, ttl) in response.heartbeats {
            if let Some((name, entry)) = entry_mut(&mut self.entries, &name) {
                entry.live_for(&mut self.timers, &name, ttl);
            }
        }
        let mut touched = Vec::with_capacity(response.resources.len());
        let mut resources = response.resources;
        resources.retain(|resource| self.note_resource(resource, &mut touched));
        for error in &response.errors {
            self.note_refusal(&error.name, &response.version, &mut touched);
        }
        let mut removed = response.removed;
        removed.extend(absent);
        removed.retain(|name| self.note_removal(name, &mut touched));
        self.unanswered.push_back(Unanswered {
            sequence: self.sequence,
            stream,
            nonce: response.nonce,
            version: response.version.clone(),
            touched,
        });
        Delivery {
            sequence: self.sequence,
            version: response.version,
            resources,
            removed,
            errors: response.errors,
        }
    }

    /// The wildcard's initial fetch timeout is over: something came, be it good or bad.
    pub fn end_first_fetch(&mut self) {
        disarm(&mut self.timers, &mut self.first_fetch);
    }

    /// What is known and missing in a response that names everything there is.
    fn absent(&self, response: &Response) -> Vec<String> {
        let named: HashSet<&str> = response
            .resources
            .iter()
            .map(|resource| resource.name.as_str())
            .chain(response.heartbeats.iter().map(|(name, _)| name.as_str()))
            .chain(response.errors.iter().map(|error| error.name.as_str()))
            .collect();
        let present = self.entries.iter().filter(|(_, entry)| entry.present);
        present
            .filter(|(name, _)| !named.contains(&***name))
            .map(|(name, _)| name.to_string())
            .collect()
    }

    /// Whether somebody asked for this resource; if so it is noted under its name and every alias.
    fn note_resource(&mut self, resource: &Resource, touched: &mut Vec<Touched>) -> bool {
        let version: Arc<str> = Arc::from(resource.version.as_str());
        let before = touched.len();
        if self.config.wildcard && !self.entries.contains_key(resource.name.as_str()) {
            self.entries.insert(Arc::from(resource.name.as_str()), Entry::new());
        }
        for alias in std::iter::once(&resource.name).chain(&resource.aliases) {
            let Some((name, entry)) = entry_mut(&mut self.entries, alias) else { continue };
            disarm(&mut self.timers, &mut entry.fetch);
            entry.live_for(&mut self.timers, &name, resource.ttl);
            entry.present = true;
            entry.sequence = self.sequence;
            touched.push((name, Some(version.clone())));
        }
        touched.len() > before
    }

    /// A resource that is refused before the receiver sees it. Its timers run on: nothing came.
    fn note_refusal(&mut self, name: &str, version: &str, touched: &mut Vec<Touched>) {
        if let Some((name, entry)) = entry_mut(&mut self.entries, name) {
            entry.sequence = self.sequence;
            touched.push((name, Some(Arc::from(version))));
        }
    }

    /// Whether the removal of this name means anything to the receiver.
    fn note_removal(&mut self, name: &str, touched: &mut Vec<Touched>) -> bool {
        let Some((name, entry)) = entry_mut(&mut self.entries, name) else { return false };
        entry.disarm(&mut self.timers);
        entry.present = false;
        entry.sequence = self.sequence;
        touched.push((name, None));
        true
    }

    /// Takes the receiver's answer in; gives the response that it belongs to.
    pub fn answer(&mut self, sequence: u64, errors: &[ResourceError]) -> Option<Unanswered> {
        let position = self.unanswered.iter().position(|response| response.sequence == sequence)?;
        let response = self.unanswered.remove(position)?;
        let refusals = Refusals::new(errors);
        for (name, version) in &response.touched {
            let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.sequence == sequence)
            else {
                continue;
            };
            match version {
                Some(version) => entry.settle(version, refusals.of(name), errors.is_empty()),
                None if entry.requested => entry.vanish(),
                None => self.forget(name),
            }
        }
        self.count_answer(&response, errors.is_empty());
        Some(response)
    }

    fn count_answer(&mut self, response: &Unanswered, accepted: bool) {
        self.stats.update_attempt += 1;
        if !accepted {
            self.stats.update_rejected += 1;
            return;
        }
        self.stats.update_success += 1;
        self.stats.update_time = Some(SystemTime::now());
        // A late answer to an early response must not turn the version back.
        if response.sequence > self.accepted.1 {
            self.accepted = (response.version.clone(), response.sequence);
            self.stats.version = xxh64(response.version.as_bytes(), 0);
            self.stats.version_text.clone_from(&response.version);
        }
    }

    pub fn count_failure(&mut self) {
        self.stats.update_attempt += 1;
        self.stats.update_failure += 1;
    }

    /// The next timer that ran out. Must be polled again after every change.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        while let Poll::Ready(Some(timer)) = self.timers.poll_expired(cx) {
            if let Some(event) = self.expire(timer.into_inner()) {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }

    fn expire(&mut self, timer: Timer) -> Option<Event> {
        match timer {
            Timer::FirstFetch => {
                self.first_fetch = None;
                self.count_fetch_timeout();
                Some(Event::InitialFetchTimeout)
            }
            Timer::Fetch(name) => {
                let entry = self.entries.get_mut(&name)?;
                entry.fetch = None;
                if !entry.present {
                    entry.set_status(ResourceStatus::TimedOut);
                }
                self.count_fetch_timeout();
                Some(Event::ResourceTimeout(name.to_string()))
            }
            Timer::Ttl(name) => {
                let entry = self.entries.get_mut(&name)?;
                entry.ttl = None;
                entry.present = false;
                // An answer that is still to come must not revive it.
                entry.sequence = 0;
                entry.vanish();
                if !entry.requested {
                    self.forget(&name);
                }
                Some(Event::Expired(name.to_string()))
            }
        }
    }

    fn count_fetch_timeout(&mut self) {
        self.stats.update_attempt += 1;
        self.stats.init_fetch_timeout += 1;
    }

    /// A copy of everything that can be told.
    pub fn state(&self) -> TypeState {
        let resources = self.entries.iter().map(|(name, entry)| ResourceState {
            name: name.to_string(),
            status: entry.status.clone(),
            version: entry.version.to_string(),
            updated_at: entry.updated_at,
        });
        TypeState {
            type_url: self.config.type_url.clone(),
            version: self.accepted.0.clone(),
            resources: resources.collect(),
        }
    }
}

/// An entry with the name it is stored under, so that nothing has to be allocated for it.
fn entry_mut<'a>(
    entries: &'a mut BTreeMap<Arc<str>, Entry>,
    name: &str,
) -> Option<(Arc<str>, &'a mut Entry)> {
    let (name, _) = entries.get_key_value(name)?;
    let name = name.clone();
    entries.get_mut(&name).map(|entry| (name, entry))
}
