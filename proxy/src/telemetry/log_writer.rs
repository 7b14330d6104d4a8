//! Access log files, written by one thread, so that traffic never waits for a disk or a pipe.
//!
//! A line is copied into its file's buffer, which is bounded; one that does not fit is dropped and counted. The writer
//! thread takes a whole buffer at a time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::stat_group;
use crate::telemetry::access_log::LogSink;
use crate::telemetry::stats::Store;

mod output;

use output::Output;

/// How long lines are gathered while the writer is busy: longer saves little, shorter costs a write a line.
const GATHER: Duration = Duration::from_millis(10);

/// A buffer that grew larger than this in a burst is given back.
const KEPT_CAPACITY: usize = 256 * 1024;

stat_group! {
    /// `filesystem.`: what the log writer does. `write_dropped` is ours: lines that did not fit into the buffer.
    pub struct LogWriterStats {
        counter flushed_by_timer,
        counter reopen_failed,
        counter write_buffered,
        counter write_completed,
        counter write_dropped,
        counter write_failed,
        gauge write_total_buffered,
    }
}

/// How the log writer buffers.
#[derive(Clone, Copy, Debug)]
pub struct LogWriterOptions {
    /// `--file-flush-interval-msec`: a line is written after this time at the latest; default 10 s. Lines are written
    /// earlier when the writer has nothing else to do.
    pub flush_interval: Duration,
    /// `--file-flush-min-size-kb`, in bytes: a buffer of this size is written at once; default 64 KiB.
    pub flush_min_size: usize,
    /// How many bytes may wait for each file; lines beyond are dropped. Default 4 MiB.
    pub max_buffered: usize,
}

impl Default for LogWriterOptions {
    fn default() -> Self {
        LogWriterOptions {
            flush_interval: Duration::from_secs(10),
            flush_min_size: 64 * 1024,
            max_buffered: 4 * 1024 * 1024,
        }
    }
}

/// Opens log files and owns the thread that writes them. Cheap to clone; the thread ends with the last clone and the
/// last open file.
#[derive(Clone)]
pub struct LogWriter {
    handle: Arc<Handle>,
}

/// Ends the thread when nobody can write any more.
struct Handle {
    shared: Arc<Shared>,
    thread: Thread,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.thread.unpark();
    }
}

/// What the thread and the handles share.
struct Shared {
    options: LogWriterOptions,
    stats: Arc<LogWriterStats>,
    files: Mutex<Vec<Arc<File>>>,
    /// The thread sleeps until it is woken, because no line waits.
    idle: AtomicBool,
    stop: AtomicBool,
    /// Flushes that were asked for, and how many of them are done.
    flush_wanted: AtomicU64,
    flush_done: Mutex<u64>,
    flushed: Condvar,
}

/// One open file and the lines that wait for it.
struct File {
    sink: LogSink,
    buffer: Mutex<Vec<u8>>,
    reopen: AtomicBool,
    /// Used by the thread only.
    output: Mutex<Output>,
}

/// A file that lines can be written to. Cheap to clone.
#[derive(Clone)]
pub struct LogFile {
    file: Arc<File>,
    writer: LogWriter,
}

impl LogWriter {
    /// Starts the writer's thread. Its statistics are `filesystem.*`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(options: LogWriterOptions, store: &Store) -> io::Result<LogWriter> {
        let shared = Arc::new(Shared {
            options,
            stats: store.register(LogWriterStats::new("filesystem.")),
            files: Mutex::default(),
            idle: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            flush_wanted: AtomicU64::new(0),
            flush_done: Mutex::new(0),
            flushed: Condvar::new(),
        });
        let run = Arc::clone(&shared);
        let thread = thread::Builder::new().name("log-writer".to_string());
        let thread = thread.spawn(move || run.run())?.thread().clone();
        Ok(LogWriter { handle: Arc::new(Handle { shared, thread }) })
    }

    /// Opens a file for appending, or finds it open. `/dev/stdout` and `/dev/stderr` are the standard streams.
    ///
    /// # Errors
    /// The file cannot be opened; the error names its path.
    pub fn open(&self, sink: &LogSink) -> io::Result<LogFile> {
        let sink = match sink {
            LogSink::File(path) if path == Path::new("/dev/stdout") => &LogSink::Stdout,
            LogSink::File(path) if path == Path::new("/dev/stderr") => &LogSink::Stderr,
            sink => sink,
        };
        let mut files = self.handle.shared.files.lock();
        if let Some(file) = files.iter().find(|file| file.sink == *sink) {
            return Ok(LogFile { file: Arc::clone(file), writer: self.clone() });
        }
        let file = Arc::new(File {
            sink: sink.clone(),
            buffer: Mutex::default(),
            reopen: AtomicBool::new(false),
            output: Mutex::new(Output::open(sink)?),
        });
        files.push(Arc::clone(&file));
        Ok(LogFile { file, writer: self.clone() })
    }

    /// Opens every file anew before its next line (`SIGUSR1`, `POST /reopen_logs`). Lines that wait go into the file
    /// that is open now.
    pub fn reopen(&self) {
        let shared = &self.handle.shared;
        for file in shared.files.lock().iter() {
            file.reopen.store(true, SeqCst);
        }
        self.request_flush();
    }

    /// Waits until every line so far is written, at most for `timeout`; false if that was too short. For shutdown.
    pub fn flush(&self, timeout: Duration) -> bool {
        let wanted = self.request_flush();
        let deadline = Instant::now() + timeout;
        let shared = &self.handle.shared;
        let mut done = shared.flush_done.lock();
        while *done < wanted {
            if shared.flushed.wait_until(&mut done, deadline).timed_out() {
                return *done >= wanted;
            }
        }
        true
    }

    fn request_flush(&self) -> u64 {
        let wanted = self.handle.shared.flush_wanted.fetch_add(1, SeqCst) + 1;
        self.handle.thread.unpark();
        wanted
    }
}

