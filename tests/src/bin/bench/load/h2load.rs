//! h2load: HTTP/2 without TLS for a given number of requests.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use super::{Seen, find, needed, output};
use crate::Result;
use crate::upstream::GRPC_MESSAGE;

/// A run of h2load.
#[derive(Debug, Clone, Copy)]
pub struct H2load {
    /// Connections.
    pub connections: usize,
    /// Streams at the same time on each connection.
    pub streams: usize,
    /// Whether requests are unary gRPC calls rather than GETs.
    pub grpc: bool,
}

impl H2load {
    /// Sends `requests` to `target`. Fails when a single one does.
    pub fn run(&self, target: SocketAddr, requests: usize) -> Result<Seen> {
        let file = |suffix: &str| {
            std::env::temp_dir().join(format!("pillion-bench-{}.{suffix}", std::process::id()))
        };
        let (log, message) = (file("latencies"), file("message"));
        // h2load appends to an existing file.
        let _ = fs::remove_file(&log);
        let mut command = Command::new(find("h2load")?);
        command
            .args([
                "-t1",
                &format!("-n{requests}"),
                &format!("-c{}", self.connections),
                &format!("-m{}", self.streams),
            ])
            .arg(format!("--log-file={}", log.display()));
        if self.grpc {
            fs::write(&message, GRPC_MESSAGE)?;
            command.arg("-d").arg(&message).args([
                "-H",
                "content-type: application/grpc",
                "-H",
                "te: trailers",
            ]);
        }
        let path = if self.grpc { "bench.Echo/Unary" } else { "" };
        let text = output(command.arg(format!("http://{target}/{path}")));
        let latencies = fs::read_to_string(&log);
        for file in [log, message] {
            let _ = fs::remove_file(file);
        }
        parse(&text?, &latencies?, requests)
    }
}

/// `latencies` has a line a request: start, status, microseconds.
fn parse(text: &str, latencies: &str, requests: usize) -> Result<Seen> {
    let succeeded = needed(text, r"status codes: (\d+) 2xx")?;
    if succeeded != requests as f64 {
        return Err(format!("{succeeded} of {requests} requests succeeded:\n{text}").into());
    }
    let mut sorted: Vec<u32> =
        latencies.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect();
    sorted.sort_unstable();
    let percentile = |which: usize| {
        let index = (sorted.len() * which / 100).min(sorted.len().saturating_sub(1));
        sorted.get(index).map(|us| f64::from(*us) / 1000.0).ok_or("h2load logged no latencies")
    };
    Ok(Seen {
        requests: succeeded,
        rate: needed(text, r"finished in [^,]+, ([\d.]+) req/s")?,
        p50: percentile(50)?,
        p99: percentile(99)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "finished in 32.03ms, 3122.07 req/s, 402KB/s
requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 100 2xx, 0 3xx, 0 4xx, 0 5xx
";

    #[test]
    fn percentiles_come_from_the_log_of_requests() {
        let latencies: String =
            (1..=100).rev().map(|n| format!("0\t200\t{}\n", n * 1000)).collect();
        let seen = parse(OUTPUT, &latencies, 100).unwrap();
        assert_eq!((seen.rate, seen.p50, seen.p99), (3122.07, 51.0, 100.0));
    }

    #[test]
    fn a_missing_answer_fails_the_run() {
        assert!(parse(OUTPUT, "0\t200\t1\n", 101).is_err());
    }
}
