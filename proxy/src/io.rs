//! Bytes and where they come from: addresses, connections, bodies.

pub mod address;
pub mod body;
pub mod stream;

pub use address::Address;
pub use body::{Body, BodyError};
pub use stream::Stream;
