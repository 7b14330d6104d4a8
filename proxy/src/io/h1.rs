//! HTTP/1 on the wire, for both sides of the proxy: fields, framing and bodies, and what is read ahead and not yet written.
//!
//! A connection is a [`Link`]: its socket with what goes over it, and the message that is coming in. Whoever owns the link
//! reads heads from it; the message's [`Incoming`] body reads the rest. All of it runs on one thread.

pub mod body;
pub mod encoder;
mod error;
pub mod fields;
pub mod framing;
pub mod link;
pub mod outgoing;
pub mod wire;

pub use body::Incoming;
pub use encoder::Encoder;
pub use error::Error;
pub use framing::{Framing, TrailerLimits};
pub use link::Link;
pub use outgoing::Outgoing;
pub use wire::Wire;
