//! Resources as they travel: what a management server sent, unwrapped and checked, before anybody
//! knows what kind of object it is.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use proto::envoy::service::discovery::v3 as discovery;
use proto::google::protobuf::Any;
use proto::google::rpc::Status;

/// `google.rpc.Code.INTERNAL`, the code Envoy puts in the `error_detail` of a NACK.
const NACK_CODE: i32 = 13;
/// Longest NACK message in bytes; Envoy cuts at the same length.
const NACK_MAX_BYTES: usize = 4096;
const NACK_TRUNCATED: &str = "...(truncated)";

/// One resource of an [`Update`](crate::Update).
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Name by which the resource is subscribed to.
    pub name: String,
    /// Version of this resource: its own in delta, the response's `version_info` in
    /// state-of-the-world.
    pub version: String,
    /// The packed resource, exactly as the management server sent it.
    pub body: Any,
    /// Time after which the resource disappears unless the server repeats it; `None` is for ever.
    pub ttl: Option<Duration>,
    /// Other names the resource answers to (`Resource.aliases`, used by VHDS).
    pub aliases: Vec<String>,
}

/// Why one resource was refused. A NACK lists one of these per refused resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceError {
    /// Name of the refused resource; its place in the response if it has none; empty when the whole
    /// response is at fault.
    pub name: String,
    /// Field path, value and broken rule, for a human.
    pub message: String,
}

impl ResourceError {
    /// An error about the resource called `name`.
    pub fn new(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { name: name.into(), message: message.into() }
    }

    /// An error about a resource whose name is not known, or about a whole response.
    pub(crate) fn unnamed(message: impl Into<String>) -> Self {
        Self::new("", message)
    }
}

impl fmt::Display for ResourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.name, self.message)
    }
}

/// The `error_detail` of a NACK: every error on its own line, cut at 4096 bytes.
pub(crate) fn error_detail(errors: &[ResourceError]) -> Status {
    let mut message = String::new();
    for error in errors {
        if message.len() > NACK_MAX_BYTES {
            break;
        }
        if !message.is_empty() {
            message.push('\n');
        }
        message.push_str(&error.to_string());
    }
    if message.len() > NACK_MAX_BYTES {
        message.truncate(message.floor_char_boundary(NACK_MAX_BYTES));
        message.push_str(NACK_TRUNCATED);
    }
    Status { code: NACK_CODE, message, ..Status::default() }
}

/// Which resources an answer refuses.
pub(crate) struct Refusals<'a> {
    by_name: HashMap<&'a str, &'a str>,
    /// An error without a name refuses everything.
    all: Option<&'a str>,
}

impl<'a> Refusals<'a> {
    pub fn new(errors: &'a [ResourceError]) -> Self {
        let by_name: HashMap<_, _> =
            errors.iter().map(|error| (error.name.as_str(), error.message.as_str())).collect();
        Self { all: by_name.get("").copied(), by_name }
    }

    pub fn of(&self, name: &str) -> Option<&'a str> {
        self.by_name.get(name).copied().or(self.all)
    }
}

/// A resource just unwrapped, before it is known to be more than a heartbeat.
pub(crate) struct Item {
    pub name: String,
    pub version: String,
    /// Absent in a heartbeat and when a server says that an alias does not exist.
    pub body: Option<Any>,
    pub ttl: Option<Duration>,
    pub aliases: Vec<String>,
}

impl Item {
    /// A resource without a wrapper.
    pub fn from_body(body: Any) -> Self {
        let (name, version) = (String::new(), String::new());
        Self { name, version, body: Some(body), ttl: None, aliases: Vec::new() }
    }

    /// Unwraps a `envoy.service.discovery.v3.Resource`, the unit of delta and the optional wrapper
    /// of state-of-the-world.
    pub fn from_wrapper(wrapper: discovery::Resource) -> Result<Self, ResourceError> {
        let ttl = match wrapper.ttl {
            None => None,
            Some(ttl) => Some(positive(&ttl).ok_or_else(|| {
                let rule =
                    format!("ttl: {}s {}ns is not a positive duration", ttl.seconds, ttl.nanos);
                ResourceError::new(&wrapper.name, rule)
            })?),
        };
        Ok(Self {
            name: wrapper.name,
            version: wrapper.version,
            body: wrapper.resource,
            ttl,
            aliases: wrapper.aliases,
        })
    }
}

