//! Access logs: one line for each stream that passes a filter.

mod model;

pub use model::{AccessLog, Comparison, HeadTest, LogFilter, LogFormat, LogSink};
