//! Access logs: one line for each stream that passes a filter.

mod model;

pub use model::{AccessLog, Comparison, HeadTest, LogFilter, LogFormat, LogSink};

use super::log_format::FormatContext;
use super::log_writer::LogWriter;

/// Stub.
pub struct AccessLogger;
impl AccessLogger {
    /// Stub.
    pub fn new(_c: AccessLog, _w: &LogWriter) -> Result<Self, std::io::Error> { Ok(AccessLogger) }
    /// Stub.
    pub fn log(&self, _c: &FormatContext<'_>) {}
    /// Stub.
    pub fn needs_heads(&self) -> bool { false }
}
