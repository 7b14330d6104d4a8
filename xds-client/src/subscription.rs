//! The receiver's end: one [`Subscription`] per client and type, the events it yields and the
//! answer that every update awaits.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use proto::google::protobuf::Any;
use tokio::sync::{mpsc, oneshot};

use crate::resource::{Resource, ResourceError};
use crate::state::{ClientStats, SubscriptionStats, TypeState};

/// `ConfigSource.initial_fetch_timeout` when it is not set.
pub const DEFAULT_INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// What to subscribe to.
#[derive(Clone, Debug)]
pub struct SubscriptionConfig {
    /// Type URL of the resources, `type.googleapis.com/...`.
    pub type_url: String,
    /// Whether everything that the server has is wanted, as for listeners and clusters. Names can
    /// be added besides.
    pub wildcard: bool,
    /// Whether, in state-of-the-world, a resource that is absent from a response is removed (true
    /// for listeners and clusters). Delta always names what it removes.
    pub full_state: bool,
    /// How long to wait for the first answer, for the subscription if it is a wildcard and for
    /// every name; `None` waits for ever. Envoy's default is 15 s.
    pub initial_fetch_timeout: Option<Duration>,
    /// Reads the name of a packed resource of this type; `None` if it cannot be decoded.
    pub name_of: fn(&Any) -> Option<String>,
}

/// What a subscription yields.
#[derive(Debug)]
pub enum Event {
    /// A response, to be applied and then answered.
    Update(Update),
    /// The wildcard subscription's initial fetch timeout passed without a response.
    InitialFetchTimeout,
    /// The initial fetch timeout of this name passed: treat it as not existing until it comes.
    ResourceTimeout(String),
    /// The time to live of this resource ran out: treat it as removed.
    Expired(String),
}

/// A response of the management server.
///
/// Apply what can be applied, then [`accept`](Update::accept) or [`reject`](Update::reject): the
/// ACK or NACK leaves only then. Good resources of a rejected update stay applied. Answers may come
/// late and in any order; in state-of-the-world, changed names of the type wait for them.
#[derive(Debug)]
pub struct Update {
    /// Version of the response.
    pub version: String,
    /// New and changed resources; in state-of-the-world, unchanged ones too.
    pub resources: Vec<Resource>,
    /// Names that no longer exist, or never did though they were asked for. Already worked out
    /// from absence for full-state types. Whether a type heeds removals is the receiver's choice.
    pub removed: Vec<String>,
    /// The answer owed to the server.
    pub answer: Answer,
}

impl Update {
    /// Resources that came from no server: nobody waits for the answer.
    pub fn local(version: impl Into<String>, resources: Vec<Resource>) -> Self {
        let answer = Answer::settled(Vec::new());
        Self { version: version.into(), resources, removed: Vec::new(), answer }
    }

    /// Says that everything was applied.
    pub fn accept(self) {
        self.answer.accept();
    }

    /// Says that the named resources were refused and everything else was applied.
    pub fn reject(self, errors: Vec<ResourceError>) {
        self.answer.reject(errors);
    }
}

/// The answer owed for one update. Dropping it unanswered is a rejection.
pub struct Answer {
    errors: Vec<ResourceError>,
    reply: Option<(Mailbox, u64)>,
}

impl Answer {
    pub(crate) fn new(mailbox: Mailbox, sequence: u64, errors: Vec<ResourceError>) -> Self {
        Self { errors, reply: Some((mailbox, sequence)) }
    }

    /// An answer that nobody waits for.
    pub(crate) fn settled(errors: Vec<ResourceError>) -> Self {
        Self { errors, reply: None }
    }

    /// What the client itself found wrong; such resources are not in the update, and the answer
    /// is a NACK whatever the receiver says.
    pub fn errors(&self) -> &[ResourceError] {
        &self.errors
    }

    /// See [`Update::accept`].
    pub fn accept(self) {
        self.reject(Vec::new());
    }

    /// See [`Update::reject`].
    pub fn reject(mut self, errors: Vec<ResourceError>) {
        if self.reply.is_none() {
            // Nobody else will tell.
            errors.iter().for_each(|error| tracing::warn!(%error, "refused configuration"));
        }
        self.errors.extend(errors);
        self.send();
    }

