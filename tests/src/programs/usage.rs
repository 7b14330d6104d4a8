//! What a process has used so far, as the kernel counts it.

use std::fs;
use std::io;
use std::time::Duration;

/// `USER_HZ`: what /proc shows to programs is fixed at 100 ticks a second on Linux, whatever the kernel's own rate.
const TICK: Duration = Duration::from_millis(10);

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all threads, ended ones too. Resolution 10 ms.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
}

impl Usage {
    /// Resident memory in MB (2^20 bytes).
    pub fn resident_mb(&self) -> f64 {
        self.resident as f64 / f64::from(1 << 20)
    }

    /// Reads process `pid`. Fails when it has ended.
    pub fn of(pid: u32) -> io::Result<Usage> {
        let invalid = |what: &str| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid}/{what} is not as documented"),
            )
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Usage {
            cpu: cpu_time(&stat).ok_or_else(|| invalid("stat"))?,
            resident: resident(&status).ok_or_else(|| invalid("status"))?,
        })
    }
}

/// Fields 14 (utime) and 15 (stime) of proc(5)'s stat. The name, field 2, may hold blanks and parentheses.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let utime: u32 = fields.next()?.parse().ok()?;
    let stime: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (utime + stime))
}

/// The line `VmRSS:  1234 kB`.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_past_a_name_with_blanks() {
        let stat = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(3)));
    }

    #[test]
    fn this_process_can_be_read() {
        assert!(Usage::of(std::process::id()).unwrap().resident > 0);
    }
}
