//! Pillion: a sidecar service-mesh proxy configured over xDS v3.
//!
//! The path of a request reads in folder order: `downstream`, `http`, `route`, `upstream`.

pub mod admin;
pub mod cli;
pub mod config;
pub mod discovery;
pub mod downstream;
pub mod drain;
pub mod http;
pub mod intercept;
pub mod io;
pub mod overload;
pub mod route;
pub mod server;
pub mod telemetry;
pub mod tls;
pub mod upstream;
