//! Statistics as text: Envoy's own format, its JSON and Prometheus' exposition format.

use std::sync::Arc;

use regex::Regex;

use super::{Histogram, Metric, ResponseCodes, StatGroup};

mod json;
mod prometheus;
mod text;

pub use json::json;
pub use prometheus::prometheus;
pub use text::text;

/// The quantiles that are printed of a histogram, in percent.
const QUANTILES: [f64; 10] = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0];

/// Which metrics are wanted (the parameters of `/stats`). The default wants all.
#[derive(Clone, Debug, Default)]
pub struct StatsQuery {
    /// `usedonly`: only metrics that are not at zero.
    pub used_only: bool,
    /// `filter`: only names in which this finds a match.
    pub filter: Option<Regex>,
    /// `type`: only this kind.
    pub kind: Option<StatKind>,
    /// `text_readouts`: Prometheus output has text readouts, as labels of a gauge that is 0.
    pub text_readouts: bool,
}

/// A kind of metric (`type=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatKind {
    /// `Counters`
    Counters,
    /// `Gauges`
    Gauges,
    /// `Histograms`
    Histograms,
    /// `TextReadouts`
    TextReadouts,
}

impl StatKind {
    /// The kind that a `type` parameter names; none for `All` and what is unknown.
    pub fn parse(text: &str) -> Option<StatKind> {
        match text {
            "Counters" => Some(StatKind::Counters),
            "Gauges" => Some(StatKind::Gauges),
            "Histograms" => Some(StatKind::Histograms),
            "TextReadouts" => Some(StatKind::TextReadouts),
            _ => None,
        }
    }
}

/// What a metric says now.
enum Reading<'a> {
    Counter(u64),
    /// The value, and whether the gauge counts as used.
    Gauge(u64, bool),
    Text(String),
    Histogram(&'a Histogram),
}

/// What follows a metric's name: the counters that a table of response codes stands for.
#[derive(Clone, Copy)]
enum Suffix {
    None,
    Code(u16),
    Class(u8),
    Completed,
}

impl Reading<'_> {
    fn kind(&self) -> StatKind {
        match self {
            Reading::Counter(_) => StatKind::Counters,
            Reading::Gauge(..) => StatKind::Gauges,
            Reading::Text(_) => StatKind::TextReadouts,
            Reading::Histogram(_) => StatKind::Histograms,
        }
    }

    fn is_used(&self) -> bool {
        match self {
            Reading::Counter(value) => *value > 0,
            Reading::Gauge(_, used) => *used,
            Reading::Text(text) => !text.is_empty(),
            Reading::Histogram(histogram) => histogram.count() > 0,
        }
    }
}

impl StatsQuery {
    fn wants(&self, name: &str, reading: &Reading<'_>) -> bool {
        self.kind.is_none_or(|kind| kind == reading.kind())
            && (!self.used_only || reading.is_used())
            && self.filter.as_ref().is_none_or(|filter| filter.is_match(name))
    }
}

/// The groups in order of their prefixes, which brings the names almost into order.
fn sorted(groups: &[Arc<dyn StatGroup>]) -> Vec<&dyn StatGroup> {
    let mut sorted: Vec<&dyn StatGroup> = groups.iter().map(|group| &**group).collect();
    sorted.sort_by_key(|group| group.prefix());
    sorted
}

/// A group's prefix as it is printed: a colon would end a name in many readers.
fn printed_prefix(group: &dyn StatGroup) -> String {
    group.prefix().replace(':', "_")
}

/// Calls `visit` with the full name and the reading of every metric that is wanted. `name` is the reused buffer.
fn visit_group<'a>(
    group: &'a dyn StatGroup,
    prefix: &str,
    query: &StatsQuery,
    name: &mut String,
    visit: &mut dyn FnMut(&str, &'static str, Suffix, Reading<'a>),
) {
    readings(group, &mut |field, suffix, reading| {
        name.clear();
        name.push_str(prefix);
        name.push_str(field);
        suffix.write(name);
        if query.wants(name, &reading) {
            visit(name, field, suffix, reading);
        }
    });
}

impl Suffix {
    fn write(self, name: &mut String) {
        match self {
            Suffix::None => {}
            Suffix::Code(code) => name.push_str(&format!("_{code}")),
            Suffix::Class(class) => name.push_str(&format!("_{class}xx")),
            Suffix::Completed => name.push_str("_completed"),
        }
    }
}

fn readings<'a>(
    group: &'a dyn StatGroup,
    visit: &mut dyn FnMut(&'static str, Suffix, Reading<'a>),
) {
    group.visit(&mut |field, metric| match metric {
        Metric::Counter(counter) => visit(field, Suffix::None, Reading::Counter(counter.get())),
        Metric::Gauge(gauge) => {
            visit(field, Suffix::None, Reading::Gauge(gauge.get(), gauge.is_used()));
        }
        Metric::Histogram(histogram) => visit(field, Suffix::None, Reading::Histogram(histogram)),
        Metric::Text(text) => visit(field, Suffix::None, Reading::Text(text.lock().clone())),
        Metric::Codes(codes) => {
            expand(field, codes, &mut |suffix, count| {
                visit(field, suffix, Reading::Counter(count));
            });
        }
    });
}

/// The counters of a response code table. Those of the downstream are always there, those of an upstream once an answer
/// was counted, as in Envoy.
fn expand(field: &str, codes: &ResponseCodes, visit: &mut dyn FnMut(Suffix, u64)) {
    let always = field.starts_with("downstream");
    for (code, count) in codes.codes() {
        visit(Suffix::Code(code), count);
    }
    for (class, counter) in (1..).zip(codes.classes()) {
        if always || counter.get() > 0 {
            visit(Suffix::Class(class), counter.get());
        }
    }
    if always || codes.completed() > 0 {
        visit(Suffix::Completed, codes.completed());
    }
}

/// Every metric that is wanted, in order of its name. The names share one allocation.
struct Table<'a> {
    names: String,
    rows: Vec<(std::ops::Range<usize>, Reading<'a>)>,
}

impl<'a> Table<'a> {
    fn collect(groups: &'a [Arc<dyn StatGroup>], query: &StatsQuery) -> Table<'a> {
        let mut names = String::new();
        let mut rows = Vec::new();
        let mut buffer = String::new();
        for group in sorted(groups) {
            let prefix = printed_prefix(group);
            visit_group(group, &prefix, query, &mut buffer, &mut |name, _, _, reading| {
                let start = names.len();
                names.push_str(name);
                rows.push((start..names.len(), reading));
            });
        }
        rows.sort_by(|(a, _), (b, _)| names[a.clone()].cmp(&names[b.clone()]));
        Table { names, rows }
    }

    fn rows(&self) -> impl Iterator<Item = (&str, &Reading<'a>)> {
        self.rows.iter().map(|(range, reading)| (&self.names[range.clone()], reading))
    }

    fn histograms(&self) -> impl Iterator<Item = (&str, &'a Histogram)> {
        self.rows().filter_map(|(name, reading)| match reading {
            Reading::Histogram(histogram) => Some((name, *histogram)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
