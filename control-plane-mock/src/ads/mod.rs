//! The xDS services: one state machine a stream and type, the same for the aggregated service and those of a single type.

mod delta;
pub(crate) mod load;
pub(crate) mod message;
pub(crate) mod service;
mod sotw;
pub(crate) mod stream;
pub(crate) mod subscription;
