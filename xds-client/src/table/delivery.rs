//! A response on its way through the receiver: what it is given, and what is kept until it answers.

use std::sync::Arc;

use crate::resource::{Resource, ResourceError};
use crate::subscription::{Answer, Mailbox, Update};

/// A resource that a response changed, with its version there, or removed (`None`).
pub(super) type Touched = (Arc<str>, Option<Arc<str>>);

/// A response that the receiver has not answered yet.
pub(crate) struct Unanswered {
    pub sequence: u64,
    /// The stream it came on: an answer to it means nothing on another.
    pub stream: u64,
    pub nonce: String,
    pub version: String,
    pub(super) touched: Vec<Touched>,
}

/// What a response means for the receiver.
pub(crate) struct Delivery {
    pub sequence: u64,
    pub version: String,
    pub resources: Vec<Resource>,
    pub removed: Vec<String>,
    pub errors: Vec<ResourceError>,
}

impl Delivery {
    /// Whether there is nothing to apply and nothing to refuse.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty() && self.errors.is_empty()
    }

    /// The event for a receiver who answers to `mailbox`.
    pub fn into_update(self, mailbox: Mailbox) -> Update {
        Update {
            version: self.version,
            resources: self.resources,
            removed: self.removed,
            answer: Answer::new(mailbox, self.sequence, self.errors),
        }
    }
}
