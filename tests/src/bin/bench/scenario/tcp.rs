//! TCP connections whose bytes the program does not look at.

use super::Scenario;
use super::traffic::{Load, measure};
use crate::load::wrk::Wrk;
use crate::measurement::Metric;
use crate::program::Protocol;

/// The small requests of HTTP/1.1, as bytes.
pub const SMALL: Scenario = Scenario {
    name: "tcp",
    about: "tcp_proxy, 64 connections, answers of 102 bytes",
    compared_by: Metric::CpuPerRequest,
    run: |bench| {
        measure(bench, Protocol::Tcp, Load::Wrk(Wrk { connections: 64, path: "/", body: 0 }))
    },
};
