//! Discovery against a control plane on real sockets: what arrives becomes clusters, listeners and route tables.
#![allow(clippy::unwrap_used)]

mod ads;
mod local;
mod proxy;
mod refusal;
mod requests;
mod secrets;
mod warming;
mod yaml;