/// What is wrong with a resource that is neither whole nor a heartbeat.
pub(crate) fn no_body(item: Item) -> ResourceError {
    let version = item.version;
    let rule = format!("resource: missing, and {version:?} is not the version in use");
    ResourceError::new(item.name, rule)
}

/// A protobuf duration above zero.
fn positive(duration: &proto::google::protobuf::Duration) -> Option<Duration> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos)).filter(|duration| !duration.is_zero())
}

/// A response of either protocol, unwrapped and checked.
#[derive(Default)]
pub(crate) struct Response {
    pub version: String,
    pub nonce: String,
    pub resources: Vec<Resource>,
    /// Names to which a server answered that there is no such resource (delta only).
    pub removed: Vec<String>,
    /// Resources that were only named to keep them alive.
    pub heartbeats: Vec<(String, Option<Duration>)>,
    /// Whether a known resource that is absent from `resources` and `heartbeats` no longer exists.
    pub full_state: bool,
    /// What is already known to be wrong; the answer will be a NACK.
    pub errors: Vec<ResourceError>,
}

impl Response {
    /// Refuses the resource at this index; the others count.
    pub fn note_error(&mut self, mut error: ResourceError, index: usize) {
        if error.name.is_empty() {
            error.name = format!("resources[{index}]");
            // It may be any of those that seem to be missing.
            self.full_state = false;
        }
        self.errors.push(error);
    }

    /// Refuses the whole response: nothing of it will be applied.
    pub fn refuse(&mut self, error: ResourceError) {
        self.resources.clear();
        self.removed.clear();
        self.heartbeats.clear();
        self.full_state = false;
        self.errors = vec![error];
    }

    /// Keeps the first resource of every name; an error for each further one.
    pub fn drop_duplicates(&mut self) {
        let mut seen = HashSet::with_capacity(self.resources.len());
        let errors = &mut self.errors;
        self.resources.retain(|resource| {
            let first = seen.insert(resource.name.clone());
            if !first {
                errors.push(ResourceError::new(
                    &resource.name,
                    "the response holds this name twice, the first one counts",
                ));
            }
            first
        });
    }

    /// A name that occurs twice in the response, as two resources or as resource and removal.
    pub fn repeated_name(&self) -> Option<&str> {
        let mut seen = HashSet::with_capacity(self.resources.len() + self.removed.len());
        let names = self.resources.iter().map(|resource| resource.name.as_str());
        names.chain(self.removed.iter().map(String::as_str)).find(|name| !seen.insert(*name))
    }
}

/// The rule that a resource's `type_url` is its response's.
pub(crate) fn check_type(name: &str, body: &Any, type_url: &str) -> Result<(), ResourceError> {
    if body.type_url == type_url {
        return Ok(());
    }
    let rule = format!(
        "resource.type_url: {:?} in a response of type {type_url:?}, they must be equal",
        body.type_url
    );
    Err(ResourceError::new(name, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nack_has_one_line_per_resource() {
        let status =
            error_detail(&[ResourceError::new("a", "x: 1 > 0"), ResourceError::unnamed("odd")]);
        assert_eq!((status.code, status.message.as_str()), (13, "a: x: 1 > 0\nodd"));
    }

    #[test]
    fn a_long_nack_is_cut_between_characters() {
        let status = error_detail(&[
            ResourceError::unnamed("é".repeat(3000)),
            ResourceError::unnamed("never seen"),
        ]);
        assert_eq!(status.message.len(), NACK_MAX_BYTES + NACK_TRUNCATED.len());
        let odd = error_detail(&[ResourceError::unnamed(format!("x{}", "é".repeat(3000)))]);
        assert_eq!(odd.message.len(), NACK_MAX_BYTES - 1 + NACK_TRUNCATED.len());
    }

    #[test]
    fn a_ttl_must_be_positive() {
        for (seconds, nanos) in [(0, 0), (-1, 0), (1, -1), (1, 1_000_000_000)] {
            let ttl = Some(proto::google::protobuf::Duration { seconds, nanos });
            let wrapper = discovery::Resource { name: "a".into(), ttl, ..Default::default() };
            assert!(Item::from_wrapper(wrapper).is_err());
        }
    }
}
