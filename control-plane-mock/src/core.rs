//! The state of the control plane, behind one lock: resources, streams and faults.
//!
//! A change is carried to the streams it concerns while the lock is held, by the task that made it: no stream is woken for
//! nothing, and what a test sees after a put is what the put did.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use proto::envoy::config::core::v3::Node;
use proto::envoy::service::load_stats::v3::LoadStatsRequest;
use proto::type_url;
use tokio::sync::Notify;
use tonic::Status;

use crate::ads::message::{Names, Outbox, Request, endpoints_name};
use crate::ads::stream::{Context, Stream};
use crate::event::{EventKind, EventSender};
use crate::identity::Identity;
use crate::resource::Resource;
use crate::scenario::Faults;
use crate::snapshot::{Change, Changed, Scope, Snapshot, Version};

/// What the tasks of a control plane share.
pub(crate) struct Shared {
    core: Mutex<Core>,
    pub(crate) events: EventSender,
    /// Told of every request, closed stream and change, for those who wait for a state.
    pub(crate) progress: Notify,
    /// How often clients are asked for their load.
    pub(crate) load_interval: Option<Duration>,
}

/// The state of the control plane.
pub(crate) struct Core {
    pub(crate) snapshot: Snapshot,
    pub(crate) streams: BTreeMap<u64, Stream>,
    pub(crate) faults: Faults,
    pub(crate) identity: Identity,
    /// What clients have reported, in the order of arrival.
    pub(crate) load_reports: Vec<LoadStatsRequest>,
    resend_endpoints: bool,
    last_stream: u64,
    events: EventSender,
}

