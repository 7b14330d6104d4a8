//! Where the writer's thread puts bytes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::telemetry::access_log::LogSink;

/// An open file or standard stream.
pub(super) enum Output {
    File { file: File, path: PathBuf },
    Stdout,
    Stderr,
}

impl Output {
    /// Opens a sink for appending, and makes the file if it does not exist.
    pub(super) fn open(sink: &LogSink) -> io::Result<Output> {
        match sink {
            LogSink::Stdout => Ok(Output::Stdout),
            LogSink::Stderr => Ok(Output::Stderr),
            LogSink::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                let file = file.map_err(|error| {
                    let message = format!("cannot open {} for appending: {error}", path.display());
                    io::Error::new(error.kind(), message)
                })?;
                Ok(Output::File { file, path: path.clone() })
            }
        }
    }

    /// Whether the path leads to another file by now, or to none, because the log was rotated.
    pub(super) fn was_replaced(&self) -> bool {
        let Output::File { file, path } = self else { return false };
        match (file.metadata(), identity(path)) {
            (Ok(open), Some(now)) => (open.dev(), open.ino()) != now,
            (_, None) => true,
            (Err(_), _) => false,
        }
    }

    /// Writes all bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Output::File { file, .. } => file.write_all(bytes),
            Output::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Output::Stderr => io::stderr().lock().write_all(bytes),
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}