impl LogFile {
    /// Appends a line to the buffer; drops and counts it if it does not fit.
    pub fn write(&self, line: &[u8]) {
        let Handle { shared, thread } = &*self.writer.handle;
        let mut buffer = self.file.buffer.lock();
        let before = buffer.len();
        if before + line.len() > shared.options.max_buffered {
            drop(buffer);
            shared.stats.write_dropped.inc();
            return;
        }
        buffer.extend_from_slice(line);
        let after = buffer.len();
        drop(buffer);
        shared.stats.write_buffered.inc();
        shared.stats.write_total_buffered.add(line.len() as u64);
        let threshold = shared.options.flush_min_size;
        let full = before < threshold && after >= threshold;
        if full || shared.idle.load(SeqCst) && shared.idle.swap(false, SeqCst) {
            thread.unpark();
        }
    }
}

impl std::fmt::Debug for LogFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogFile({:?})", self.file.sink)
    }
}

impl Shared {
    /// The thread: writes what waits, then gathers for a moment, or sleeps if nothing came.
    fn run(&self) {
        let mut lines = Vec::new();
        loop {
            let stop = self.stop.load(SeqCst);
            let wanted = self.flush_wanted.load(SeqCst);
            let wrote = self.write_all(&mut lines);
            *self.flush_done.lock() = wanted;
            self.flushed.notify_all();
            if stop {
                return;
            }
            if wrote {
                self.gather();
            } else {
                self.sleep();
            }
        }
    }

    /// Lets lines come together after a write, until it is time or a buffer is full enough.
    fn gather(&self) {
        let pause = GATHER.min(self.options.flush_interval);
        let start = Instant::now();
        thread::park_timeout(pause);
        if start.elapsed() >= pause {
            self.stats.flushed_by_timer.inc();
        }
    }

    /// Sleeps until somebody wakes the thread.
    fn sleep(&self) {
        self.idle.store(true, SeqCst);
        // A line that came before the flag was set woke nobody; one that comes now does.
        let waits = self.files.lock().iter().any(|file| !file.buffer.lock().is_empty());
        if !waits {
            thread::park();
        }
        self.idle.store(false, SeqCst);
    }

    /// Writes what waits for each file, and closes files that nobody holds. True if there was anything.
    fn write_all(&self, lines: &mut Vec<u8>) -> bool {
        let files = self.files.lock().clone();
        let mut wrote = false;
        for file in &files {
            lines.clear();
            lines.shrink_to(KEPT_CAPACITY);
            std::mem::swap(lines, &mut *file.buffer.lock());
            wrote |= !lines.is_empty();
            self.write_file(file, lines);
        }
        drop(files);
        // The list holds one reference; a file whose last line came meanwhile stays for another round.
        let unused =
            |file: &Arc<File>| Arc::strong_count(file) == 1 && file.buffer.lock().is_empty();
        self.files.lock().retain(|file| !unused(file));
        wrote
    }

    fn write_file(&self, file: &File, lines: &[u8]) {
        let mut output = file.output.lock();
        if !lines.is_empty() {
            if output.was_replaced() {
                self.reopen(file, &mut output);
            }
            match output.write(lines) {
                Ok(()) => self.stats.write_completed.inc(),
                Err(error) => {
                    self.stats.write_failed.inc();
                    tracing::debug!("cannot write access log {:?}: {error}", file.sink);
                }
            }
            self.stats.write_total_buffered.sub(lines.len() as u64);
        }
        if file.reopen.swap(false, SeqCst) {
            self.reopen(file, &mut output);
        }
    }

    /// Opens the file anew; keeps the old one if that fails, so that no line is lost.
    fn reopen(&self, file: &File, output: &mut Output) {
        match Output::open(&file.sink) {
            Ok(new) => *output = new,
            Err(error) => {
                self.stats.reopen_failed.inc();
                tracing::warn!("cannot reopen access log: {error}; still writing to the old file");
            }
        }
    }
}

#[cfg(test)]
mod tests;
