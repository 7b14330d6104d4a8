//! What an access log is: which streams, where to, how written (`envoy.config.accesslog.v3.AccessLog`).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::telemetry::log_format::{Format, FormatContext, JsonFormat};
use crate::telemetry::response_flags::ResponseFlags;

/// One access log: which streams, where to, how written.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// `filter`; none logs everything.
    pub filter: Option<LogFilter>,
    /// Where lines go.
    pub sink: LogSink,
    /// How a line looks.
    pub format: Arc<LogFormat>,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogSink {
    /// `envoy.access_loggers.file`
    File(PathBuf),
    /// `envoy.access_loggers.stdout`
    Stdout,
    /// `envoy.access_loggers.stderr`
    Stderr,
}

/// How a line looks.
#[derive(Clone, Debug)]
pub enum LogFormat {
    /// `text_format_source`, and the default.
    Text(Format),
    /// `json_format`: one object a line.
    Json(JsonFormat),
}

impl LogFormat {
    /// Appends what the format makes of a stream.
    pub fn write(&self, context: &FormatContext<'_>, out: &mut Vec<u8>) {
        match self {
            LogFormat::Text(format) => format.write(context, out),
            LogFormat::Json(format) => format.write(context, out),
        }
    }

    /// Whether any operator reads the headers or trailers of the request or response.
    pub fn needs_heads(&self) -> bool {
        match self {
            LogFormat::Text(format) => format.needs_heads(),
            LogFormat::Json(format) => format.needs_heads(),
        }
    }
}

/// `AccessLogFilter`.
#[derive(Clone, Debug)]
pub enum LogFilter {
    /// `status_code_filter`
    StatusCode(Comparison, u64),
    /// `duration_filter`, in milliseconds.
    Duration(Comparison, u64),
    /// `not_health_check_filter`
    NotHealthCheck,
    /// `traceable_filter`
    Traceable,
    /// `runtime_filter`, as a share of 1 (its default value).
    Share(f64),
    /// `and_filter`
    And(Vec<LogFilter>),
    /// `or_filter`
    Or(Vec<LogFilter>),
    /// `header_filter`
    Header(HeadTest),
    /// `response_flag_filter`; no flags means any flag.
    ResponseFlags(ResponseFlags),
    /// `grpc_status_filter`: statuses and whether they are excluded.
    GrpcStatus(Vec<u32>, bool),
}

/// `ComparisonFilter.Op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `EQ`
    Equal,
    /// `GE`
    AtLeast,
    /// `LE`
    AtMost,
    /// `NE`
    NotEqual,
}

/// A question about the stream's headers that the configuration answers, since it owns the header matchers.
#[derive(Clone)]
pub struct HeadTest(pub Arc<dyn Fn(&FormatContext<'_>) -> bool + Send + Sync>);

impl fmt::Debug for HeadTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeadTest")
    }
}
