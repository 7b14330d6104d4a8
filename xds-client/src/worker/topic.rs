//! One type on a stream: its table, its variant of the protocol and its receiver.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;

use crate::resource::{ResourceError, error_detail};
use crate::state::{SubscriptionStats, TypeState};
use crate::subscription::{Command, Event, Mailbox, SubscriptionConfig, ToOwner};
use crate::table::Table;
use crate::variant::{Variant, WILDCARD};

pub(super) struct Topic<V> {
    pub type_url: Arc<str>,
    /// Number of the subscription that receives.
    pub subscription: u64,
    table: Table,
    variant: V,
    events: mpsc::UnboundedSender<Event>,
    /// Why the last response was refused. Some servers send at once what was refused, time and again.
    refusal: Option<String>,
}

impl<V: Variant> Topic<V> {
    pub fn new(
        type_url: Arc<str>,
        subscription: u64,
        config: SubscriptionConfig,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let (table, variant) = (Table::new(config), V::default());
        Self { type_url, subscription, table, variant, events, refusal: None }
    }

    /// Another subscription takes over and starts from nothing.
    pub fn replace(
        &mut self,
        subscription: u64,
        config: SubscriptionConfig,
        events: mpsc::UnboundedSender<Event>,
    ) {
        self.unsubscribe();
        self.variant.forget_versions();
        if config.wildcard {
            self.variant.refreshed(&[Arc::from(WILDCARD)]);
        }
        self.subscription = subscription;
        self.table.restart(config);
        self.events = events;
    }

    pub fn start_stream(&mut self, stream: u64, resumes: bool) {
        self.variant.start_stream(stream, resumes);
    }

    pub fn forget_versions(&mut self) {
        self.table.forget_acked_versions();
        self.variant.forget_versions();
    }

    /// Whether the current stream has carried a request.
    pub fn has_begun(&self) -> bool {
        self.variant.has_begun()
    }

    pub fn has_request(&self) -> bool {
        self.variant.has_request(&self.table)
    }

    pub fn next_request(&mut self) -> Option<V::Request> {
        self.variant.next_request(&self.table)
    }

    /// Responses whose answers were not sent yet; those of a paused type only until the receiver has answered them.
    pub fn backlog(&self, is_paused: bool) -> usize {
        let unsent = if is_paused { 0 } else { self.variant.unsent_answers() };
        self.table.unanswered_len() + unsent
    }

    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.table.poll_expired(cx)
    }

    pub fn count_failure(&mut self) {
        self.table.count_failure();
    }

    pub fn stats(&self) -> SubscriptionStats {
        self.table.stats().clone()
    }

    pub fn state(&self) -> TypeState {
        self.table.state()
    }

    /// Hands an event to the receiver. Without one the event is dropped, which answers an update.
    pub fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Does what the receiver asks for.
    pub fn take(&mut self, command: Command) {
        match command {
            // Handled before, for there may be no topic yet.
            Command::Subscribe(..) => {}
            Command::Unsubscribe => self.unsubscribe(),
            Command::Add(names) => self.change(names, Table::add, V::added),
            Command::Remove(names) => {
                self.change(names, |table, name| table.remove(name), V::removed)
            }
            Command::Refresh(names) => self.change(names, Table::refresh, V::refreshed),
            Command::Answer(sequence, errors) => self.answer(sequence, &errors),
            // A reader that went away needs no reply.
            Command::State(reply) => drop(reply.send(self.state())),
            Command::Stats(reply) => drop(reply.send(self.stats())),
        }
    }

    /// Changes the table name by name, and tells the variant about those that made a difference.
    fn change(
        &mut self,
        mut names: BTreeSet<Arc<str>>,
        change: fn(&mut Table, &Arc<str>) -> bool,
        tell: fn(&mut V, &[Arc<str>]),
    ) {
        names.retain(|name| change(&mut self.table, name));
        if !names.is_empty() {
            tell(&mut self.variant, &names.into_iter().collect::<Vec<_>>());
        }
    }

    fn unsubscribe(&mut self) {
        let mut names: Vec<_> = self.table.requested().cloned().collect();
        if self.table.is_wildcard() {
            names.push(Arc::from(WILDCARD));
        }
        self.variant.removed(&names);
        let error =
            ResourceError::unnamed("the subscription ended before the response was applied");
        for response in self.table.clear() {
            self.variant.answered(&response, Some(error_detail(std::slice::from_ref(&error))));
        }
    }

    /// Takes a response in and hands the receiver what it has to apply. What needs no applying is
    /// answered at once.
    pub fn deliver(
        &mut self,
        response: V::Response,
        stream: u64,
        outbox: mpsc::UnboundedSender<ToOwner>,
    ) {
        let response = self.variant.unwrap(response, &self.table);
        let only_heartbeats = response.resources.is_empty() && !response.heartbeats.is_empty();
        let delivery = self.table.receive(response, stream);
        // An empty response tells a wildcard that there is nothing.
        if delivery.is_empty() && (only_heartbeats || !self.table.is_wildcard()) {
            return self.answer(delivery.sequence, &[]);
        }
        let (type_url, subscription) = (self.type_url.clone(), self.subscription);
        self.send(Event::Update(delivery.into_update(Mailbox {
            type_url,
            subscription,
            sender: outbox,
        })));
    }

    fn answer(&mut self, sequence: u64, errors: &[ResourceError]) {
        let Some(response) = self.table.answer(sequence, errors) else { return };
        let error = (!errors.is_empty()).then(|| error_detail(errors));
        let refusal = error.as_ref().map(|error| error.message.clone());
        if let Some(error) = refusal.as_ref().filter(|_| refusal != self.refusal) {
            let (type_url, version) = (&*self.type_url, &response.version);
            tracing::warn!(type_url, version, error, "refused configuration");
        }
        self.refusal = refusal;
        self.variant.answered(&response, error);
    }
}
