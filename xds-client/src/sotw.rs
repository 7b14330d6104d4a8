//! State of the world: `DiscoveryRequest` and `DiscoveryResponse`. Every request repeats all names
//! together with the last accepted version and the last nonce.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::uri::PathAndQuery;
use prost::{Message, Name};
use proto::envoy::config::core::v3::Node;
use proto::envoy::service::discovery::v3::{
    self as discovery, DiscoveryRequest, DiscoveryResponse,
};
use proto::google::protobuf::Any;
use proto::google::rpc::Status;

use crate::client::{ClientConfig, Protocol};
use crate::resource::{Item, Resource, ResourceError, Response, check_type, no_body};
use crate::table::{Table, Unanswered};
use crate::transport::{self, Link, Server, rest};
use crate::variant::{Variant, WILDCARD};

/// One type on a state-of-the-world stream.
#[derive(Default)]
pub(crate) struct Sotw {
    /// Version of the last accepted response; kept from stream to stream.
    version: String,
    /// Number of the last answered response.
    answered: u64,
    stream: u64,
    /// Whether the server of this stream may be told `version`.
    resumes: bool,
    /// Nonce of the last answered response of this stream.
    nonce: String,
    /// How many responses of this stream were answered. Requests of one round carry the same nonce.
    round: u64,
    /// How many requests were sent on this stream, and the round of the last one.
    requests: u64,
    last_round: u64,
    /// Names that were wanted once on this stream. The server may have dropped the request without them for its stale nonce,
    /// so that it believes them to be wanted, and sent already, for some rounds more.
    given_up: BTreeMap<Arc<str>, GivenUp>,
    /// Names to be sent again, with the number of requests when they were given up. A server answers to names that are new
    /// to it, so there must be a request without them before one with them.
    again: BTreeMap<Arc<str>, u64>,
    /// Whether a request is due.
    due: bool,
    /// Why the last answered response was refused; sent once.
    error: Option<Status>,
}

/// When a name was given up.
struct GivenUp {
    requests: u64,
    round: u64,
}

impl Sotw {
    /// Those of the names that the server of this stream may have heard of. Everything at once has no name to leave out.
    fn told_of<'a>(&self, names: &'a [Arc<str>]) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        let heard = if self.has_begun() { names } else { &[] };
        heard.iter().filter(|name| &***name != WILDCARD)
    }

    /// What must be left out of the next request, so that the one after it names something new.
    fn left_out(&mut self) -> Vec<Arc<str>> {
        let again = std::mem::take(&mut self.again).into_iter();
        let told = |requests| self.requests > requests && self.last_round == self.round;
        again.filter(|(_, requests)| !told(*requests)).map(|(name, _)| name).collect()
    }
}

impl Variant for Sotw {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn open(
        config: &ClientConfig,
        server: &Server,
        path: PathAndQuery,
    ) -> Link<DiscoveryRequest, DiscoveryResponse> {
        match config.protocol {
            Protocol::Rest(polling) => rest::open(server, path, polling, config.max_message_size),
            Protocol::Sotw | Protocol::Delta => {
                transport::open(server, path, config.max_message_size)
            }
        }
    }

    fn start_stream(&mut self, stream: u64, resumes: bool) {
        self.stream = stream;
        self.resumes = resumes;
        self.nonce.clear();
        (self.round, self.requests, self.last_round) = (0, 0, 0);
        self.given_up.clear();
        self.again.clear();
        self.due = true;
        self.error = None;
    }

    fn forget_versions(&mut self) {
        self.version.clear();
        self.resumes = true;
    }

    fn added(&mut self, names: &[Arc<str>]) {
        self.due = true;
        for name in names {
            if let Some(when) = self.given_up.remove(name) {
                self.again.insert(name.clone(), when.requests);
            }
        }
    }

    fn removed(&mut self, names: &[Arc<str>]) {
        self.due = true;
        for name in self.told_of(names) {
            let requests = self.again.remove(name).unwrap_or(self.requests);
            self.given_up.insert(name.clone(), GivenUp { requests, round: self.round });
        }
    }

    fn refreshed(&mut self, names: &[Arc<str>]) {
        self.due = true;
        for name in self.told_of(names) {
            self.again.entry(name.clone()).or_insert(self.requests);
        }
    }

