//! Access logs: one line for each stream that passes a filter.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use crate::telemetry::log_format::FormatContext;
use crate::telemetry::log_writer::{LogFile, LogWriter};

mod filter;
mod model;

pub use model::{AccessLog, Comparison, HeadTest, LogFilter, LogFormat, LogSink};

thread_local! {
    /// The line that is being made; kept so that a line costs no allocation.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that a long line made larger than this is given back.
const KEPT_CAPACITY: usize = 64 * 1024;

/// One access log at work. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessLogger {
    filter: Option<Arc<LogFilter>>,
    format: Arc<LogFormat>,
    file: LogFile,
}

impl AccessLogger {
    /// Opens the log's file.
    ///
    /// # Errors
    /// The file cannot be opened for appending; the error names its path.
    pub fn new(config: AccessLog, writer: &LogWriter) -> io::Result<AccessLogger> {
        let file = writer.open(&config.sink)?;
        Ok(AccessLogger { filter: config.filter.map(Arc::new), format: config.format, file })
    }

    /// Writes a line for this stream, if it passes the filter. Never waits: when the writer is behind by more than its
    /// bound, the line is dropped and counted.
    pub fn log(&self, context: &FormatContext<'_>) {
        if self.filter.as_ref().is_some_and(|filter| !filter.passes(context)) {
            return;
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            self.format.write(context, line);
            self.file.write(line);
            if line.capacity() > KEPT_CAPACITY {
                *line = Vec::new();
            }
        });
    }

    /// Whether the filter or the format reads headers or trailers of the request or response.
    pub fn needs_heads(&self) -> bool {
        self.format.needs_heads() || self.filter.as_ref().is_some_and(|filter| filter.needs_heads())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::log_format::{Format, JsonFormat, samples};
    use crate::telemetry::log_writer::LogWriterOptions;
    use crate::telemetry::stats::Store;

    #[test]
    fn streams_that_pass_the_filter_are_written_in_the_logs_format() {
        let path = std::env::temp_dir().join(format!("pillion-access-{:016x}", fastrand::u64(..)));
        let writer = LogWriter::start(LogWriterOptions::default(), &Store::default()).unwrap();
        let logger = |filter, format| {
            let sink = LogSink::File(path.clone());
            AccessLogger::new(AccessLog { filter, sink, format: Arc::new(format) }, &writer)
                .unwrap()
        };
        let errors = Some(LogFilter::StatusCode(Comparison::AtLeast, 500));
        let format = Format::parse("%RESPONSE_CODE% %DURATION%\n").unwrap();
        let text = logger(errors, LogFormat::Text(format));
        let fields = serde_json::json!({"path": "%REQ(:PATH)%"});
        let json = logger(None, LogFormat::Json(JsonFormat::from_value(&fields).unwrap()));
        assert_eq!((text.needs_heads(), json.needs_heads()), (false, true));

        let mut sample = samples::http();
        for code in [200, 503] {
            sample.info.response_code = code;
            text.log(&sample.context());
        }
        json.log(&sample.context());
        assert!(writer.flush(Duration::from_secs(30)));
        let lines = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(lines, "503 9\n{\"path\":\"/new?a=%20b&c\"}\n");
    }
}
