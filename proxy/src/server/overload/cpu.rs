//! How busy the CPU is, smoothed as by Envoy.

use std::time::Instant;

use super::cgroup::Cgroup;

/// How much the newest measurement counts.
const DAMPENING: f64 = 0.05;

/// Measures between one look and the next.
pub struct CpuMeter {
    source: Source,
    /// At the last look: how much was used, of how much there was.
    last: Option<Times>,
    utilization: f64,
}

enum Source {
    Machine,
    /// With the time since which its CPU is counted.
    Cgroup(Cgroup, Instant),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Times {
    used: f64,
    whole: f64,
}

impl CpuMeter {
    /// Of all processes of the machine.
    pub fn of_machine() -> Self {
        CpuMeter { source: Source::Machine, last: None, utilization: 0.0 }
    }

    /// Of a control group, against its quota.
    pub fn of_cgroup(cgroup: Cgroup) -> Self {
        let source = Source::Cgroup(cgroup, Instant::now());
        CpuMeter { source, last: None, utilization: 0.0 }
    }

    /// From 0 to 1.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn utilization(&mut self) -> Result<f64, String> {
        let now = self.times()?;
        if let Some(last) = self.last.replace(now) {
            let whole = now.whole - last.whole;
            if whole > 0.0 {
                let current = ((now.used - last.used) / whole).clamp(0.0, 1.0);
                self.utilization += DAMPENING * (current - self.utilization);
            }
        }
        Ok(self.utilization)
    }

    fn times(&self) -> Result<Times, String> {
        match &self.source {
            Source::Machine => {
                let text = std::fs::read_to_string("/proc/stat");
                machine(&text.map_err(|error| format!("/proc/stat: {error}"))?)
            }
            Source::Cgroup(cgroup, since) => {
                let cores = cgroup.cpu_quota();
                let cores = cores.unwrap_or_else(|| {
                    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
                });
                let whole = since.elapsed().as_secs_f64() * cores;
                Ok(Times { used: cgroup.cpu_seconds()?, whole })
            }
        }
    }
}

/// Reads `/proc/stat` (proc_stat(5)): user, nice and system time against these and idle time, as Envoy does.
fn machine(text: &str) -> Result<Times, String> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "));
    let numbers = line.map(|line| line.split_whitespace().map_while(|word| word.parse().ok()));
    let numbers: Vec<f64> = numbers.map(Iterator::collect).unwrap_or_default();
    match numbers[..] {
        [user, nice, system, idle, ..] => {
            let used = user + nice + system;
            Ok(Times { used, whole: used + idle })
        }
        _ => Err("/proc/stat: it has no line of four numbers for all CPUs".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_line_of_all_cpus() {
        let times = machine("cpu  10 5 5 80 7 7 7\ncpu0 1 1 1 1\n");
        assert_eq!(times, Ok(Times { used: 20.0, whole: 100.0 }));
        assert!(machine("cpu  10 5\n").is_err());
    }

    #[test]
    fn utilization_follows_slowly() {
        let mut meter = CpuMeter::of_machine();
        assert_eq!(meter.utilization(), Ok(0.0));
        let last = meter.last.unwrap();
        // Since then everything was in use.
        meter.last = Some(Times { used: last.used - 1e9, whole: last.whole - 1e9 });
        let utilization = meter.utilization().unwrap();
        assert!((utilization - DAMPENING).abs() < 1e-3, "{utilization}");
    }
}
