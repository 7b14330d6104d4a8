//! TLS on both sides, from configuration to rustls.
//!
//! A context and its secrets become a [`Slot`]: what connections read once per handshake. Its secrets are
//! [`SecretCell`]s, shared by everyone who names them; setting one rebuilds every slot that has it, off the data path.

mod client;
mod pem;
mod secret;
mod server;
mod slot;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

pub use client::Client;
pub use secret::{Resolved, SecretCell};
pub use slot::{ClientTls, FindSecret, ServerTls, Slot};

/// The cryptography of every context.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}
