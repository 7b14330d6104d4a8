//! HTTP/1.1 on both sides.

use super::Scenario;
use super::traffic::{Load, measure};
use crate::load::wrk::Wrk;
use crate::measurement::Metric;
use crate::program::Protocol;
use crate::upstream::{LARGE, LARGE_PATH};

/// Many small requests.
pub const SMALL: Scenario = Scenario {
    name: "http1",
    about: "HTTP/1.1, 64 connections, answers of 102 bytes",
    compared_by: Metric::CpuPerRequest,
    run: |bench| {
        measure(bench, Protocol::Http1, Load::Wrk(Wrk { connections: 64, path: "/", body: 0 }))
    },
};

/// Few large bodies, in both directions.
pub const LARGE_BODIES: Scenario = Scenario {
    name: "bodies-1mb",
    about: "HTTP/1.1, 8 connections, 1 MB there and 1 MB back",
    compared_by: Metric::CpuPerRequest,
    run: |bench| {
        measure(
            bench,
            Protocol::Http1,
            Load::Wrk(Wrk { connections: 8, path: LARGE_PATH, body: LARGE }),
        )
    },
};
