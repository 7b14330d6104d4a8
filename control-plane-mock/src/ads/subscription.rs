//! One type on one stream: what the client wants, what it was sent and what it still has to be sent.
//!
//! At most one response of a type is under way on a stream. What changes before its answer comes is collected and sent as one
//! response after it, so that a slow client costs no memory beyond the names that changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use crate::event::Protocol;
use crate::resource::Resource;
use crate::snapshot::{Version, View};

/// The name that stands for every resource of a type.
pub(crate) const WILDCARD: &str = "*";

/// A response that the client has not answered yet.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    pub(crate) nonce: String,
    pub(crate) version: Version,
    pub(crate) sent_at: Instant,
}

/// The client's answer to its latest response of a type.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) version: Version,
    pub(crate) at: Instant,
    /// The NACK's message; `None` for an ACK.
    pub(crate) error: Option<String>,
}

/// The resources of a response.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) resources: Vec<Arc<Resource>>,
    /// Delta only: names that do not exist (any more).
    pub(crate) removed: Vec<String>,
}

/// The state of one type on one stream.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) type_url: String,
    pub(super) names: HashSet<String>,
    pub(super) wildcard: bool,
    /// Whether the client ever named a resource on this stream: after that, naming none no longer means all.
    pub(super) named: bool,
    /// A response is due whatever `due` holds: anything changed (state of the world), or the first response to a wildcard (delta).
    pub(super) respond: bool,
    /// Delta: the names to look at for the next response, `true` when the client must hear of them even if it has them.
    pub(super) due: BTreeMap<String, bool>,
    /// Delta: the version of each resource that the client has.
    pub(super) sent: HashMap<String, String>,
    pub(crate) last_nonce: String,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) answered: Option<Answered>,
}

impl Subscription {
    pub(crate) fn new(type_url: &str) -> Self {
        Self {
            type_url: type_url.to_owned(),
            names: HashSet::new(),
            wildcard: false,
            named: false,
            respond: false,
            due: BTreeMap::new(),
            sent: HashMap::new(),
            last_nonce: String::new(),
            in_flight: None,
            answered: None,
        }
    }

    /// Whether the client is interested in a resource of this name.
    pub(crate) fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Notes that a resource appeared, changed or went. Returns whether that concerns the client.
    pub(crate) fn mark(&mut self, protocol: Protocol, name: &str) -> bool {
        if !self.covers(name) {
            return false;
        }
        match protocol {
            Protocol::Sotw => self.respond = true,
            Protocol::Delta => {
                self.due.entry(name.to_owned()).or_insert(false);
            }
        }
        true
    }

    /// Notes that a resource is to be sent again although it did not change. Returns whether that concerns the client.
    pub(crate) fn mark_again(&mut self, protocol: Protocol, name: &str, view: &View<'_>) -> bool {
        let known = self.covers(name) && view.get(&self.type_url, name).is_some();
        if known && protocol == Protocol::Delta {
            self.due.insert(name.to_owned(), true);
        }
        self.respond |= known && protocol == Protocol::Sotw;
        known
    }

    /// Notes that everything the client is interested in is to be sent again, changed or not.
    pub(crate) fn mark_all(&mut self, view: &View<'_>) {
        self.respond = true;
        let existing = view.all(&self.type_url);
        let wanted = existing.keys().filter(|name| self.covers(name));
        let wanted: Vec<String> = wanted.map(|name| (*name).to_owned()).collect();
        self.due.extend(wanted.into_iter().map(|name| (name, true)));
    }

    /// Takes what is due, or `None` when nothing is: then the client has what it is interested in.
    pub(crate) fn take_due(&mut self, protocol: Protocol, view: &View<'_>) -> Option<Content> {
        if self.is_settled() {
            return None;
        }
        let content = match protocol {
            Protocol::Sotw => self.take_due_sotw(view),
            Protocol::Delta => self.take_due_delta(view),
        };
        if content.is_none() {
            self.note_up_to_date(view.version(&self.type_url));
        }
        content
    }

    /// Notes that `version` changed nothing for the client that it does not have, which is as good as an answer.
    fn note_up_to_date(&mut self, version: Version) {
        let answered =
            self.answered.get_or_insert(Answered { version, at: Instant::now(), error: None });
        answered.version = version;
    }

    /// Whether the client has answered everything there was to send.
    pub(crate) fn is_settled(&self) -> bool {
        self.in_flight.is_none() && !self.respond && self.due.is_empty()
    }

    /// The latest answer, if it answers `version` or later and everything there was to send.
    ///
    /// For a client that wants every name the latest answer is enough: whatever a later version changed is not for its eyes.
    pub(crate) fn answer_to(&self, version: Version) -> Option<&Answered> {
        let answered = self.answered.as_ref();
        answered.filter(|answer| self.is_settled() && (self.wildcard || answer.version >= version))
    }

    /// The names the client is subscribed to, sorted, `*` first when it wants all.
    pub(crate) fn sorted_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.iter().cloned().collect();
        if self.wildcard {
            names.push(WILDCARD.to_owned());
        }
        names.sort_unstable();
        names
    }

    /// Takes the answer to the response under way. `None` when `nonce` is not that response's.
    pub(crate) fn answer(&mut self, nonce: &str, error: Option<String>) -> Option<InFlight> {
        let answered = self.in_flight.take_if(|sent| sent.nonce == nonce)?;
        self.answered = Some(Answered { version: answered.version, at: Instant::now(), error });
        Some(answered)
    }
}
