//! One gRPC stream of a client: its node, its subscriptions and the way responses leave.

use proto::envoy::config::core::v3::Node;
use tonic::Status;

use super::message::{Names, Outbox, Push, Request, size};
use super::sotw::Interest;
use super::subscription::{InFlight, Subscription};
use crate::event::{EventKind, EventSender};
use crate::scenario::Faults;
use crate::snapshot::{Snapshot, push_order};

/// How many types a client may subscribe to on one stream.
const MAX_TYPES: usize = 64;

/// A client's stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u64,
    pub(crate) node: Node,
    pub(crate) outbox: Outbox,
    /// The gRPC method's path.
    pub(crate) method: &'static str,
    /// The one type of a stream that is not aggregated.
    pub(crate) only: Option<&'static str>,
    /// In the order of pushes.
    pub(crate) subscriptions: Vec<Subscription>,
    /// Why the stream has ended, once it has.
    pub(crate) ended: Option<String>,
    pub(crate) last_nonce: u64,
}

/// What a stream needs of the control plane to answer.
pub(crate) struct Context<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) faults: &'a mut Faults,
    pub(crate) events: &'a EventSender,
}

impl Stream {
    pub(crate) fn subscription(&self, type_url: &str) -> Option<&Subscription> {
        let mut all = self.subscriptions.iter();
        all.find(|subscription| subscription.type_url == type_url)
    }

    pub(crate) fn subscription_mut(&mut self, type_url: &str) -> Option<&mut Subscription> {
        let mut all = self.subscriptions.iter_mut();
        all.find(|subscription| subscription.type_url == type_url)
    }

    /// The type a request is about: its own on an aggregated stream, the service's on any other.
    pub(crate) fn type_of(&self, request: &Request) -> Result<String, Status> {
        match (self.only, request.type_url.as_str()) {
            (Some(only), "") => Ok(only.to_owned()),
            (Some(only), asked) if asked != only => Err(Status::invalid_argument(format!(
                "{} serves {only} only, the request asks for {asked}",
                self.method
            ))),
            (None, "") => {
                Err(Status::invalid_argument("a request on an aggregated stream needs a type_url"))
            }
            (_, asked) => Ok(asked.to_owned()),
        }
    }

    /// Takes a request: its answer to the latest response and its changes to the subscription.
    pub(crate) fn on_request(
        &mut self,
        type_url: &str,
        request: Request,
        context: &mut Context<'_>,
    ) -> Result<(), Status> {
        let first = self.subscription(type_url).is_none();
        if first {
            self.add_subscription(type_url)?;
        }
        let (id, node_id) = (self.id, self.node.id.clone());
        let event = |kind| context.events.send(id, &node_id, type_url, kind);
        let subscription =
            self.subscription_mut(type_url).expect("it was added above when it was missing");

        if let Some(kind) = take_answer(subscription, &request) {
            event(kind);
        }
        let view = context.snapshot.view(&node_id);
        let interest = match request.names {
            Names::Sotw(_) if subscription.is_stale(&request.nonce) => return Ok(()),
            Names::Sotw(names) => subscription.subscribe_sotw(names),
            Names::Delta { mut subscribe, unsubscribe, initial } => {
                if first {
                    let wildcard = subscription.start_delta(&subscribe, initial);
                    subscribe.extend(wildcard.map(str::to_owned));
                }
                subscription.subscribe_delta(&subscribe, &unsubscribe, first, &view)
            }
        };
        if interest != Interest::default() {
            let Interest { added, removed } = interest;
            event(EventKind::Subscribed { added, removed });
        }
        Ok(())
    }

    fn add_subscription(&mut self, type_url: &str) -> Result<(), Status> {
        if self.subscriptions.len() == MAX_TYPES {
            return Err(Status::resource_exhausted(format!(
                "one stream may subscribe to {MAX_TYPES} types"
            )));
        }
        let order = push_order(type_url);
        let before = |known: &Subscription| push_order(&known.type_url) <= order;
        let place = self.subscriptions.partition_point(before);
        self.subscriptions.insert(place, Subscription::new(type_url));
        Ok(())
    }

    /// Sends what is due of every type, in the order of pushes.
    pub(crate) fn flush(&mut self, context: &mut Context<'_>) {
        for index in 0..self.subscriptions.len() {
            if self.ended.is_none() {
                self.flush_one(index, context);
            }
        }
    }

    fn flush_one(&mut self, index: usize, context: &mut Context<'_>) {
        let subscription = &mut self.subscriptions[index];
        let node = &self.node.id;
        if subscription.in_flight.is_some()
            || context.faults.withholds(node, &subscription.type_url)
        {
            return;
        }
        let view = context.snapshot.view(node);
        let Some(content) = subscription.take_due(self.outbox.protocol(), &view) else {
            return;
        };
        self.last_nonce += 1;
        let mut push = Push {
            version: view.version(&subscription.type_url),
            type_url: subscription.type_url.clone(),
            nonce: self.last_nonce.to_string(),
            resources: content.resources,
            removed: content.removed,
        };
        let tampering = context.faults.tamper(node, &mut push, &subscription.last_nonce);
        if tampering.drop_stream {
            self.end(Status::unavailable("the stream was dropped on purpose, by a fault"));
            return;
        }
        subscription.last_nonce = push.nonce.clone();
        subscription.in_flight = Some(InFlight {
            nonce: push.nonce.clone(),
            version: push.version,
            sent_at: std::time::Instant::now(),
        });
        let kind = pushed_event(&push, tampering.applied);
        context.events.send(self.id, node, &push.type_url, kind);
        match tampering.delay {
            None => self.outbox.send(push),
            Some(delay) => {
                let outbox = self.outbox.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    outbox.send(push);
                });
            }
        }
    }

    /// Ends the stream with this status; the control plane then forgets it.
    pub(crate) fn end(&mut self, status: Status) {
        self.ended = Some(format!("{:?}: {}", status.code(), status.message()));
        self.outbox.fail(status);
    }
}

/// Takes a request's answer to the latest response, and tells what it was.
fn take_answer(subscription: &mut Subscription, request: &Request) -> Option<EventKind> {
    let nonce = &request.nonce;
    if nonce.is_empty() {
        return None;
    }
    if let Some(answered) = subscription.answer(nonce, request.error.clone()) {
        return Some(answer_event(answered, request.error.clone()));
    }
    subscription.is_stale(nonce).then(|| EventKind::StaleNonce { nonce: nonce.clone() })
}

fn answer_event(answered: InFlight, error: Option<String>) -> EventKind {
    let after = answered.sent_at.elapsed();
    let InFlight { nonce, version, .. } = answered;
    match error {
        None => EventKind::Acked { version, nonce, after },
        Some(error) => EventKind::Nacked { version, nonce, after, error },
    }
}

fn pushed_event(push: &Push, faults: Vec<&'static str>) -> EventKind {
    let names = push.resources.iter();
    EventKind::Pushed {
        version: push.version,
        nonce: push.nonce.clone(),
        resources: names.map(|resource| resource.name().to_owned()).collect(),
        removed: push.removed.clone(),
        bytes: size(&push.resources),
        faults,
    }
}
