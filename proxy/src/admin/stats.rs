//! `/stats`, `/stats/prometheus` and `/reset_counters`.

use std::sync::Arc;

use super::Context;
use super::query::Query;
use super::reply::{Answer, Reply};
use crate::telemetry::stats::render::{self, StatKind, StatsQuery};
use crate::telemetry::stats::{Metric, StatGroup};

const PROMETHEUS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How statistics are printed.
type Print = fn(&[Arc<dyn StatGroup>], &StatsQuery) -> Reply;

pub(super) fn stats(context: &Context, query: &Query) -> Answer {
    match query.get("format").unwrap_or("text") {
        "text" => print(context, query, "summary", text),
        "json" => print(context, query, "summary", json),
        "prometheus" => prometheus(context, query),
        _ => Reply::bad_request("usage: /stats?format=(text|json|prometheus)\n").into(),
    }
}

pub(super) fn prometheus(context: &Context, query: &Query) -> Answer {
    print(context, query, "cumulative", exposition)
}

/// Prints in one way; `buckets` is the only `histogram_buckets` that it knows.
fn print(context: &Context, query: &Query, buckets: &str, print: Print) -> Answer {
    let query = match stats_query(query, buckets) {
        Ok(query) => query,
        Err(reply) => return reply.into(),
    };
    let groups = context.store.groups();
    Answer::later(move || print(&groups, &query))
}

fn text(groups: &[Arc<dyn StatGroup>], query: &StatsQuery) -> Reply {
    Reply::text(render::text(groups, query))
}

fn json(groups: &[Arc<dyn StatGroup>], query: &StatsQuery) -> Reply {
    Reply::raw_json(render::json(groups, query))
}

fn exposition(groups: &[Arc<dyn StatGroup>], query: &StatsQuery) -> Reply {
    Reply { content_type: PROMETHEUS_TYPE, ..Reply::text(render::prometheus(groups, query)) }
}

fn stats_query(query: &Query, buckets: &str) -> Result<StatsQuery, Reply> {
    if query.has("invert_filter") {
        return Err(Reply::bad_request("invert_filter is not supported\n"));
    }
    if query.get("histogram_buckets").is_some_and(|wanted| !wanted.is_empty() && wanted != buckets)
    {
        return Err(Reply::bad_request(format!("only histogram_buckets={buckets} is supported\n")));
    }
    let kind = match query.get("type") {
        None | Some("All") => None,
        Some(name) => match StatKind::parse(name) {
            Some(kind) => Some(kind),
            None => return Err(Reply::bad_request("invalid &type= param")),
        },
    };
    Ok(StatsQuery {
        used_only: query.has("usedonly"),
        filter: query.regex("filter")?,
        kind,
        text_readouts: query.has("text_readouts"),
    })
}

pub(super) fn reset_counters(context: &Context, _query: &Query) -> Answer {
    for group in context.store.groups() {
        group.visit(&mut |_, metric| {
            if let Metric::Counter(counter) = metric {
                counter.reset();
            }
        });
    }
    Reply::ok().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str) -> Result<StatsQuery, Reply> {
        stats_query(&Query::parse(Some(query)), "summary")
    }

    #[test]
    fn parameters_choose_the_statistics() {
        let query = parsed("usedonly&filter=^a&type=Gauges&text_readouts").unwrap();
        assert!(query.used_only && query.text_readouts);
        assert!(query.filter.unwrap().is_match("ab"));
        assert_eq!(query.kind, Some(StatKind::Gauges));
        assert!(parsed("type=All&histogram_buckets=summary").unwrap().kind.is_none());
    }

    #[test]
    fn wrong_parameters_are_refused() {
        for query in ["type=bogus", "filter=[", "histogram_buckets=detailed", "invert_filter"] {
            assert_eq!(parsed(query).unwrap_err().status, 400, "{query}");
        }
    }
}
