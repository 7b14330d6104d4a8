//! An xDS v3 control plane for tests and for people: it serves any xDS client, Envoy included.
//!
//! # In a test
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use control_plane_mock::{ControlPlane, FaultKind, Resource};
//! use proto::envoy::config::cluster::v3::Cluster;
//!
//! let control_plane = ControlPlane::start_default().await?;
//! println!("point the client to {}", control_plane.addr());
//!
//! // A put is one batch: each client that it concerns gets one push of each type.
//! let cluster = Cluster { name: "a".into(), ..Default::default() };
//! let version = control_plane.put([Resource::pack(&cluster)?]);
//! // control_plane.wait_ack(proto::type_url::CLUSTER, version, None, timeout).await?
//!
//! // From now on every push repeats the nonce of the one before.
//! let fault = control_plane.arm(FaultKind::RepeatNonce);
//! control_plane.disarm(fault);
//! # assert_eq!(version, 1);
//! # Ok(())
//! # }
//! ```
//!
//! [`ControlPlane::events`] tells of every request, push and answer with its [`Instant`](std::time::Instant), to measure with.
//!
//! # As a program
//!
//! `control-plane-mock --resources DIR` serves a folder. Every file (`.yaml`, `.yml`, `.json`) holds one resource with its `@type`, a
//! list of them under `resources:` like a `DiscoveryResponse`, or several YAML documents separated by `---`. A resource may be wrapped
//! in `envoy.service.discovery.v3.Resource` to give it another name, aliases or a time to live. What lies in `nodes/<node.id>/` is
//! for the node with that id only, in place of resources of the same name outside. Changes are pushed at once and in delta only what
//! changed; a broken file is reported with path and line and its last good content stays in service.
//!
//! `--api ADDRESS` serves the HTTP API of [`API_HELP`], which `--help` prints.
//!
//! # What it does as a well-behaved server
//!
//! * All resource types over the aggregated service and over the services of a single type, state of the world and delta.
//! * At most one response of a type is under way on a stream; what changes meanwhile is the next one. Answers with an old nonce are
//!   dropped.
//! * Versions of resources in delta are hashes of their content, so that a client that reconnects is sent only what it lacks.
//! * A batch goes out in the order secrets, CDS, EDS, LDS, RDS and the rest, and additions before removals.
//! * Secrets that nobody put are issued by an authority of its own, see [`spiffe_id`] and [`IdentityOptions`].
mod ads;
mod api;
mod client;
mod control_plane;
mod core;
mod document;
mod event;
mod folder;
mod identity;
pub mod log;
mod resource;
mod scenario;
mod snapshot;

pub use api::API_HELP;
pub use client::{Client, ClientSubscription};
pub use control_plane::{Answer, ControlPlane, Options, StartError, WaitError};
pub use document::{DocumentError, parse as parse_documents};
pub use event::{Event, EventKind, Events, Protocol};
pub use folder::FolderError;
pub use identity::{IdentityError, IdentityOptions, Svid, spiffe_id};
pub use resource::{Resource, ResourceError};
pub use scenario::{Fault, FaultId, FaultKind, UNKNOWN_NAME, UNKNOWN_TYPE};
pub use snapshot::{Change, Scope, Version};
