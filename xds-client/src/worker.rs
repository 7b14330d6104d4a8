//! The task that owns a stream and everything known about the types on it.

mod servers;
mod topic;

use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use futures_util::StreamExt;
use http::uri::PathAndQuery;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use crate::client::{ClientConfig, Mode};
use crate::rate_limit::Bucket;
use crate::state::ClientStats;
use crate::subscription::{Command, Event, Held, Letter, ToOwner};
use crate::transport::Link;
use crate::variant::Variant;
use servers::Servers;
use topic::Topic;

/// Responses of one type that may await the receiver's answer, or their ACKs a slow server, before
/// the stream is no longer read.
const MAX_UNANSWERED: usize = 64;

/// Everything about one stream.
pub(crate) struct Worker<V: Variant> {
    config: ClientConfig,
    path: PathAndQuery,
    inbox: mpsc::UnboundedReceiver<ToOwner>,
    /// For receivers to answer through; weak, for the task ends with its last user.
    outbox: mpsc::WeakUnboundedSender<ToOwner>,
    /// In order of first subscription, which is the order of requests on a new stream.
    topics: Vec<Topic<V>>,
    /// How often each type is paused.
    paused: HashMap<(Arc<str>, Held), usize>,
    servers: Servers,
    link: Option<Link<V::Request, V::Response>>,
    /// When to open the next stream.
    retry_at: Instant,
    /// Number of the current stream.
    stream: u64,
    /// Whether the server accepted the current stream.
    connected: bool,
    /// Whether it answered there.
    heard: bool,
    node_sent: bool,
    bucket: Option<Bucket>,
    identifier: String,
    rate_limit_enforced: u64,
}

/// What keeps a request from being sent.
#[derive(Clone, Copy, PartialEq)]
enum Blocked {
    No,
    /// The server reads slowly.
    Full,
    RateLimit(Instant),
}

/// What a worker waits for.
enum Input<R> {
    Message(ToOwner),
    LastUserGone,
    Opened,
    Response(R),
    Closed(Status),
    Timer(usize, Event),
    /// A blocked request may be sent now.
    Unblocked,
    Retry,
}

impl<V: Variant> Worker<V> {
    pub fn new(
        config: ClientConfig,
        path: PathAndQuery,
        inbox: mpsc::UnboundedReceiver<ToOwner>,
        outbox: mpsc::WeakUnboundedSender<ToOwner>,
    ) -> Self {
        Self {
            servers: Servers::new(config.servers.len(), config.backoff),
            bucket: config.rate_limit.map(Bucket::new),
            config,
            path,
            inbox,
            outbox,
            topics: Vec::new(),
            paused: HashMap::new(),
            link: None,
            retry_at: Instant::now(),
            stream: 0,
            connected: false,
            heard: false,
            node_sent: false,
            identifier: String::new(),
            rate_limit_enforced: 0,
        }
    }

    /// Runs until the last handle and subscription are gone.
    pub async fn run(mut self) {
        loop {
            let blocked = self.flush();
            match self.next_input(blocked).await {
                Input::Message(message) => self.take_messages(message),
                Input::LastUserGone => return,
                Input::Opened => self.connected = true,
                Input::Response(response) => self.receive(response),
                Input::Closed(status) => self.close(&status),
                Input::Timer(topic, event) => self.topics[topic].send(event),
                Input::Unblocked => {}
                Input::Retry => self.open(),
            }
        }
    }

    async fn next_input(&mut self, blocked: Blocked) -> Input<V::Response> {
        // What was answered while its type is paused waits for something else that comes on this stream.
        let mut backlogs =
            self.topics.iter().map(|topic| topic.backlog(is_paused(&self.paused, topic)));
        let reads = backlogs.all(|backlog| backlog < MAX_UNANSWERED);
        let down = self.link.is_none();
        let (requests, responses) = match &mut self.link {
            Some(link) => (Some(&link.requests), Some(&mut link.responses)),
            None => (None, None),
        };
        let topics = &mut self.topics;
        // Users first: what they ask in one go leaves as one request. A flood of responses must not
        // hold up timers.
        tokio::select! {
            biased;
            message = self.inbox.recv() => message.map_or(Input::LastUserGone, Input::Message),
            (topic, event) = expired(topics) => Input::Timer(topic, event),
            response = next_of(responses), if reads => match response {
                Some(Ok(None)) => Input::Opened,
                Some(Ok(Some(response))) => Input::Response(response),
                Some(Err(status)) => Input::Closed(status),
                None => Input::Closed(Status::ok("the server ended the stream")),
            },
            () = unblocked(requests, blocked) => Input::Unblocked,
            () = sleep_until(self.retry_at), if down => Input::Retry,
        }
    }

    /// Sends everything that is due and may be sent.
    fn flush(&mut self) -> Blocked {
        let Some(link) = &self.link else { return Blocked::No };
        for topic in self.topics.iter_mut().filter(|topic| !is_paused(&self.paused, topic)) {
            while topic.has_request() {
                let permit = match link.requests.try_reserve() {
                    Ok(permit) => permit,
                    Err(TrySendError::Full(())) => return Blocked::Full,
                    // The end of the stream will be read next.
                    Err(TrySendError::Closed(())) => return Blocked::No,
                };
                if let Some(Err(at)) = self.bucket.as_mut().map(Bucket::take) {
                    self.rate_limit_enforced += 1;
                    return Blocked::RateLimit(at);
                }
                let Some(mut request) = topic.next_request() else { break };
                if !(self.config.sends_node_once() && self.node_sent) {
                    V::set_node(&mut request, self.config.node.clone());
                }
                self.node_sent = true;
                permit.send(request);
            }
        }
        Blocked::No
    }

