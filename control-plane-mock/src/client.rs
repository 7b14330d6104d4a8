//! The clients as the control plane sees them.

use crate::ads::stream::Stream;
use crate::ads::subscription::Subscription;
use crate::core::Shared;
use crate::event::Protocol;
use crate::snapshot::Version;

/// An open stream.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Client {
    /// The stream's number.
    pub stream: u64,
    /// `node.id`; empty before the first request.
    pub node: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `node.user_agent_name`.
    pub user_agent: String,
    /// Which protocol it speaks.
    pub protocol: Protocol,
    /// The gRPC method's path.
    pub method: &'static str,
    /// What it is subscribed to, in the order of pushes.
    pub subscriptions: Vec<ClientSubscription>,
}

/// One type of a stream.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ClientSubscription {
    /// The type URL.
    #[serde(rename = "type")]
    pub type_url: String,
    /// The names, sorted; `*` is every name.
    pub names: Vec<String>,
    /// Version of the last push that was answered.
    pub answered: Option<Version>,
    /// The message of the answer if it was a NACK.
    pub error: Option<String>,
    /// Version of the push that is not answered yet.
    pub unanswered: Option<Version>,
    /// Whether there is nothing to answer and nothing held back.
    pub settled: bool,
}

impl Client {
    /// Its subscription of a type, by type URL.
    pub fn subscription(&self, type_url: &str) -> Option<&ClientSubscription> {
        let mut all = self.subscriptions.iter();
        all.find(|subscription| subscription.type_url == type_url)
    }
}

impl From<&Stream> for Client {
    fn from(stream: &Stream) -> Self {
        Self {
            stream: stream.id,
            node: stream.node.id.clone(),
            cluster: stream.node.cluster.clone(),
            user_agent: stream.node.user_agent_name.clone(),
            protocol: stream.outbox.protocol(),
            method: stream.method,
            subscriptions: stream.subscriptions.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Subscription> for ClientSubscription {
    fn from(subscription: &Subscription) -> Self {
        let answered = subscription.answered.as_ref();
        Self {
            type_url: subscription.type_url.clone(),
            names: subscription.sorted_names(),
            answered: answered.map(|answer| answer.version),
            error: answered.and_then(|answer| answer.error.clone()),
            unanswered: subscription.in_flight.as_ref().map(|sent| sent.version),
            settled: subscription.is_settled(),
        }
    }
}

impl Shared {
    pub(crate) fn clients(&self) -> Vec<Client> {
        self.lock().streams.values().map(Into::into).collect()
    }

    /// The clients of a type in one sentence, for the message of a wait that failed.
    pub(crate) fn describe(&self, type_url: &str, node: Option<&str>) -> String {
        let clients = self.clients();
        let wanted = clients.iter().filter(|client| node.is_none_or(|node| node == client.node));
        let subscribed: Vec<String> = wanted
            .filter_map(|client| {
                let subscription = client.subscription(type_url)?;
                Some(format!("node {:?}: {}", client.node, subscription.describe()))
            })
            .collect();
        if subscribed.is_empty() {
            let who = node.map_or("no client".to_owned(), |node| format!("no node {node:?}"));
            return format!("{who} is subscribed to {type_url}");
        }
        subscribed.join("; ")
    }
}

impl ClientSubscription {
    fn describe(&self) -> String {
        let names = match self.names.as_slice() {
            [] => "no name".to_owned(),
            few if few.len() <= 3 => few.join(", "),
            many => format!("{} names", many.len()),
        };
        let state = match (self.unanswered, self.answered, self.settled) {
            (Some(version), ..) => format!("has not answered version {version}"),
            (None, _, false) => "a push is withheld".to_owned(),
            (None, Some(version), true) => format!("last answered version {version}"),
            (None, None, true) => "was never sent anything".to_owned(),
        };
        format!("subscribed to {names}, {state}")
    }
}
