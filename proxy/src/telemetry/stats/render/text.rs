//! Envoy's plain text: `name: value`, sorted, histograms at the end.

use std::fmt::Write;
use std::sync::Arc;

use super::{QUANTILES, Reading, StatGroup, StatsQuery, Table};

/// What `/stats` prints.
pub fn text(groups: &[Arc<dyn StatGroup>], query: &StatsQuery) -> String {
    let table = Table::collect(groups, query);
    let mut out = String::with_capacity(table.names.len() * 2);
    for (name, reading) in table.rows() {
        let written = match reading {
            Reading::Counter(value) | Reading::Gauge(value, _) => writeln!(out, "{name}: {value}"),
            Reading::Text(text) => writeln!(out, "{name}: \"{text}\""),
            Reading::Histogram(_) => Ok(()),
        };
        written.expect("a string takes every character");
    }
    for (name, histogram) in table.histograms() {
        out.push_str(name);
        out.push(':');
        if histogram.count() == 0 {
            out.push_str(" No recorded values");
        } else {
            for quantile in QUANTILES {
                let value = histogram.quantile(quantile / 100.0).unwrap_or_default();
                // Histograms are kept since the start only; the interval's value is nan, as in Envoy between flushes.
                write!(out, " P{quantile}(nan,{value})").expect("a string takes every character");
            }
        }
        out.push('\n');
    }
    out
}
