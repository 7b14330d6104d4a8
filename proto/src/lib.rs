//! Envoy's and xDS's v3 protobuf types under the names of their packages, and what a proxy needs around them.
//!
//! * the types themselves come from the `envoy-types` crate;
//! * [`type_url`] names the xDS resource types, [`any`] packs and unpacks them;
//! * [`convert`] turns well-known types into Rust's own, with range checks;
//! * [`Registry`] knows every message by name and maps JSON and YAML to messages and back.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub use envoy_types::pb::{envoy, google, udpa, validate, xds};

pub mod any;
pub mod convert;
mod file;
mod mapping;
mod registry;
pub mod type_url;
mod typed_struct;
mod validation;

pub use file::{FileError, merge};
pub use mapping::{FieldNames, Format, ParseError, Parsed, Position};
pub use registry::Registry;
pub use typed_struct::TypedStruct;
pub use validation::Violation;
