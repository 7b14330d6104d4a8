//! An xDS v3 control plane for tests and for people.
//!
//! Tests start one in their own process, change what it serves and wait for what the client makes of it:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use control_plane_mock::{ControlPlane, Resource};
//! use proto::envoy::config::cluster::v3::Cluster;
//!
//! let control_plane = ControlPlane::start_default().await?;
//! println!("point the client to {}", control_plane.addr());
//! let cluster = Cluster { name: "a".into(), ..Default::default() };
//! let version = control_plane.put([Resource::pack(&cluster)?]);
//! // control_plane.wait_ack(proto::type_url::CLUSTER, version, None, timeout).await?
//! # assert_eq!(version, 1);
//! # Ok(())
//! # }
//! ```
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
mod scenario;
mod snapshot;

pub use api::API_HELP;
pub use client::{Client, ClientSubscription};
pub use control_plane::{Answer, ControlPlane, Options, StartError, WaitError};
pub use document::{DocumentError, parse as parse_documents};
pub use event::{Event, EventKind, Events, Protocol};
pub use folder::FolderError;
pub use identity::{IdentityError, IdentityOptions, Svid, spiffe_id};
pub use scenario::{Fault, FaultId, FaultKind, UNKNOWN_NAME, UNKNOWN_TYPE};
pub use snapshot::{Change, Resource, ResourceError, Scope, Version};
