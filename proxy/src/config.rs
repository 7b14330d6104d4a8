//! Protobuf in, validated immutable model out. Protobuf types end here.
//!
//! Every translation takes the message and where it stands ([`At`]); it returns the model or a [`ConfigError`] that
//! names the resource, the field path, the value and the rule. What Envoy would accept and what changes nothing for
//! traffic goes to [`Context::warn`].

// Control planes still send fields that Envoy has marked as deprecated.
#![allow(deprecated)]

pub mod access_log;
pub mod any;
pub mod bootstrap;
pub mod cel;
pub mod cluster;
pub mod endpoint;
pub mod error;
pub mod filter_state;
pub mod hash_policy;
pub mod hcm;
pub mod headers;
pub mod http_filter;
pub mod istio;
pub mod listener;
pub mod matcher;
pub mod metadata_match;
pub mod network_filter;
pub mod overload;
pub mod rbac;
pub mod route;
pub mod source;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;
pub mod token_bucket;
pub mod value;

pub use error::{At, ConfigError, Context, Files};
