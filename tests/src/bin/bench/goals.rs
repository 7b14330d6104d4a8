//! What Pillion is meant to reach, judged on the figures of the same run.

use serde::Serialize;

use crate::measurement::{Metric, Row};
use crate::program::Program;

/// A goal for one metric of Pillion in one scenario.
pub struct Goal {
    scenario: &'static str,
    metric: Metric,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtMostOf(f64, Program),
}

/// What Envoy took for one endpoint where the goal was set, in milliseconds. Less than a millisecond says more about the
/// scheduler than about the program, so this is a limit rather than a ratio within the run.
const ENVOY_ONE_ENDPOINT: f64 = 2.0;

/// The goals. They speak of CPU time with statistics on and access logs off, as all scenarios run.
pub const ALL: [Goal; 16] = [
    Goal::of_envoy("http1", Metric::CpuPerRequest, 0.40),
    Goal {
        scenario: "http1",
        metric: Metric::CpuPerRequest,
        bound: Bound::AtMostOf(1.0, Program::Haproxy),
    },
    Goal::of_envoy("http2-8x32", Metric::CpuPerRequest, 0.30),
    Goal::of_envoy("http2-32x1", Metric::CpuPerRequest, 0.45),
    Goal::of_envoy("tcp", Metric::CpuPerRequest, 0.75),
    Goal::of_envoy("mesh-http1", Metric::CpuPerRequest, 0.40),
    Goal::of_envoy("mesh-http2", Metric::CpuPerRequest, 0.40),
    Goal::of_envoy("tls-handshakes", Metric::CpuPerRequest, 1.0),
    Goal { scenario: "sds-rotation", metric: Metric::Served, bound: Bound::AtMost(100.0) },
    Goal { scenario: "idle", metric: Metric::Memory, bound: Bound::AtMost(12.0) },
    Goal { scenario: "clusters-1000", metric: Metric::Memory, bound: Bound::AtMost(25.0) },
    Goal { scenario: "clusters-5000", metric: Metric::Memory, bound: Bound::AtMost(80.0) },
    Goal::of_envoy("clusters-1000", Metric::Ready, 0.20),
    Goal::of_envoy("clusters-5000", Metric::Ready, 0.20),
    Goal::of_envoy("ads-1000-clusters", Metric::PushCpu, 0.25),
    Goal {
        scenario: "ads-one-endpoint",
        metric: Metric::LastAck,
        bound: Bound::AtMost(ENVOY_ONE_ENDPOINT),
    },
];

/// How a goal came out.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// The goal in words.
    pub goal: String,
    /// The figure that the bound is about: the metric, or its ratio to the other program's.
    pub measured: f64,
    /// Whether it is within the bound.
    pub met: bool,
}

impl Goal {
    const fn of_envoy(scenario: &'static str, metric: Metric, factor: f64) -> Goal {
        Goal { scenario, metric, bound: Bound::AtMostOf(factor, Program::Envoy) }
    }

    /// Whether it is a goal for `scenario`.
    pub fn is_about(&self, scenario: &str) -> bool {
        self.scenario == scenario
    }

    /// The verdict on `scenario`'s rows; none where the goal is about another scenario or a figure is missing.
    pub fn judge(&self, scenario: &str, rows: &[Row]) -> Option<Verdict> {
        if !self.is_about(scenario) {
            return None;
        }
        let figure = |program| {
            rows.iter().find(|row| row.program == program)?.figures.get(&self.metric).copied()
        };
        let pillion = figure(Program::Pillion)?;
        let title = self.metric.title();
        let (goal, measured, limit) = match self.bound {
            Bound::AtMost(limit) => (format!("{title} at most {limit}"), pillion, limit),
            Bound::AtMostOf(factor, other) => (
                format!("{title} at most {factor} of {}'s", other.name()),
                pillion / figure(other)?,
                factor,
            ),
        };
        Some(Verdict { goal, measured, met: measured <= limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::Figures;

    fn row(program: Program, cpu: f64) -> Row {
        Row::new(program, Ok(Figures::from([(Metric::CpuPerRequest, cpu)])))
    }

    #[test]
    fn a_ratio_is_judged_within_the_same_run() {
        let goal = Goal::of_envoy("http1", Metric::CpuPerRequest, 0.4);
        let rows = [row(Program::Pillion, 15.0), row(Program::Envoy, 50.0)];
        let verdict = goal.judge("http1", &rows).unwrap();
        assert!(verdict.met && (verdict.measured - 0.3).abs() < 1e-9);
        assert!(
            !goal
                .judge("http1", &[row(Program::Pillion, 21.0), row(Program::Envoy, 50.0)])
                .unwrap()
                .met
        );
    }

    #[test]
    fn without_the_other_program_there_is_no_verdict() {
        let goal = Goal::of_envoy("http1", Metric::CpuPerRequest, 0.4);
        assert!(goal.judge("http1", &[row(Program::Pillion, 15.0)]).is_none());
        assert!(
            goal.judge("tcp", &[row(Program::Pillion, 15.0), row(Program::Envoy, 50.0)]).is_none()
        );
    }
}
