//! Prometheus' exposition format, with the variable parts of names as labels.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::{
    Histogram, Reading, StatGroup, StatsQuery, Suffix, printed_prefix, sorted, visit_group,
};
use crate::telemetry::stats::tags::Tagged;

/// Envoy's default buckets, in milliseconds.
const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// The lines of every metric name, so that those of one name stand together.
#[derive(Default)]
struct Families {
    counters: BTreeMap<String, String>,
    gauges: BTreeMap<String, String>,
    texts: BTreeMap<String, String>,
    histograms: BTreeMap<String, String>,
}

/// What `/stats/prometheus` prints.
pub fn prometheus(groups: &[Arc<dyn StatGroup>], query: &StatsQuery) -> String {
    let mut families = Families::default();
    let mut buffer = String::new();
    let mut family = String::new();
    let mut labels = String::new();
    for group in sorted(groups) {
        let prefix = printed_prefix(group);
        let tagged = Tagged::of(&prefix);
        let base = sanitized(&tagged.base);
        let group_labels = joined(&tagged.labels);
        visit_group(group, &prefix, query, &mut buffer, &mut |_, field, suffix, reading| {
            family.clear();
            family.extend(["envoy_", &base, field]);
            labels.clear();
            write_suffix(suffix, &mut family, &mut labels);
            if !labels.is_empty() && !group_labels.is_empty() {
                labels.push(',');
            }
            labels.push_str(&group_labels);
            families.add(&family, &labels, &reading, query);
        });
    }
    families.print()
}

impl Families {
    fn add(&mut self, family: &str, labels: &str, reading: &Reading<'_>, query: &StatsQuery) {
        let written = match reading {
            Reading::Counter(value) => {
                writeln!(lines(&mut self.counters, family), "{family}{{{labels}}} {value}")
            }
            Reading::Gauge(value, _) => {
                writeln!(lines(&mut self.gauges, family), "{family}{{{labels}}} {value}")
            }
            Reading::Text(text) if query.text_readouts => {
                let comma = if labels.is_empty() { "" } else { "," };
                let text = escaped(text);
                let lines = lines(&mut self.texts, family);
                writeln!(lines, "{family}{{{labels}{comma}text_value=\"{text}\"}} 0")
            }
            Reading::Text(_) => Ok(()),
            Reading::Histogram(histogram) => {
                write_histogram(histogram, family, labels, lines(&mut self.histograms, family))
            }
        };
        written.expect("a string takes every character");
    }

    fn print(self) -> String {
        let kinds = [
            ("counter", self.counters),
            ("gauge", self.gauges),
            ("gauge", self.texts),
            ("histogram", self.histograms),
        ];
        let mut out = String::new();
        for (kind, families) in kinds {
            for (name, lines) in families {
                out.extend(["# TYPE ", &name, " ", kind, "\n", &lines]);
            }
        }
        out
    }
}

/// The lines of one name so far.
fn lines<'a>(families: &'a mut BTreeMap<String, String>, family: &str) -> &'a mut String {
    // Looking up first spares the key's allocation, which `entry` would need each time.
    if !families.contains_key(family) {
        families.insert(family.to_string(), String::new());
    }
    families.get_mut(family).expect("it was just inserted")
}

/// A response code is a label, in Envoy's names.
fn write_suffix(suffix: Suffix, family: &mut String, labels: &mut String) {
    match suffix {
        Suffix::None => {}
        Suffix::Completed => family.push_str("_completed"),
        Suffix::Class(class) => {
            family.push_str("_xx");
            labels.push_str(&format!("envoy_response_code_class=\"{class}\""));
        }
        Suffix::Code(code) => labels.push_str(&format!("envoy_response_code=\"{code}\"")),
    }
}

fn write_histogram(
    histogram: &Histogram,
    family: &str,
    labels: &str,
    out: &mut String,
) -> std::fmt::Result {
    let comma = if labels.is_empty() { "" } else { "," };
    for (bound, count) in BUCKETS.iter().zip(histogram.counts_at_most(&BUCKETS)) {
        writeln!(out, "{family}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}")?;
    }
    let count = histogram.count();
    writeln!(out, "{family}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}")?;
    writeln!(out, "{family}_sum{{{labels}}} {}", histogram.sum())?;
    writeln!(out, "{family}_count{{{labels}}} {count}")
}

/// A metric name may have letters, digits and underscores only.
fn sanitized(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

fn joined(labels: &[(&str, &str)]) -> String {
    let pairs = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
