//! Pillion: a sidecar service-mesh proxy configured over xDS v3.
//!
//! The path of a request reads in folder order: `downstream`, `http`, `route`, `upstream`.

pub mod config;
pub mod io;
pub mod telemetry;
pub mod upstream;