    /// Takes everything that users have asked for by now.
    fn take_messages(&mut self, first: ToOwner) {
        self.take(first);
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
    }

    fn take(&mut self, message: ToOwner) {
        match message {
            ToOwner::Letter(letter) => self.take_letter(letter),
            ToOwner::Pause(held) => *self.paused.entry(held).or_default() += 1,
            ToOwner::Resume(held) => {
                let count = self.paused.get(&held).copied().unwrap_or_default();
                if count > 1 {
                    self.paused.insert(held, count - 1);
                } else {
                    self.paused.remove(&held);
                }
            }
            // A reader that went away needs no reply.
            ToOwner::States(reply) => {
                drop(reply.send(self.topics.iter().map(Topic::state).collect()))
            }
            ToOwner::Stats(reply) => drop(reply.send(self.stats())),
        }
    }

    fn take_letter(&mut self, letter: Letter) {
        let topic = self.topics.iter_mut().find(|topic| topic.type_url == letter.type_url);
        match (topic, letter.command) {
            (Some(topic), Command::Subscribe(config, events)) => {
                topic.replace(letter.subscription, *config, events)
            }
            (None, Command::Subscribe(config, events)) => {
                let mut topic = Topic::new(letter.type_url, letter.subscription, *config, events);
                topic.start_stream(self.stream, self.servers.resumes());
                self.topics.push(topic);
            }
            (Some(topic), command) if topic.subscription == letter.subscription => {
                topic.take(command)
            }
            // From a subscription that another one replaced.
            _ => {}
        }
    }

    fn receive(&mut self, response: V::Response) {
        if !self.heard {
            self.heard = true;
            tracing::info!(server = self.server_name(), "the management server answers");
            if self.servers.heard() {
                self.topics.iter_mut().for_each(Topic::forget_versions);
            }
        }
        let (type_url, identifier) = V::envelope(&response);
        if let Some(identifier) = identifier {
            identifier.clone_into(&mut self.identifier);
        }
        let type_url = match &self.config.mode {
            Mode::SingleType { type_url: only } if type_url.is_empty() => only,
            _ => type_url,
        };
        let Some(outbox) = self.outbox.upgrade() else { return };
        match self.topics.iter_mut().find(|topic| &*topic.type_url == type_url) {
            Some(topic) => topic.deliver(response, self.stream, outbox),
            None => {
                tracing::warn!(type_url, "dropped a response of a type that nobody subscribed to")
            }
        }
    }

    fn open(&mut self) {
        self.stream += 1;
        self.heard = false;
        self.node_sent = false;
        let server = &self.config.servers[self.servers.current()];
        self.link = Some(V::open(&self.config, server, self.path.clone()));
        for topic in &mut self.topics {
            topic.start_stream(self.stream, self.servers.resumes());
        }
    }

    fn close(&mut self, status: &Status) {
        let server = self.server_name().to_owned();
        self.link = None;
        self.connected = false;
        self.topics.iter_mut().for_each(Topic::count_failure);
        let delay = self.servers.closed(self.heard);
        self.retry_at = Instant::now() + delay;
        let (code, message) = (status.code(), status.message());
        tracing::warn!(
            server,
            ?code,
            message,
            ?delay,
            "lost the stream to the management server, will try again"
        );
    }

    fn server_name(&self) -> &str {
        &self.config.servers[self.servers.current()].name
    }

    fn stats(&self) -> ClientStats {
        ClientStats {
            connected_state: self.connected,
            server: self.server_name().to_owned(),
            identifier: self.identifier.clone(),
            rate_limit_enforced: self.rate_limit_enforced,
            pending_requests: self.topics.iter().filter(|topic| topic.has_request()).count(),
            subscriptions: self
                .topics
                .iter()
                .map(|topic| (topic.type_url.to_string(), topic.stats()))
                .collect(),
        }
    }
}

/// Whether the next request of a type is held back.
fn is_paused<V: Variant>(paused: &HashMap<(Arc<str>, Held), usize>, topic: &Topic<V>) -> bool {
    let is = |what| paused.contains_key(&(topic.type_url.clone(), what));
    is(Held::Requests) || (topic.has_begun() && is(Held::Answers))
}

/// The next item of a stream that may not be there.
async fn next_of<S: futures_util::Stream + Unpin>(stream: Option<&mut S>) -> Option<S::Item> {
    match stream {
        Some(stream) => stream.next().await,
        None => pending().await,
    }
}

/// The next timer of any topic.
async fn expired<V: Variant>(topics: &mut [Topic<V>]) -> (usize, Event) {
    poll_fn(|cx| {
        for (index, topic) in topics.iter_mut().enumerate() {
            if let Poll::Ready(event) = topic.poll_expired(cx) {
                return Poll::Ready((index, event));
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits until what blocks requests is over; for ever if nothing does.
async fn unblocked<R>(requests: Option<&mpsc::Sender<R>>, blocked: Blocked) {
    match (blocked, requests) {
        // The stream being gone is an end of waiting too.
        (Blocked::Full, Some(requests)) => drop(requests.reserve().await),
        (Blocked::RateLimit(at), Some(_)) => sleep_until(at).await,
        _ => pending().await,
    }
}
