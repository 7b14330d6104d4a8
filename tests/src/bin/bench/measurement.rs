//! What is measured, and what one program came to in one scenario.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::program::Program;

/// A measured quantity; less is better in all but [`Metric::Rate`]. The order is that of the table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// User and system time of the program per request, in microseconds; per handshake where handshakes are measured.
    CpuPerRequest,
    /// Median latency seen by the client, in milliseconds.
    P50,
    /// 99th percentile of latency, in milliseconds.
    P99,
    /// Requests a second while all programs share the machine with the load: says little, and is no goal.
    Rate,
    /// From the start of the process until it was ready, in milliseconds.
    Ready,
    /// From the push of a change until its last ACK, in milliseconds.
    LastAck,
    /// User and system time that the change took, in milliseconds.
    PushCpu,
    /// From the push of a certificate until a connection is served with it, in milliseconds.
    Served,
    /// Resident memory in MB (2^20 bytes).
    Memory,
    /// How much of it has come since the first round.
    Growth,
}

impl Metric {
    /// Title of the table's column.
    pub fn title(self) -> &'static str {
        match self {
            Metric::CpuPerRequest => "CPU us/req",
            Metric::P50 => "p50 ms",
            Metric::P99 => "p99 ms",
            Metric::Rate => "req/s",
            Metric::Ready => "ready ms",
            Metric::LastAck => "last ACK ms",
            Metric::PushCpu => "CPU ms",
            Metric::Served => "served ms",
            Metric::Memory => "RSS MB",
            Metric::Growth => "growth MB",
        }
    }

    /// `value` with the digits that mean something.
    pub fn format(self, value: f64) -> String {
        match self {
            Metric::Rate => format!("{value:.0}"),
            Metric::P50 | Metric::P99 | Metric::LastAck | Metric::Served | Metric::Growth => {
                format!("{value:.2}")
            }
            Metric::CpuPerRequest | Metric::Ready | Metric::PushCpu | Metric::Memory => {
                format!("{value:.1}")
            }
        }
    }
}

/// Values by what they measure.
pub type Figures = BTreeMap<Metric, f64>;

/// `time` in milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// `time` in microseconds.
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The figures of all rounds.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<Metric, Vec<f64>>);

impl Samples {
    /// Adds what one round gave.
    pub fn add(&mut self, figures: Figures) {
        for (metric, value) in figures {
            self.0.entry(metric).or_default().push(value);
        }
    }

    /// The median of each metric: one round that the machine disturbed does not count.
    pub fn medians(self) -> Figures {
        self.0.into_iter().map(|(metric, values)| (metric, median(values))).collect()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    (lower + upper) / 2.0
}

/// One program in one scenario.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Which one.
    pub program: Program,
    /// Empty where there is an [`error`](Row::error).
    pub figures: Figures,
    /// Why there are no figures.
    pub error: Option<String>,
}

impl Row {
    /// A row of figures, or of the reason why there are none.
    pub fn new(program: Program, outcome: crate::Result<Figures>) -> Row {
        match outcome {
            Ok(figures) => Row { program, figures, error: None },
            Err(error) => Row { program, figures: Figures::new(), error: Some(error.to_string()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disturbed_round_does_not_move_the_median() {
        assert_eq!(median(vec![15.0, 90.0, 14.0]), 15.0);
        assert_eq!(median(vec![4.0, 2.0]), 3.0);
    }
}
