//! The rules of the state-of-the-world protocol: every response holds all that the client is subscribed to.

use std::collections::HashSet;

use super::subscription::{Content, Subscription, WILDCARD};
use crate::snapshot::View;

/// What a request changed in a subscription.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
}

impl Subscription {
    /// Whether a request answers an older response than the latest. Such a request is dropped as a whole: the client sends another
    /// one when it has seen the latest response.
    pub(crate) fn is_stale(&self, nonce: &str) -> bool {
        !nonce.is_empty() && nonce != self.last_nonce
    }

    /// Replaces the subscribed names by those of a request. Anything new makes a response due.
    pub(crate) fn subscribe_sotw(&mut self, names: Vec<String>) -> Interest {
        let mut wanted: HashSet<String> = names.into_iter().collect();
        let explicit = wanted.remove(WILDCARD);
        // No names mean all names, until the client has named one on this stream (xds_protocol.rst, "How the client specifies what
        // resources to return").
        let wildcard = explicit || (wanted.is_empty() && !self.named);
        self.named |= explicit || !wanted.is_empty();

        let mut interest = Interest {
            added: wanted.difference(&self.names).cloned().collect(),
            removed: self.names.difference(&wanted).cloned().collect(),
        };
        match (self.wildcard, wildcard) {
            (false, true) => interest.added.push(WILDCARD.to_owned()),
            (true, false) => interest.removed.push(WILDCARD.to_owned()),
            _ => {}
        }
        self.respond |= !interest.added.is_empty();
        self.names = wanted;
        self.wildcard = wildcard;
        interest
    }

    /// All that the client is subscribed to, if a response is due. Nothing is sent to a client whose named resources do not exist:
    /// in this protocol absence says so, after the client's own timeout.
    pub(super) fn take_due_sotw(&mut self, view: &View<'_>) -> Option<Content> {
        self.due.clear();
        if !std::mem::take(&mut self.respond) {
            return None;
        }
        let resources: Vec<_> = if self.wildcard {
            view.all(&self.type_url).into_values().cloned().collect()
        } else {
            let mut names: Vec<_> = self.names.iter().collect();
            names.sort_unstable();
            let found = names.into_iter().filter_map(|name| view.get(&self.type_url, name));
            found.cloned().collect()
        };
        (self.wildcard || !resources.is_empty())
            .then_some(Content { resources, removed: Vec::new() })
    }
}
