//! What happens between the control plane and its clients, for tests to follow and for people to read.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::broadcast;

use crate::snapshot::Version;

/// How many events a reader may fall behind before it loses the oldest.
const BACKLOG: usize = 16 * 1024;

/// Which of the two xDS protocols a stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// State of the world: `DiscoveryRequest` and `DiscoveryResponse`.
    Sotw,
    /// Incremental: `DeltaDiscoveryRequest` and `DeltaDiscoveryResponse`.
    Delta,
}

/// One thing that happened on a stream.
#[derive(Debug, Clone)]
pub struct Event {
    /// When, to measure with.
    pub at: Instant,
    /// When, to print.
    pub time: SystemTime,
    /// The stream's number; numbers are never used again, and 0 is no stream.
    pub stream: u64,
    /// `node.id` of the client; empty before its first request.
    pub node: String,
    /// Type URL that this is about; empty for what concerns the whole stream.
    pub type_url: String,
    /// What happened.
    pub kind: EventKind,
}

/// What happened on a stream.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// A client opened a stream.
    StreamOpened {
        /// The protocol of its method.
        protocol: Protocol,
        /// The path of the gRPC method.
        method: &'static str,
    },
    /// A request changed what the client is subscribed to.
    Subscribed {
        /// Names that the client was not subscribed to before; `*` is every name.
        added: Vec<String>,
        /// Names that the client is no longer interested in.
        removed: Vec<String>,
    },
    /// A response was sent.
    Pushed {
        /// Version of the type's resources.
        version: Version,
        /// The response's nonce.
        nonce: String,
        /// Names of the resources in it.
        resources: Vec<String>,
        /// Names in `removed_resources` (delta only).
        removed: Vec<String>,
        /// Size of the resources, in bytes.
        bytes: usize,
        /// The faults that altered or delayed it.
        faults: Vec<&'static str>,
    },
    /// The client accepted a response.
    Acked {
        /// Version of the response.
        version: Version,
        /// Its nonce.
        nonce: String,
        /// Time since it was sent.
        after: Duration,
    },
    /// The client rejected a response.
    Nacked {
        /// Version of the response.
        version: Version,
        /// Its nonce.
        nonce: String,
        /// Time since it was sent.
        after: Duration,
        /// `error_detail.message`.
        error: String,
    },
    /// The client answered a response that was not the latest one, and the server took no notice.
    StaleNonce {
        /// The nonce it answered.
        nonce: String,
    },
    /// The stream ended.
    StreamClosed {
        /// Why.
        reason: String,
    },
    /// The folder was read and what is served has changed. This and what follows belongs to no stream.
    FolderRead {
        /// How many files are served.
        files: usize,
        /// The version that the change made.
        version: Version,
    },
    /// A file of the folder is not served as it is.
    FileBroken {
        /// The file.
        path: String,
        /// What is wrong, where, and what is served instead.
        error: String,
    },
    /// The folder cannot be read; what was read before stays in service.
    FolderFailed {
        /// What is wrong.
        error: String,
    },
}

/// Sends events to all who listen.
#[derive(Debug, Clone)]
pub(crate) struct EventSender(broadcast::Sender<Arc<Event>>);

impl EventSender {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    /// Events from now on.
    pub(crate) fn subscribe(&self) -> Events {
        Events(self.0.subscribe())
    }

    pub(crate) fn send(&self, stream: u64, node: &str, type_url: &str, kind: EventKind) {
        let event = Event {
            at: Instant::now(),
            time: SystemTime::now(),
            stream,
            node: node.to_owned(),
            type_url: type_url.to_owned(),
            kind,
        };
        // An error means that nobody listens.
        let _ = self.0.send(Arc::new(event));
    }
}

/// A subscription to the events of a control plane, from the moment it was made.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Arc<Event>>);

impl Events {
    /// The next event; `None` once the control plane has stopped. A reader that is 16,384 events behind loses the oldest and a
    /// warning is logged.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Closed) => return None,
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "events were lost: their reader is too slow");
                }
            }
        }
    }
}
