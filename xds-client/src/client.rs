//! The public handle of a stream: configuration, start, subscriptions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::envoy::config::core::v3::Node;
use tokio::sync::{mpsc, oneshot};

use crate::backoff::BackoffConfig;
use crate::delta::Delta;
use crate::rate_limit::RateLimit;
use crate::sotw::Sotw;
use crate::state::{ClientStats, TypeState};
use crate::subscription::{Command, Held, Mailbox, Subscription, SubscriptionConfig, ToOwner};
use crate::transport::{Polling, Server, StartError, method};
use crate::worker::Worker;

/// The variant of the protocol (`ApiConfigSource.api_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// State of the world: `GRPC`, `AGGREGATED_GRPC`.
    Sotw,
    /// Incremental: `DELTA_GRPC`, `AGGREGATED_DELTA_GRPC`.
    Delta,
    /// State of the world, polled in JSON: `REST`.
    Rest(Polling),
}

/// Which gRPC service carries the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The aggregated discovery service: every type on one stream.
    Aggregated,
    /// The discovery service of one type.
    SingleType {
        /// Type URL, `type.googleapis.com/...`.
        type_url: String,
    },
}

/// Everything that a client needs to know.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Who this proxy is.
    pub node: Node,
    /// The variant of the protocol.
    pub protocol: Protocol,
    /// Aggregated or a single type.
    pub mode: Mode,
    /// The management servers, best first. One is used at a time; after two failures in a row
    /// without an answer, the next takes over.
    pub servers: Vec<Server>,
    /// Delays between two streams.
    pub backoff: BackoffConfig,
    /// Whether only the first request of a stream carries the node
    /// (`ApiConfigSource.set_node_on_first_message_only`, default false).
    pub set_node_on_first_message_only: bool,
    /// Limit on requests; `None`, as in Envoy, unless `rate_limit_settings` is there.
    pub rate_limit: Option<RateLimit>,
    /// Largest response in bytes; default 256 MiB.
    pub max_message_size: usize,
}

impl ClientConfig {
    /// A configuration with Envoy's defaults.
    pub fn new(node: Node, protocol: Protocol, mode: Mode, servers: Vec<Server>) -> Self {
        Self {
            node,
            protocol,
            mode,
            servers,
            backoff: BackoffConfig::default(),
            set_node_on_first_message_only: false,
            rate_limit: None,
            max_message_size: 256 << 20,
        }
    }

    /// Whether the first request tells the server of the node for good. Over REST, each request stands alone.
    pub(crate) fn sends_node_once(&self) -> bool {
        self.set_node_on_first_message_only && !matches!(self.protocol, Protocol::Rest(_))
    }
}

/// A handle of one stream to the management servers; cheap to clone. The stream ends when the last
/// handle and the last subscription are gone.
#[derive(Clone, Debug)]
pub struct Client {
    mode: Arc<Mode>,
    sender: mpsc::UnboundedSender<ToOwner>,
    subscriptions: Arc<AtomicU64>,
}

impl Client {
    /// Starts the client's task on the current tokio runtime and connects.
    ///
    /// # Errors
    /// If there is no server, or no gRPC method for the type and variant.
    pub fn start(config: ClientConfig) -> Result<Self, StartError> {
        if config.servers.is_empty() {
            return Err(StartError::NoServer);
        }
        let mode = Arc::new(config.mode.clone());
        let path = method::path(&config.mode, config.protocol)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let outbox = sender.downgrade();
        match config.protocol {
            Protocol::Sotw | Protocol::Rest(_) => {
                drop(tokio::spawn(Worker::<Sotw>::new(config, path, receiver, outbox).run()))
            }
            Protocol::Delta => {
                drop(tokio::spawn(Worker::<Delta>::new(config, path, receiver, outbox).run()))
            }
        }
        Ok(Self { mode, sender, subscriptions: Arc::default() })
    }

    /// Subscribes to a type. Names are added on [`Subscription::handle`]. An earlier subscription
    /// of this client to the same type ends, and one to a type that the stream does not serve ends
    /// at once.
    pub fn subscribe(&self, config: SubscriptionConfig) -> Subscription {
        let (events, receiver) = mpsc::unbounded_channel();
        let mailbox = Mailbox {
            type_url: Arc::from(config.type_url.as_str()),
            subscription: self.subscriptions.fetch_add(1, Ordering::Relaxed),
            sender: self.sender.clone(),
        };
        if self.serves(&config.type_url) {
            mailbox.send(Command::Subscribe(Box::new(config), events));
        } else {
            tracing::error!(config.type_url, mode = ?self.mode, "this stream does not serve the type");
        }
        Subscription::new(receiver, mailbox)
    }

    fn serves(&self, type_url: &str) -> bool {
        match &*self.mode {
            Mode::Aggregated => true,
            Mode::SingleType { type_url: only } => only == type_url,
        }
    }

    /// Holds back the requests of these types until the guard is dropped, so that all changes made
    /// meanwhile leave as one request. Guards nest.
    pub fn pause(&self, type_urls: &[&str]) -> Pause {
        self.hold(type_urls, Held::Requests)
    }

    /// As [`Client::pause`], but a new stream begins all the same: its first request answers nothing.
    pub fn hold_answers(&self, type_urls: &[&str]) -> Pause {
        self.hold(type_urls, Held::Answers)
    }

    fn hold(&self, type_urls: &[&str], what: Held) -> Pause {
        let held = type_urls.iter().map(|type_url| (Arc::from(*type_url), what));
        let held: Vec<(Arc<str>, Held)> = held.collect();
        for held in &held {
            // The task being gone is no error: there is nothing left to hold back.
            let _ = self.sender.send(ToOwner::Pause(held.clone()));
        }
        Pause { held, sender: self.sender.clone() }
    }

    /// The state of every resource of every type, in order of subscription. Copies names and
    /// versions: meant for an administrator, not for a metrics scrape.
    pub async fn state(&self) -> Vec<TypeState> {
        self.ask(ToOwner::States).await
    }

    /// Counters of the stream and of every type.
    pub async fn stats(&self) -> ClientStats {
        self.ask(ToOwner::Stats).await
    }

    /// Asks the task; it is gone only with its runtime, then there is nothing to tell.
    async fn ask<T: Default>(&self, question: fn(oneshot::Sender<T>) -> ToOwner) -> T {
        let (reply, answer) = oneshot::channel();
        let _ = self.sender.send(question(reply));
        answer.await.unwrap_or_default()
    }
}

/// Holds back requests while it lives; see [`Client::pause`] and [`Client::hold_answers`].
#[derive(Debug)]
#[must_use = "requests are held back only as long as this lives"]
pub struct Pause {
    held: Vec<(Arc<str>, Held)>,
    sender: mpsc::UnboundedSender<ToOwner>,
}

impl Drop for Pause {
    fn drop(&mut self) {
        for held in self.held.drain(..) {
            let _ = self.sender.send(ToOwner::Resume(held));
        }
    }
}
