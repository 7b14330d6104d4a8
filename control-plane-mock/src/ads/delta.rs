//! The rules of the incremental protocol: a response holds what the client does not have yet.

use std::collections::HashMap;

use super::sotw::Interest;
use super::subscription::{Content, Subscription, WILDCARD};
use crate::snapshot::View;

impl Subscription {
    /// The first request of a type on a stream: takes what the client has from an earlier stream, and the legacy wildcard, which is
    /// a first request that names nothing.
    pub(crate) fn start_delta(
        &mut self,
        subscribe: &[String],
        initial: HashMap<String, String>,
    ) -> Option<&'static str> {
        self.sent = initial;
        self.named = true;
        subscribe.is_empty().then_some(WILDCARD)
    }

    /// Applies the names that a request adds and removes. Every added name is answered: with the resource, even if the client was
    /// sent it before (it may have dropped it meanwhile), or as removed.
    pub(crate) fn subscribe_delta(
        &mut self,
        subscribe: &[String],
        unsubscribe: &[String],
        first: bool,
        view: &View<'_>,
    ) -> Interest {
        let mut interest = Interest::default();
        for name in unsubscribe {
            let name = view.resolve_alias(&self.type_url, name);
            self.unsubscribe(name, &mut interest);
        }
        for name in subscribe {
            if name == WILDCARD {
                self.subscribe_all(view, &mut interest);
                continue;
            }
            let name = view.resolve_alias(&self.type_url, name);
            if self.names.insert(name.to_owned()) {
                interest.added.push(name.to_owned());
            }
            let held = first && self.holds_latest(name, view);
            self.due.insert(name.to_owned(), !held);
        }
        interest
    }

    fn holds_latest(&self, name: &str, view: &View<'_>) -> bool {
        let latest = view.get(&self.type_url, name);
        latest.is_some_and(|latest| self.sent.get(name).is_some_and(|has| has == latest.version()))
    }

    /// Makes due all that exists and all that the client has, so that what it lacks is sent and what is gone is removed.
    fn subscribe_all(&mut self, view: &View<'_>, interest: &mut Interest) {
        if !self.wildcard {
            interest.added.push(WILDCARD.to_owned());
        }
        self.wildcard = true;
        // The client waits for a first response even when there is nothing to tell.
        self.respond = true;
        let existing = view.all(&self.type_url);
        let names = existing.into_keys().map(str::to_owned);
        for name in names.chain(self.sent.keys().cloned()) {
            self.due.entry(name).or_insert(false);
        }
    }

    fn unsubscribe(&mut self, name: &str, interest: &mut Interest) {
        if name == WILDCARD {
            if std::mem::take(&mut self.wildcard) {
                interest.removed.push(WILDCARD.to_owned());
                self.sent.retain(|name, _| self.names.contains(name));
            }
            return;
        }
        if !self.names.remove(name) {
            return;
        }
        interest.removed.push(name.to_owned());
        if self.wildcard {
            // The client cannot know whether the wildcard covers the name, so it must be told.
            self.due.insert(name.to_owned(), true);
        } else {
            self.sent.remove(name);
        }
    }

    /// Among the due names, those that changed since the client got them.
    pub(super) fn take_due_delta(&mut self, view: &View<'_>) -> Option<Content> {
        let respond = std::mem::take(&mut self.respond);
        let mut content = Content::default();
        for (name, forced) in std::mem::take(&mut self.due) {
            if !self.covers(&name) {
                continue;
            }
            match view.get(&self.type_url, &name) {
                Some(latest) => {
                    let held = self.sent.get(&name);
                    if forced || held.is_none_or(|held| held != latest.version()) {
                        self.sent.insert(name, latest.version().to_owned());
                        content.resources.push(latest.clone());
                    }
                }
                None if self.sent.remove(&name).is_some() || forced => content.removed.push(name),
                None => {}
            }
        }
        let empty = content.resources.is_empty() && content.removed.is_empty();
        (respond || !empty).then_some(content)
    }
}
