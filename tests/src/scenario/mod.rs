//! What scenario tests share: a sidecar as a process, its configuration, its control plane, servers behind it, and clients and
//! load before it.
//!
//! Everything here panics where a test would have to give up: a scenario has no use for an error value.

mod client;
pub mod config;
mod load;
mod sidecar;
mod upstream;

pub use client::{Answer, Body, Connection, Failure, Protocol, empty, full};
pub use load::{Load, Report};
pub use sidecar::{PATIENCE, Sidecar, until};
pub use upstream::{Gate, Upstream, zeros};
