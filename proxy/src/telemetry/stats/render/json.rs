//! Envoy's JSON: one list of names and values, with the histograms in its last element.

use std::sync::Arc;

use serde_json::{Value, json as object};

use super::{QUANTILES, Reading, StatGroup, StatsQuery, Table};

/// What `/stats?format=json` prints.
pub fn json(groups: &[Arc<dyn StatGroup>], query: &StatsQuery) -> String {
    let table = Table::collect(groups, query);
    let mut stats: Vec<Value> = table
        .rows()
        .filter_map(|(name, reading)| match reading {
            Reading::Counter(value) | Reading::Gauge(value, _) => {
                Some(object!({"name": name, "value": value}))
            }
            Reading::Text(text) => Some(object!({"name": name, "value": text})),
            Reading::Histogram(_) => None,
        })
        .collect();
    let computed: Vec<Value> = table
        .histograms()
        .map(|(name, histogram)| {
            let values = QUANTILES.map(|quantile| {
                let value = histogram.quantile(quantile / 100.0);
                object!({"cumulative": value, "interval": null})
            });
            object!({"name": name, "values": values})
        })
        .collect();
    if !computed.is_empty() {
        stats.push(object!({
            "histograms": {"supported_quantiles": QUANTILES, "computed_quantiles": computed}
        }));
    }
    object!({ "stats": stats }).to_string()
}
