//! Envoy's JSON: one list of names and values, with the histograms in its last element.

use std::sync::Arc;

use serde::Serialize;

use super::{QUANTILES, Reading, StatGroup, StatsQuery, Table};

#[derive(Serialize)]
struct Stats<'a> {
    stats: Vec<Stat<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Stat<'a> {
    Number { name: &'a str, value: u64 },
    Text { name: &'a str, value: &'a str },
    Histograms { histograms: Histograms<'a> },
}

#[derive(Serialize)]
struct Histograms<'a> {
    supported_quantiles: [f64; QUANTILES.len()],
    computed_quantiles: Vec<Quantiles<'a>>,
}

#[derive(Serialize)]
struct Quantiles<'a> {
    name: &'a str,
    values: [Quantile; QUANTILES.len()],
}

/// The value since the start; histograms are not kept by interval.
#[derive(Serialize)]
struct Quantile {
    cumulative: Option<f64>,
    interval: Option<f64>,
}

/// What `/stats?format=json` prints.
pub fn json(groups: &[Arc<dyn StatGroup>], query: &StatsQuery) -> String {
    let table = Table::collect(groups, query);
    let plain = table.rows().filter_map(|(name, reading)| match reading {
        Reading::Counter(value) | Reading::Gauge(value, _) => {
            Some(Stat::Number { name, value: *value })
        }
        Reading::Text(text) => Some(Stat::Text { name, value: text }),
        Reading::Histogram(_) => None,
    });
    let mut stats: Vec<Stat<'_>> = plain.collect();
    let quantiles = table.histograms().map(|(name, histogram)| Quantiles {
        name,
        values: QUANTILES.map(|quantile| Quantile {
            cumulative: histogram.quantile(quantile / 100.0),
            interval: None,
        }),
    });
    let computed_quantiles: Vec<Quantiles<'_>> = quantiles.collect();
    if !computed_quantiles.is_empty() {
        let histograms = Histograms { supported_quantiles: QUANTILES, computed_quantiles };
        stats.push(Stat::Histograms { histograms });
    }
    serde_json::to_string(&Stats { stats })
        .expect("text and finite numbers always have a JSON form")
}
