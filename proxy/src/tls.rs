//! TLS on both sides, from configuration to rustls: who presents what, and whether a peer is who it must be.

mod certificate;
mod client;
mod distinguished_name;
mod failure;
mod identity;
mod provider;
mod secrets;
mod selection;
mod server;
mod session;
mod stats;
pub mod verify;

pub use client::{ClientContext, ServerNames};
pub use failure::{HandshakeError, reason_of};
pub use secrets::Secrets;
pub use server::ServerContext;
pub use stats::TlsStats;