    fn answered(&mut self, response: &Unanswered, error: Option<Status>) {
        // An answer that comes after the one to a later response would carry a stale nonce.
        if response.sequence < self.answered {
            return;
        }
        self.answered = response.sequence;
        if error.is_none() {
            self.version.clone_from(&response.version);
        }
        // On a new stream the nonce means nothing, and what was said there was said already.
        if response.stream == self.stream {
            self.nonce.clone_from(&response.nonce);
            self.error = error;
            self.due = true;
            self.round += 1;
            // A server that waits for answers has by now heard of them.
            self.given_up.retain(|_, when| when.round + 2 > self.round);
        }
    }

    fn has_begun(&self) -> bool {
        self.requests > 0
    }

    /// While the receiver owes an answer, the server would ignore everything as stale. An empty
    /// list means everything if it comes first, so wanting nothing is only said later.
    fn has_request(&self, table: &Table) -> bool {
        self.due
            && !table.owes_answer(self.stream, self.answered)
            && (self.has_begun() || table.wants_anything())
    }

    fn next_request(&mut self, table: &Table) -> Option<DiscoveryRequest> {
        if !self.has_request(table) {
            return None;
        }
        let left_out = self.left_out();
        self.due = !left_out.is_empty();
        self.requests += 1;
        self.last_round = self.round;
        let wildcard = table.is_wildcard() && table.requested_len() > 0;
        let requested = table.requested().filter(|name| left_out.binary_search(name).is_err());
        let names = wildcard.then_some(WILDCARD).into_iter().chain(requested.map(|name| &**name));
        Some(DiscoveryRequest {
            version_info: if self.resumes { self.version.clone() } else { String::new() },
            resource_names: names.map(str::to_owned).collect(),
            type_url: table.type_url().to_owned(),
            response_nonce: self.nonce.clone(),
            error_detail: self.error.take(),
            ..Default::default()
        })
    }

    /// A request answers everything that came before, so that there is never more than one.
    fn unsent_answers(&self) -> usize {
        0
    }

    fn set_node(request: &mut DiscoveryRequest, node: Node) {
        request.node = Some(node);
    }

    fn envelope(response: &DiscoveryResponse) -> (&str, Option<&str>) {
        (&response.type_url, response.control_plane.as_ref().map(|plane| plane.identifier.as_str()))
    }

    fn unwrap(&self, response: DiscoveryResponse, table: &Table) -> Response {
        unwrap(response, &self.version, table)
    }
}

/// Unwraps a response from a stream or a file. `version` is the last accepted one, empty if there is
/// none: a resource without a body and with this version is a heartbeat.
pub(crate) fn unwrap(response: DiscoveryResponse, version: &str, table: &Table) -> Response {
    let mut unwrapped = Response {
        version: response.version_info,
        nonce: response.nonce,
        full_state: table.config().full_state && table.is_wildcard(),
        ..Default::default()
    };
    for (index, packed) in response.resources.into_iter().enumerate() {
        if let Err(error) = unwrap_resource(packed, version, table, &mut unwrapped) {
            unwrapped.note_error(error, index);
        }
    }
    unwrapped.drop_duplicates();
    unwrapped
}

/// Adds a resource to the response, or says what is wrong with it.
fn unwrap_resource(
    packed: Any,
    version: &str,
    table: &Table,
    response: &mut Response,
) -> Result<(), ResourceError> {
    let item = if packed.type_url == discovery::Resource::type_url() {
        let wrapper = discovery::Resource::decode(packed.value.as_slice())
            .map_err(|error| ResourceError::unnamed(format!("cannot be decoded: {error}")))?;
        Item::from_wrapper(wrapper)?
    } else {
        Item::from_body(packed)
    };
    let Some(body) = item.body else {
        if !version.is_empty() && item.version == version {
            response.heartbeats.push((item.name, item.ttl));
            return Ok(());
        }
        return Err(no_body(item));
    };
    check_type(&item.name, &body, table.type_url())?;
    let named =
        if item.name.is_empty() { (table.config().name_of)(&body) } else { Some(item.name) };
    let Some(name) = named.filter(|name| !name.is_empty()) else {
        let rule = format!("has no name or is no {}", table.type_url());
        return Err(ResourceError::unnamed(rule));
    };
    let (version, ttl, aliases) = (response.version.clone(), item.ttl, item.aliases);
    response.resources.push(Resource { name, version, body, ttl, aliases });
    Ok(())
}
