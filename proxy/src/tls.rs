//! TLS on both sides, from configuration to rustls: who presents what, and whether a peer is who it must be.
//!
//! A context and its secrets become a [`Slot`]: what connections read once per handshake. Its secrets are
//! [`SecretCell`]s, shared by everyone who names them; setting one rebuilds every slot that has it, off the data path.

mod certificate;
mod client;
mod distinguished_name;
mod failure;
mod identity;
mod provider;
mod secret;
mod selection;
mod server;
mod session;
mod slot;
mod stats;
mod tickets;
pub mod verify;

pub use client::{ClientContext, ServerNames};
pub use failure::{HandshakeError, session_failure};
pub use secret::{Resolved, SecretCell};
pub use server::ServerContext;
pub use slot::{ClientTls, Expires, FindSecret, ServerTls, Slot, TlsContext};
pub use stats::{FactoryStats, TlsStats};
