//! TLS on both sides, from configuration to rustls.

mod client;
mod pem;
mod server;

pub use client::client_config;
pub use server::ServerContexts;
