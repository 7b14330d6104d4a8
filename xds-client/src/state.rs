//! What a client can tell about itself: the state of every resource, and counters.

use std::time::SystemTime;

/// The state of every resource of one type, as shown by an admin's configuration dump or CSDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeState {
    /// Type URL of the resources.
    pub type_url: String,
    /// Version of the last response that was accepted as a whole: `version_info`, in delta
    /// `system_version_info`; empty before the first.
    pub version: String,
    /// Every resource that was asked for or received, by name.
    pub resources: Vec<ResourceState>,
}

/// The state of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceState {
    /// Name of the resource.
    pub name: String,
    /// What became of it.
    pub status: ResourceStatus,
    /// Version that is in use; empty when none is.
    pub version: String,
    /// When `status` or `version` last changed.
    pub updated_at: SystemTime,
}

/// What became of a resource: `envoy.admin.v3.ClientResourceStatus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceStatus {
    /// Asked for, nothing heard yet.
    Requested,
    /// The last version sent is in use.
    Acked,
    /// The last version sent was refused; an earlier one may still be in use.
    Nacked {
        /// Why.
        error: String,
        /// The refused version.
        version: String,
    },
    /// The server says that there is none, or its time to live ran out.
    DoesNotExist,
    /// The initial fetch timeout passed without an answer.
    TimedOut,
}

/// Counters of one type: Envoy's subscription statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionStats {
    /// Fetches tried: the start and everything counted below.
    pub update_attempt: u64,
    /// Responses that were accepted.
    pub update_success: u64,
    /// Streams lost, or files that could not be read.
    pub update_failure: u64,
    /// Responses that were refused, as a whole or in part.
    pub update_rejected: u64,
    /// Initial fetch timeouts, of the subscription or of single names.
    pub init_fetch_timeout: u64,
    /// When a response was last accepted.
    pub update_time: Option<SystemTime>,
    /// xxHash64 of `version_text`, 0 before the first version.
    pub version: u64,
    /// Version of the last accepted response.
    pub version_text: String,
}

/// State of a [`Client`](crate::Client) and its stream: Envoy's `control_plane.` statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Whether the server has accepted the stream. Some servers do so with their first response.
    pub connected_state: bool,
    /// Name of the server that the client uses or tries.
    pub server: String,
    /// `control_plane.identifier` of the last response that had one.
    pub identifier: String,
    /// Times that a request had to wait for `rate_limit_settings`.
    pub rate_limit_enforced: u64,
    /// Types that have a request to send but may not yet.
    pub pending_requests: usize,
    /// Counters by type URL, in order of subscription.
    pub subscriptions: Vec<(String, SubscriptionStats)>,
}
