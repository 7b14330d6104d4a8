//! wrk: HTTP/1.1 for a given time.

use std::net::SocketAddr;
use std::process::Command;

use super::{Seen, find, needed, number, output};
use crate::Result;

/// A run of wrk.
#[derive(Debug, Clone, Copy)]
pub struct Wrk {
    /// Keep-alive connections, one request in flight on each.
    pub connections: usize,
    /// Path that is asked.
    pub path: &'static str,
    /// Bytes sent with each request; a plain GET where 0.
    pub body: usize,
}

impl Wrk {
    /// Loads `target` for `seconds`. Fails when a single request does.
    pub fn run(&self, target: SocketAddr, seconds: usize) -> Result<Seen> {
        let mut command = Command::new(find("wrk")?);
        command
            .args([
                "--latency",
                "-t1",
                &format!("-c{}", self.connections),
                &format!("-d{seconds}s"),
            ])
            .arg(format!("http://{target}{}", self.path));
        let script = std::env::temp_dir().join(format!("pillion-bench-{}.lua", std::process::id()));
        if self.body > 0 {
            std::fs::write(
                &script,
                format!("wrk.method = 'POST'\nwrk.body = string.rep('x', {})\n", self.body),
            )?;
            command.arg("-s").arg(&script);
        }
        let text = output(&mut command);
        let _ = std::fs::remove_file(script);
        parse(&text?)
    }
}

fn parse(text: &str) -> Result<Seen> {
    let failed =
        text.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors"));
    if let Some(line) = failed {
        return Err(format!("requests failed: {}", line.trim()).into());
    }
    Ok(Seen {
        requests: needed(text, r"(\d+) requests in")?,
        rate: needed(text, r"Requests/sec:\s+([\d.]+)")?,
        p50: percentile(text, 50)?,
        p99: percentile(text, 99)?,
    })
}

/// The line `50%  635.91us` in milliseconds.
fn percentile(text: &str, which: u32) -> Result<f64> {
    let of = |unit: &str| number(text, &format!(r"\s{which}%\s+([\d.]+){unit}\s"));
    of("us")
        .map(|us| us / 1000.0)
        .or_else(|| of("ms"))
        .or_else(|| of("s").map(|s| s * 1000.0))
        .ok_or_else(|| format!("wrk printed no {which}th percentile:\n{text}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Running 1s test @ http://127.0.0.1:1/
  Latency Distribution
     50%  635.91us
     75%    0.90ms
     99%    1.05s 
  40911 requests in 1.00s, 9.64MB read
Requests/sec:  40845.79
";

    #[test]
    fn latencies_are_read_in_every_unit() {
        let seen = parse(OUTPUT).unwrap();
        assert_eq!(
            (seen.requests, seen.rate, seen.p50, seen.p99),
            (40911.0, 40845.79, 0.63591, 1050.0)
        );
    }

    #[test]
    fn a_failed_request_fails_the_run() {
        let error = parse(&format!("{OUTPUT}  Non-2xx or 3xx responses: 3\n")).unwrap_err();
        assert_eq!(error.to_string(), "requests failed: Non-2xx or 3xx responses: 3");
    }
}
