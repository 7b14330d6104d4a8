//! The writer with real files. Waiting is on conditions: `flush` returns when lines are written.

use std::fs;
use std::path::PathBuf;

use super::*;

const LONG: Duration = Duration::from_secs(30);

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let name = format!("pillion-log-writer-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn sink(&self, name: &str) -> LogSink {
        LogSink::File(self.0.join(name))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn start(options: LogWriterOptions) -> (LogWriter, Arc<LogWriterStats>) {
    let writer = LogWriter::start(options, &Store::default()).unwrap();
    let stats = Arc::clone(&writer.handle.shared.stats);
    (writer, stats)
}

#[test]
fn lines_of_many_threads_arrive_whole_in_one_file() {
    let folder = Folder::new();
    let (writer, stats) = start(LogWriterOptions::default());
    let sink = folder.sink("log");
    thread::scope(|scope| {
        for _ in 0..4 {
            let file = writer.open(&sink).unwrap();
            scope.spawn(move || (0..500).for_each(|_| file.write(b"one whole line\n")));
        }
    });
    assert!(writer.flush(LONG));
    assert_eq!(folder.read("log"), "one whole line\n".repeat(2000));
    assert_eq!((stats.write_buffered.get(), stats.write_total_buffered.get()), (2000, 0));
    assert!(stats.write_completed.get() >= 1 && stats.write_dropped.get() == 0);
}

#[test]
fn an_idle_writer_writes_without_being_asked() {
    let folder = Folder::new();
    let (writer, stats) = start(LogWriterOptions::default());
    let file = writer.open(&folder.sink("log")).unwrap();
    file.write(b"line\n");
    while stats.write_completed.get() == 0 {
        thread::yield_now();
    }
    assert_eq!(folder.read("log"), "line\n");
}

#[test]
fn lines_beyond_the_bound_are_dropped_and_counted() {
    let folder = Folder::new();
    let options = LogWriterOptions { max_buffered: 10, ..LogWriterOptions::default() };
    let (writer, stats) = start(options);
    let file = writer.open(&folder.sink("log")).unwrap();
    file.write(b"123456\n");
    file.write(b"a line that never fits\n");
    assert!(writer.flush(LONG));
    assert_eq!(folder.read("log"), "123456\n");
    assert_eq!((stats.write_dropped.get(), stats.write_buffered.get()), (1, 1));
}

#[test]
fn a_moved_or_removed_file_is_opened_anew() {
    let folder = Folder::new();
    let (writer, _) = start(LogWriterOptions::default());
    let file = writer.open(&folder.sink("log")).unwrap();
    file.write(b"first\n");
    assert!(writer.flush(LONG));
    fs::rename(folder.0.join("log"), folder.0.join("log.1")).unwrap();
    file.write(b"second\n");
    assert!(writer.flush(LONG));
    assert_eq!(
        (folder.read("log.1").as_str(), folder.read("log").as_str()),
        ("first\n", "second\n")
    );
    fs::remove_file(folder.0.join("log")).unwrap();
    file.write(b"third\n");
    assert!(writer.flush(LONG));
    assert_eq!(folder.read("log"), "third\n");
}

#[test]
fn reopen_makes_the_file_without_a_line() {
    let folder = Folder::new();
    let (writer, stats) = start(LogWriterOptions::default());
    let _file = writer.open(&folder.sink("log")).unwrap();
    fs::remove_file(folder.0.join("log")).unwrap();
    writer.reopen();
    assert!(writer.flush(LONG));
    assert_eq!(folder.read("log"), "");
    assert_eq!(stats.reopen_failed.get(), 0);
}

#[test]
fn a_failed_reopen_keeps_the_old_file_and_is_counted() {
    let folder = Folder::new();
    fs::create_dir(folder.0.join("sub")).unwrap();
    let (writer, stats) = start(LogWriterOptions::default());
    let file = writer.open(&folder.sink("sub/log")).unwrap();
    fs::rename(folder.0.join("sub"), folder.0.join("moved")).unwrap();
    file.write(b"line\n");
    assert!(writer.flush(LONG));
    assert_eq!(stats.reopen_failed.get(), 1);
    assert_eq!(folder.read("moved/log"), "line\n");
}

#[test]
fn a_path_is_opened_once_and_closed_after_its_last_user() {
    let folder = Folder::new();
    let (writer, _) = start(LogWriterOptions::default());
    let first = writer.open(&folder.sink("log")).unwrap();
    let second = writer.open(&folder.sink("log")).unwrap();
    assert!(Arc::ptr_eq(&first.file, &second.file));
    first.write(b"line\n");
    drop((first, second));
    assert!(writer.flush(LONG));
    assert!(writer.handle.shared.files.lock().is_empty());
    assert_eq!(folder.read("log"), "line\n");
}

#[test]
fn a_path_that_cannot_be_opened_is_named() {
    let folder = Folder::new();
    let (writer, _) = start(LogWriterOptions::default());
    let error = writer.open(&folder.sink("no/log")).err().unwrap().to_string();
    assert!(error.contains("no/log for appending"), "{error}");
}

#[test]
fn standard_streams_may_be_named_by_path() {
    let (writer, _) = start(LogWriterOptions::default());
    let file = writer.open(&LogSink::File("/dev/stderr".into())).unwrap();
    assert_eq!(file.file.sink, LogSink::Stderr);
}

#[test]
fn dropping_the_writer_writes_what_waits() {
    let folder = Folder::new();
    let (writer, stats) = start(LogWriterOptions::default());
    let file = writer.open(&folder.sink("log")).unwrap();
    file.write(b"last\n");
    drop((writer, file));
    while stats.write_completed.get() == 0 {
        thread::yield_now();
    }
    assert_eq!(folder.read("log"), "last\n");
}