impl Shared {
    pub(crate) fn new(
        identity: Identity,
        resend_endpoints: bool,
        load_interval: Option<Duration>,
    ) -> Arc<Self> {
        let events = EventSender::new();
        Arc::new(Self {
            core: Mutex::new(Core {
                snapshot: Snapshot::default(),
                streams: BTreeMap::new(),
                faults: Faults::default(),
                identity,
                load_reports: Vec::new(),
                resend_endpoints,
                last_stream: 0,
                events: events.clone(),
            }),
            events,
            progress: Notify::new(),
            load_interval,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    /// Changes the state and tells those who wait for a state.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Core) -> T) -> T {
        let result = change(&mut self.core.lock());
        self.progress.notify_waiters();
        result
    }

    /// Tells of something that belongs to no stream.
    pub(crate) fn report(&self, kind: EventKind) {
        self.events.send(0, "", "", kind);
    }

    pub(crate) fn open(
        &self,
        method: &'static str,
        only: Option<&'static str>,
        outbox: Outbox,
    ) -> u64 {
        self.update(|core| core.open(method, only, outbox))
    }

    pub(crate) fn on_request(&self, stream: u64, request: Request) {
        self.update(|core| core.on_request(stream, request));
    }

    pub(crate) fn close(&self, stream: u64, reason: String) {
        self.update(|core| {
            if let Some(stream) = core.streams.get_mut(&stream) {
                stream.ended = Some(reason);
            }
            core.forget_ended();
        });
    }
}

impl Core {
    fn open(&mut self, method: &'static str, only: Option<&'static str>, outbox: Outbox) -> u64 {
        self.last_stream += 1;
        let id = self.last_stream;
        let protocol = outbox.protocol();
        let stream = Stream {
            id,
            node: Node::default(),
            outbox,
            method,
            only,
            subscriptions: Vec::new(),
            ended: None,
            last_nonce: 0,
        };
        self.streams.insert(id, stream);
        let opened = EventKind::StreamOpened { protocol, method };
        self.events.send(id, "", only.unwrap_or_default(), opened);
        id
    }

    /// Takes a request and sends what it makes due. A request that breaks the protocol ends the stream.
    fn on_request(&mut self, id: u64, mut request: Request) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if let Some(node) = request.node.take() {
            stream.node = node;
        }
        if let Err(status) = self.try_request(id, request) {
            let stream = self.streams.get_mut(&id).expect("it was found above");
            stream.end(status);
        }
        self.forget_ended();
    }

    fn try_request(&mut self, id: u64, request: Request) -> Result<(), Status> {
        self.issue_secrets(id, &request);
        let stream = self.streams.get_mut(&id).expect("the caller found it");
        let type_url = stream.type_of(&request)?;
        let first = stream.subscription(&type_url).is_none();
        if first && self.faults.refuses(&stream.node.id, &type_url) {
            return Err(Status::unavailable("the stream was refused on purpose, by a fault"));
        }
        let mut context =
            Context { snapshot: &self.snapshot, faults: &mut self.faults, events: &self.events };
        stream.on_request(&type_url, request, &mut context)?;
        stream.flush(&mut context);
        Ok(())
    }

    /// Issues the secrets that a request names for the first time and that nobody put.
    fn issue_secrets(&mut self, id: u64, request: &Request) {
        let stream = &self.streams[&id];
        let type_url = stream.only.unwrap_or(&request.type_url);
        if type_url != type_url::SECRET {
            return;
        }
        let (Names::Sotw(names) | Names::Delta { subscribe: names, .. }) = &request.names;
        let view = self.snapshot.view(&stream.node.id);
        let missing = names.iter().filter(|name| view.get(type_url::SECRET, name).is_none());
        let issued = missing.filter_map(|name| self.identity.issue(&stream.node, name));
        let scope = Scope::Issued(stream.node.id.clone());
        let changes: Vec<_> = issued.map(|secret| Change::Put(scope.clone(), secret)).collect();
        self.snapshot.apply(changes);
    }

    /// Applies a batch: one push of each type to each client that it concerns.
    ///
    /// Where several types change, what is added goes out before what is removed, so that nothing a client still uses is taken from
    /// it. A type that gains and loses resources is pushed twice then, the second time after the answer to the first.
    pub(crate) fn apply(&mut self, mut changes: Vec<Change>) -> Version {
        changes.retain(|change| self.snapshot.differs(change));
        let types: HashSet<&str> = changes.iter().map(Change::type_url).collect();
        let steps = match types.len() {
            0 | 1 => vec![changes],
            _ => {
                let is_put = |change: &Change| matches!(change, Change::Put(..));
                let (puts, deletions) = changes.into_iter().partition(is_put);
                vec![puts, deletions]
            }
        };
        for step in steps {
            let changed = self.snapshot.apply(step);
            self.push(&changed);
        }
        self.snapshot.version()
    }

    /// Makes `resources` all that there is in a scope.
    pub(crate) fn replace(
        &mut self,
        scope: &Scope,
        resources: impl IntoIterator<Item = Resource>,
    ) -> Version {
        let mut gone = self.snapshot.names(scope);
        let mut changes = Vec::new();
        for resource in resources {
            gone.remove(&(resource.type_url().to_owned(), resource.name().to_owned()));
            changes.push(Change::Put(scope.clone(), resource));
        }
        let delete = |(type_url, name)| Change::Delete(scope.clone(), type_url, name);
        changes.extend(gone.into_iter().map(delete));
        self.apply(changes)
    }

    /// Carries what has changed to the streams that it concerns.
    fn push(&mut self, changed: &[Changed]) {
        let resent = self.endpoints_to_resend(changed);
        for stream in self.streams.values_mut() {
            let protocol = stream.outbox.protocol();
            let view = self.snapshot.view(&stream.node.id);
            let mut concerned = false;
            for subscription in &mut stream.subscriptions {
                let type_url = subscription.type_url.as_str();
                let of_type = |change: &&Changed| change.type_url == type_url;
                let mine = changed.iter().filter(of_type);
                let names: Vec<_> = mine
                    .filter(|change| change.scope.includes(&stream.node.id))
                    .map(|change| change.name.as_str())
                    .collect();
                for name in names {
                    concerned |= subscription.mark(protocol, name);
                }
                if subscription.type_url == type_url::CLUSTER_LOAD_ASSIGNMENT {
                    for name in &resent {
                        concerned |= subscription.mark_again(protocol, name, &view);
                    }
                }
            }
            if concerned {
                stream.flush(&mut Context {
                    snapshot: &self.snapshot,
                    faults: &mut self.faults,
                    events: &self.events,
                });
            }
        }
        self.forget_ended();
    }

    /// The EDS names of changed clusters: Envoy warms a changed cluster anew and waits for its endpoints.
    fn endpoints_to_resend(&self, changed: &[Changed]) -> Vec<String> {
        if !self.resend_endpoints {
            return Vec::new();
        }
        let clusters = changed.iter().filter(|change| change.type_url == type_url::CLUSTER);
        let resources = clusters.filter_map(|change| {
            self.snapshot.in_scope(&change.scope, type_url::CLUSTER, &change.name)
        });
        resources.filter_map(endpoints_name).collect()
    }

    /// Sends again everything of a type, or of all, to the clients of a node, or to all.
    pub(crate) fn push_again(&mut self, type_url: Option<&str>, node: Option<&str>) {
        for stream in self.streams.values_mut() {
            if node.is_some_and(|node| node != stream.node.id) {
                continue;
            }
            let view = self.snapshot.view(&stream.node.id);
            for subscription in &mut stream.subscriptions {
                if type_url.is_none_or(|wanted| wanted == subscription.type_url) {
                    subscription.mark_all(&view);
                }
            }
        }
        self.flush_all();
    }

    /// Sends what is due on every stream, after faults have changed.
    pub(crate) fn flush_all(&mut self) {
        for stream in self.streams.values_mut() {
            stream.flush(&mut Context {
                snapshot: &self.snapshot,
                faults: &mut self.faults,
                events: &self.events,
            });
        }
        self.forget_ended();
    }

    /// Ends the streams of a node, or all, with `UNAVAILABLE`.
    pub(crate) fn drop_streams(&mut self, node: Option<&str>) {
        for stream in self.streams.values_mut() {
            if node.is_none_or(|node| node == stream.node.id) {
                stream.end(Status::unavailable("the stream was dropped on purpose"));
            }
        }
        self.forget_ended();
    }

    /// Issues every secret anew and pushes them.
    pub(crate) fn rotate(&mut self) -> Version {
        let changes = self.identity.rotate();
        self.apply(changes)
    }

    fn forget_ended(&mut self) {
        let ended = self.streams.extract_if(.., |_, stream| stream.ended.is_some());
        for (id, stream) in ended {
            let reason = stream.ended.unwrap_or_default();
            let closed = EventKind::StreamClosed { reason };
            self.events.send(id, &stream.node.id, "", closed);
        }
    }
}
