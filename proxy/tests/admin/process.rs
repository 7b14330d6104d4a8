//! A proxy as a process of its own, and the smallest client of its admin interface.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Nothing takes longer, unless it never happens.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running proxy; ended when dropped.
pub struct Proxy {
    child: Child,
    admin: String,
}

impl Proxy {
    /// Starts a proxy and waits until it is ready.
    pub fn start(bootstrap: &str) -> Proxy {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("admin-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let child = Command::new(env!("CARGO_BIN_EXE_pillion"))
            .args(["--concurrency", "1", "--config-yaml", bootstrap, "--disable-hot-restart"])
            .args(["--drain-strategy", "immediate", "--admin-address-path"])
            .arg(&path)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut proxy = Proxy { child, admin: String::new() };
        proxy.wait("the admin address", || {
            std::fs::read_to_string(&path).is_ok_and(|a| !a.is_empty())
        });
        proxy.admin = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        if !proxy.admin.starts_with('/') {
            proxy.wait("readiness", || proxy.get("/ready").status == 200);
        }
        proxy
    }

    /// Where the admin interface is.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    pub fn get(&self, path: &str) -> Answer {
        request(TcpStream::connect(&self.admin).unwrap(), "GET", path)
    }

    pub fn post(&self, path: &str) -> Answer {
        request(TcpStream::connect(&self.admin).unwrap(), "POST", path)
    }

    pub fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The address that a listener is bound to.
    pub fn listener(&self, name: &str) -> String {
        let listeners = self.get("/listeners").body;
        let found = listeners.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("::"));
        found.unwrap().to_string()
    }

    /// Waits until a condition holds.
    pub fn wait(&self, awaited: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < end, "still waiting for {awaited}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Waits for the end of the process.
    pub fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the process does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the admin interface answered.
pub struct Answer {
    pub status: u16,
    pub body: String,
    head: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| *known == name).unwrap().1
    }
}

/// Sends a request without a body on a new connection.
pub fn request(mut stream: impl Read + Write, method: &str, path: &str) -> Answer {
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, body: body.to_string(), head: head.to_string() }
}
