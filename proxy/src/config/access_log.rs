//! Access logs (`envoy.config.accesslog.v3.AccessLog`).

pub use crate::telemetry::access_log::{
    AccessLog, Comparison, HeadTest, LogFilter, LogFormat, LogSink,
};
