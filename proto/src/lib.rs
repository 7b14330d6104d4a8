//! Envoy's and xDS's v3 protobuf types under the names of their packages, and what a proxy needs around them.
//!
//! * the types themselves come from the `envoy-types` crate;
//! * [`type_url`] names the xDS resource types, [`any`] packs and unpacks them;
//! * [`convert`] turns well-known types into Rust's own, with range checks;
//! * [`Registry`] knows every message by name and maps JSON and YAML to messages and back.
//!
//! ```
//! use proto::Registry;
//! use proto::envoy::config::cluster::v3::Cluster;
//!
//! let registry = Registry::load();
//! let cluster: Cluster = registry.from_yaml("{name: app, type: strict_dns, connect_timeout: 0.25s}")?;
//! assert!(registry.validate(&cluster).is_ok());
//! assert_eq!(registry.to_json(&cluster)["connect_timeout"], "0.250s");
//!
//! let error = registry.from_yaml::<Cluster>("name: app\nconnect_timeout: 250").unwrap_err();
//! assert_eq!(error.path(), "connect_timeout");
//! # Ok::<(), proto::ParseError>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub use envoy_types::pb::{cel, envoy, google, udpa, validate, xds};

pub mod any;
mod apart;
pub mod convert;
mod declared;
mod file;
pub mod istio;
mod mapping;
pub mod matchers;
mod packed;
mod registry;
pub mod type_url;
mod typed_struct;
mod unknown;
mod untyped;
mod validation;

pub use apart::Apart;
/// Descriptors of messages, as [`Registry::message`] gives them.
pub use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

pub use file::{ConfigFile, FileError, merge};
pub use mapping::{Document, FieldNames, Format, ParseError, Parsed, Position};
pub use registry::Registry;
pub use typed_struct::TypedStruct;
pub use untyped::Untyped;
pub use validation::Violation;
