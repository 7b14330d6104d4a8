//! Access logs (`envoy.config.accesslog.v3.AccessLog`).

mod filter;
mod translate;

pub use crate::telemetry::access_log::{
    AccessLog, Comparison, HeadTest, LogFilter, LogFormat, LogSink,
};
