//! The tables that people read and the JSON that programs read.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::goals::{self, Verdict};
use crate::measurement::{Metric, Row};
use crate::program::Program;
use crate::scenario::Scenario;

/// What one scenario came to.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its name on the command line.
    pub scenario: &'static str,
    /// What it does.
    pub about: &'static str,
    /// The metric that programs are compared by.
    pub compared_by: Metric,
    /// A row a program.
    pub rows: Vec<Row>,
    /// The goals that can be judged.
    pub goals: Vec<Verdict>,
}

impl Report {
    /// Judges the goals on `rows`.
    pub fn new(scenario: &Scenario, rows: Vec<Row>) -> Report {
        let goals = goals::ALL.iter().filter_map(|goal| goal.judge(scenario.name, &rows)).collect();
        Report {
            scenario: scenario.name,
            about: scenario.about,
            compared_by: scenario.compared_by,
            rows,
            goals,
        }
    }

    /// Whether a goal of this scenario was missed or lacks a figure.
    pub fn misses_a_goal(&self) -> bool {
        let expected = goals::ALL.iter().filter(|goal| goal.is_about(self.scenario)).count();
        self.goals.iter().filter(|verdict| verdict.met).count() < expected
    }

    /// The table, with the goals under it.
    pub fn table(&self) -> String {
        let metrics: BTreeSet<Metric> =
            self.rows.iter().flat_map(|row| row.figures.keys().copied()).collect();
        let mut lines = vec![self.header(&metrics)];
        let mut notes = Vec::new();
        for row in &self.rows {
            match &row.error {
                None => lines.push(self.line(row, &metrics)),
                Some(error) => notes.push(format!("  {}: {error}\n", row.program.name())),
            }
        }
        let verdicts = self.goals.iter().map(|verdict| {
            let word = if verdict.met { "met" } else { "MISSED" };
            format!("  goal: {}: {:.2} {word}\n", verdict.goal, verdict.measured)
        });
        let verdicts: String = verdicts.collect();
        format!(
            "\n{}: {}\n{}{}{verdicts}",
            self.scenario,
            self.about,
            align(&lines),
            notes.concat()
        )
    }

    fn header(&self, metrics: &BTreeSet<Metric>) -> Vec<String> {
        let mut cells = vec!["program".to_owned()];
        for metric in metrics {
            cells.push(metric.title().to_owned());
            if *metric == self.compared_by {
                cells.push("of Envoy".to_owned());
            }
        }
        cells
    }

    fn line(&self, row: &Row, metrics: &BTreeSet<Metric>) -> Vec<String> {
        let absent = || "-".to_owned();
        let mut cells = vec![row.program.name().to_owned()];
        for metric in metrics {
            let value = row.figures.get(metric);
            cells.push(value.map_or_else(absent, |value| metric.format(*value)));
            if *metric == self.compared_by {
                let ratio = value.and_then(|value| Some(value / self.envoy()?));
                cells.push(ratio.map_or_else(absent, |ratio| format!("{ratio:.2}")));
            }
        }
        cells
    }

    fn envoy(&self) -> Option<f64> {
        self.rows
            .iter()
            .find(|row| row.program == Program::Envoy)?
            .figures
            .get(&self.compared_by)
            .copied()
    }
}

/// Columns of equal width: the first to the left, figures to the right.
fn align(lines: &[Vec<String>]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        text.push_str(&format!("  {:<width$}", line[0], width = widths[0]));
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            text.push_str(&format!("  {cell:>width$}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::Figures;

    #[test]
    fn a_table_shows_ratios_reasons_and_goals() {
        let scenario = Scenario {
            name: "http1",
            about: "test",
            compared_by: Metric::CpuPerRequest,
            run: |_| unreachable!("only its words are used"),
        };
        let row =
            |program, cpu| Row::new(program, Ok(Figures::from([(Metric::CpuPerRequest, cpu)])));
        let rows = vec![
            row(Program::Pillion, 15.0),
            row(Program::Envoy, 50.0),
            Row::new(Program::Nginx, Err("not installed".into())),
        ];
        let table = Report::new(&scenario, rows).table();
        assert_eq!(
            table,
            "\nhttp1: test\n  \
             program  CPU us/req  of Envoy\n  \
             pillion        15.0      0.30\n  \
             envoy          50.0      1.00\n  \
             nginx: not installed\n  \
             goal: CPU us/req at most 0.4 of envoy's: 0.30 met\n"
        );
    }
}
