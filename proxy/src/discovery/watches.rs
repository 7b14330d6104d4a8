//! Resources that are subscribed to by name: endpoints, routes and secrets.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;
use xds_client::Event;

use super::inbox::{Feed, Inbox, Notice};
use super::sources::{Kind, SourceError, Sources};
use crate::config::source::{ConfigSource, SourceKind};

/// What is subscribed to, with a `T` for each name of each source. Equal sources share one subscription.
pub struct Watches<T> {
    kind: Kind,
    inbox: Inbox,
    notice: fn(SourceKind, Event) -> Notice,
    sources: HashMap<SourceKind, Watched<T>>,
}

struct Watched<T> {
    feed: Feed,
    items: HashMap<Arc<str>, T>,
}

impl<T> Watches<T> {
    /// Nothing is watched yet; events will go to `inbox`.
    pub fn new(kind: Kind, inbox: Inbox, notice: fn(SourceKind, Event) -> Notice) -> Self {
        Watches { kind, inbox, notice, sources: HashMap::new() }
    }

    /// Subscribes to a name, unless it is subscribed to already: then the initial fetch timeout of the first who asked for
    /// it holds.
    ///
    /// # Errors
    /// The source cannot be reached by this configuration.
    pub fn watch(
        &mut self,
        sources: &mut Sources,
        source: &ConfigSource,
        name: &Arc<str>,
        make: impl FnOnce(Fetch) -> T,
    ) -> Result<&mut T, SourceError> {
        if !self.sources.contains_key(&source.kind) {
            let subscription = sources.subscribe(self.kind, source)?;
            let (notice, kind) = (self.notice, source.kind.clone());
            let feed =
                Feed::start(subscription, &self.inbox, move |event| notice(kind.clone(), event));
            let watched = Watched { feed, items: HashMap::new() };
            self.sources.insert(source.kind.clone(), watched);
        }
        let (inbox, notice) = (&self.inbox, self.notice);
        let watched = self.sources.get_mut(&source.kind).expect("it was just inserted");
        let handle = &watched.feed.handle;
        Ok(watched.items.entry(Arc::clone(name)).or_insert_with(|| {
            handle.add([&**name]);
            make(Fetch::start(source, name, inbox, notice))
        }))
    }

    /// What is kept for a name.
    pub fn get(&self, source: &SourceKind, name: &str) -> Option<&T> {
        self.sources.get(source)?.items.get(name)
    }

    /// What is kept for a name.
    pub fn get_mut(&mut self, source: &SourceKind, name: &str) -> Option<&mut T> {
        self.sources.get_mut(source)?.items.get_mut(name)
    }

    /// Asks the server for a name anew.
    pub fn refresh(&self, source: &ConfigSource, name: &Arc<str>) -> Fetch {
        if let Some(watched) = self.sources.get(&source.kind) {
            watched.feed.handle.refresh([&**name]);
        }
        Fetch::start(source, name, &self.inbox, self.notice)
    }

    /// Ends the subscription to a name.
    pub fn unwatch(&mut self, source: &SourceKind, name: &str) {
        let Some(watched) = self.sources.get_mut(source) else { return };
        if watched.items.remove(name).is_some() {
            watched.feed.handle.remove([name]);
        }
        if watched.items.is_empty() {
            self.sources.remove(source);
        }
    }

    /// Ends the subscription to every name that is not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.sources.retain(|_, watched| {
            let gone = watched.items.iter().filter(|(_, item)| !keep(item));
            let gone: Vec<Arc<str>> = gone.map(|(name, _)| Arc::clone(name)).collect();
            for name in &gone {
                watched.items.remove(name);
            }
            if !gone.is_empty() {
                watched.feed.handle.remove(gone.iter().map(|name| &**name));
            }
            !watched.items.is_empty()
        });
    }

    /// Everything that is kept, with its source, in no order.
    pub fn by_source(&self) -> impl Iterator<Item = (&SourceKind, &Arc<str>, &T)> {
        let sources = self.sources.iter();
        sources.flat_map(|(source, watched)| {
            watched.items.iter().map(move |(name, item)| (source, name, item))
        })
    }

    /// Everything that is kept, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.sources.values_mut().flat_map(|watched| watched.items.values_mut())
    }

    /// Everything that is kept, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &T)> {
        self.sources.values().flat_map(|watched| &watched.items)
    }
}

/// The first fetch of a name, with its initial fetch timeout. The client's own timeouts hold for a whole type, whereas each
/// cluster and each connection manager says its own.
pub struct Fetch {
    is_answered: bool,
    /// Brings [`Event::ResourceTimeout`].
    timer: Option<AbortOnDropHandle<()>>,
}

impl Fetch {
    fn start(
        source: &ConfigSource,
        name: &Arc<str>,
        inbox: &Inbox,
        notice: fn(SourceKind, Event) -> Notice,
    ) -> Self {
        let timer = source.initial_fetch_timeout.map(|timeout| {
            let (inbox, kind, name) = (inbox.clone(), source.kind.clone(), name.to_string());
            AbortOnDropHandle::new(tokio::task::spawn_local(async move {
                tokio::time::sleep(timeout).await;
                // Nobody listens when the process ends.
                let _ = inbox.send(notice(kind, Event::ResourceTimeout(name)));
            }))
        });
        Fetch { is_answered: false, timer }
    }

    /// The server said something, or let its time pass.
    pub fn end(&mut self) {
        self.is_answered = true;
        self.timer = None;
    }

    /// Whether it has ended.
    pub fn is_answered(&self) -> bool {
        self.is_answered
    }
}