    fn send(&mut self) {
        if let Some((mailbox, sequence)) = self.reply.take() {
            mailbox.send(Command::Answer(sequence, std::mem::take(&mut self.errors)));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.reply.is_some() {
            self.errors
                .push(ResourceError::unnamed("the receiver dropped the update without an answer"));
            self.send();
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("errors", &self.errors).finish_non_exhaustive()
    }
}

/// The one subscription of a client to a type. Dropping it unsubscribes from everything.
#[derive(Debug)]
pub struct Subscription {
    events: mpsc::UnboundedReceiver<Event>,
    handle: SubscriptionHandle,
}

impl Subscription {
    pub(crate) fn new(events: mpsc::UnboundedReceiver<Event>, mailbox: Mailbox) -> Self {
        Self { events, handle: SubscriptionHandle { mailbox } }
    }

    /// The next event; `None` once the client is gone or another subscription to the same type
    /// took this one's place. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// A handle that changes the names.
    pub fn handle(&self) -> SubscriptionHandle {
        self.handle.clone()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.handle.mailbox.send(Command::Unsubscribe);
    }
}

/// Changes what a [`Subscription`] asks for. Changes made in one go leave as one request.
#[derive(Clone, Debug)]
pub struct SubscriptionHandle {
    mailbox: Mailbox,
}

impl SubscriptionHandle {
    /// Asks for these names too. One that is already asked for is left alone.
    pub fn add<S: Into<String>>(&self, names: impl IntoIterator<Item = S>) {
        self.mailbox.send(Command::Add(collect(names)));
    }

    /// Asks for these names no more and forgets them.
    pub fn remove<S: Into<String>>(&self, names: impl IntoIterator<Item = S>) {
        self.mailbox.send(Command::Remove(collect(names)));
    }

    /// Asks for these names anew, as a cluster that warms again does with its endpoints: their
    /// initial fetch timeouts start over, and the server is made to repeat them by a request
    /// without them and one with them.
    pub fn refresh<S: Into<String>>(&self, names: impl IntoIterator<Item = S>) {
        self.mailbox.send(Command::Refresh(collect(names)));
    }

    /// The state of every resource of this subscription; `None` once its client is gone.
    pub async fn state(&self) -> Option<TypeState> {
        self.mailbox.ask(Command::State).await
    }

    /// The counters of this subscription; `None` once its client is gone.
    pub async fn stats(&self) -> Option<SubscriptionStats> {
        self.mailbox.ask(Command::Stats).await
    }
}

fn collect<S: Into<String>>(names: impl IntoIterator<Item = S>) -> BTreeSet<Arc<str>> {
    names.into_iter().map(|name| Arc::from(name.into())).collect()
}

/// What a receiver asks of the task that owns its subscription.
#[derive(Debug)]
pub(crate) enum Command {
    Subscribe(Box<SubscriptionConfig>, mpsc::UnboundedSender<Event>),
    Unsubscribe,
    Add(BTreeSet<Arc<str>>),
    Remove(BTreeSet<Arc<str>>),
    Refresh(BTreeSet<Arc<str>>),
    /// The answer to the update of this sequence number; no errors is an ACK.
    Answer(u64, Vec<ResourceError>),
    State(oneshot::Sender<TypeState>),
    Stats(oneshot::Sender<SubscriptionStats>),
}

/// A command and the subscription it is meant for.
#[derive(Debug)]
pub(crate) struct Letter {
    pub type_url: Arc<str>,
    /// Number of the subscription, so that one that was replaced cannot disturb its successor.
    pub subscription: u64,
    pub command: Command,
}

/// The way from a receiver to the task that owns its subscription.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    pub type_url: Arc<str>,
    pub subscription: u64,
    pub sender: mpsc::UnboundedSender<ToOwner>,
}

/// Which requests of a type are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    /// All of them.
    Requests,
    /// All but the first of a stream.
    Answers,
}

/// Everything that reaches the task that owns subscriptions.
#[derive(Debug)]
pub(crate) enum ToOwner {
    Letter(Letter),
    Pause((Arc<str>, Held)),
    Resume((Arc<str>, Held)),
    States(oneshot::Sender<Vec<TypeState>>),
    Stats(oneshot::Sender<ClientStats>),
}

impl Mailbox {
    /// Sends a command. The owner being gone is no error: there is nothing left to change.
    pub fn send(&self, command: Command) {
        let letter =
            Letter { type_url: self.type_url.clone(), subscription: self.subscription, command };
        let _ = self.sender.send(ToOwner::Letter(letter));
    }

    /// Sends a question and awaits its reply; `None` if the owner is gone.
    pub async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.send(question(reply));
        answer.await.ok()
    }
}
