//! Bytes and where they come from: addresses, connections, bodies, and the timers on them.

pub mod address;
pub mod ahead;
pub mod body;
pub mod deadline;
pub mod descriptor;
pub mod http2;
pub mod incoming;
pub mod quiet;
pub mod relay;
pub mod source;
pub mod stream;
pub mod tls;

pub use address::Address;
pub use body::{Body, BodyError};
pub use incoming::{CodecError, Incoming};
pub use source::Source;
pub use stream::Stream;
pub use tls::{Fault, Tls};
