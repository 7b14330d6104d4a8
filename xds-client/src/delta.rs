//! Delta: `DeltaDiscoveryRequest` and `DeltaDiscoveryResponse`. Requests say what changed, every
//! response is answered by exactly one request.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use proto::envoy::config::core::v3::Node;
use proto::envoy::service::discovery::v3::{
    self as discovery, DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use proto::google::rpc::Status;

use crate::resource::{Item, Resource, ResourceError, Response, check_type, no_body};
use crate::table::{Table, Unanswered};
use crate::variant::{Variant, WILDCARD};

/// One type on a delta stream.
#[derive(Default)]
pub(crate) struct Delta {
    /// Whether the server of this stream may be told the versions we hold.
    resumes: bool,
    stream: u64,
    /// Whether a request was sent on this stream: the first one says everything.
    sent: bool,
    added: BTreeSet<Arc<str>>,
    removed: BTreeSet<Arc<str>>,
    /// Names that are in `removed` only to be added again by the next request.
    again: BTreeSet<Arc<str>>,
    answers: VecDeque<Reply>,
}

/// An ACK, or with an error a NACK.
struct Reply {
    nonce: String,
    error: Option<Status>,
}

impl Delta {
    /// Everything that is wanted, and the versions at hand.
    fn first_request(&mut self, table: &Table) -> DeltaDiscoveryRequest {
        self.sent = true;
        self.added.clear();
        self.removed.clear();
        self.again.clear();
        // A wildcard alone is said by an empty list, which servers of any age understand.
        let wildcard = table.is_wildcard() && table.requested_len() > 0;
        let names =
            wildcard.then_some(WILDCARD).into_iter().chain(table.requested().map(|name| &**name));
        let mut request = request(table);
        request.resource_names_subscribe = names.map(str::to_owned).collect();
        if self.resumes {
            let versions = table
                .acked_versions()
                .map(|(name, version)| (name.to_string(), version.to_string()));
            request.initial_resource_versions = versions.collect();
        }
        request
    }
}

impl Variant for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn start_stream(&mut self, stream: u64, resumes: bool) {
        *self = Self { stream, resumes, ..Self::default() };
    }

    fn forget_versions(&mut self) {
        self.resumes = true;
    }

    fn added(&mut self, names: &[Arc<str>]) {
        for name in names {
            self.removed.remove(name);
            self.again.remove(name);
            self.added.insert(name.clone());
        }
    }

    fn removed(&mut self, names: &[Arc<str>]) {
        for name in names {
            self.added.remove(name);
            self.again.remove(name);
            self.removed.insert(name.clone());
        }
    }

    fn refreshed(&mut self, names: &[Arc<str>]) {
        // A name that is about to be subscribed to is sent anyway. Any other is unsubscribed from
        // first: servers answer a repeated subscription only if they believe it to be a new one.
        for name in names.iter().filter(|name| !self.added.contains(*name)) {
            self.removed.insert(name.clone());
            self.again.insert(name.clone());
        }
    }

    fn answered(&mut self, response: &Unanswered, error: Option<Status>) {
        if response.stream == self.stream {
            self.answers.push_back(Reply { nonce: response.nonce.clone(), error });
        }
    }

    fn has_begun(&self) -> bool {
        self.sent
    }

    fn has_request(&self, table: &Table) -> bool {
        if !self.sent {
            return table.wants_anything();
        }
        !(self.answers.is_empty() && self.added.is_empty() && self.removed.is_empty())
    }

    fn next_request(&mut self, table: &Table) -> Option<DeltaDiscoveryRequest> {
        if !self.has_request(table) {
            return None;
        }
        if !self.sent {
            return Some(self.first_request(table));
        }
        let mut request = request(table);
        request.resource_names_subscribe = texts(&self.added);
        request.resource_names_unsubscribe = texts(&self.removed);
        self.added = std::mem::take(&mut self.again);
        self.removed.clear();
        if let Some(reply) = self.answers.pop_front() {
            request.response_nonce = reply.nonce;
            request.error_detail = reply.error;
        }
        Some(request)
    }

    fn unsent_answers(&self) -> usize {
        self.answers.len()
    }

    fn set_node(request: &mut DeltaDiscoveryRequest, node: Node) {
        request.node = Some(node);
    }

    fn envelope(response: &DeltaDiscoveryResponse) -> (&str, Option<&str>) {
        (&response.type_url, response.control_plane.as_ref().map(|plane| plane.identifier.as_str()))
    }

    fn unwrap(&self, response: DeltaDiscoveryResponse, table: &Table) -> Response {
        let mut unwrapped = Response {
            version: response.system_version_info,
            nonce: response.nonce,
            removed: response.removed_resources,
            ..Default::default()
        };
        unwrapped
            .removed
            .extend(response.removed_resource_names.into_iter().map(|resource| resource.name));
        for (index, wrapper) in response.resources.into_iter().enumerate() {
            if let Err(error) = unwrap_resource(wrapper, table, &mut unwrapped) {
                unwrapped.note_error(error, index);
            }
        }
        if let Some(name) = unwrapped.repeated_name() {
            let error =
                ResourceError::new(name, "occurs twice in the response, every name may occur once");
            unwrapped.refuse(error);
        }
        unwrapped
    }
}

fn request(table: &Table) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: table.type_url().to_owned(), ..Default::default() }
}

fn texts(names: &BTreeSet<Arc<str>>) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// Adds a resource to the response, or says what is wrong with it.
fn unwrap_resource(
    wrapper: discovery::Resource,
    table: &Table,
    response: &mut Response,
) -> Result<(), ResourceError> {
    let item = Item::from_wrapper(wrapper)?;
    match item.body {
        Some(body) => {
            check_type(&item.name, &body, table.type_url())?;
            if item.name.is_empty() {
                return Err(ResourceError::unnamed("name: empty, every resource needs one"));
            }
            let Item { name, version, ttl, aliases, .. } = item;
            response.resources.push(Resource { name, version, body, ttl, aliases });
        }
        // The way of VHDS to say that no virtual host answers to a name that was asked for.
        None if !item.aliases.is_empty() => response.removed.extend(item.aliases),
        None if table.knows(&item.name, &item.version) => {
            response.heartbeats.push((item.name, item.ttl))
        }
        None => return Err(no_body(item)),
    }
    Ok(())
}
