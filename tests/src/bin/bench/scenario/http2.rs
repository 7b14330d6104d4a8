//! HTTP/2 without TLS on both sides.

use super::Scenario;
use super::traffic::{Load, measure};
use crate::load::h2load::H2load;
use crate::measurement::Metric;
use crate::program::Protocol;

/// Connections that carry many streams, as between two sidecars.
pub const MANY_STREAMS: Scenario = Scenario {
    name: "http2-8x32",
    about: "HTTP/2, 8 connections with 32 streams each, answers of 102 bytes",
    compared_by: Metric::CpuPerRequest,
    run: |bench| measure(bench, Protocol::Http2, Load::H2load(many_streams(false), 60_000)),
};

/// Connections with nothing to batch.
pub const ONE_STREAM: Scenario = Scenario {
    name: "http2-32x1",
    about: "HTTP/2, 32 connections with 1 stream each, answers of 102 bytes",
    compared_by: Metric::CpuPerRequest,
    run: |bench| {
        let load = H2load { connections: 32, streams: 1, grpc: false };
        measure(bench, Protocol::Http2, Load::H2load(load, 40_000))
    },
};

/// Unary calls: a body each way, and trailers.
pub const GRPC: Scenario = Scenario {
    name: "grpc",
    about: "gRPC unary calls, 8 connections with 32 streams each, messages of 16 bytes",
    compared_by: Metric::CpuPerRequest,
    run: |bench| measure(bench, Protocol::Grpc, Load::H2load(many_streams(true), 40_000)),
};

const fn many_streams(grpc: bool) -> H2load {
    H2load { connections: 8, streams: 32, grpc }
}
