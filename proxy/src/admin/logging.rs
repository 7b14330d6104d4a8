//! `/logging`: the levels of log lines, shown and changed.

use std::fmt::Write;

use super::Context;
use super::query::Query;
use super::reply::{Answer, Reply};
use crate::telemetry::log_level::{Level, LogLevels, UnknownLogger};

const USAGE: &str = "usage: /logging?<name>=<level> (change single level)\n\
                     usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
                     usage: /logging?level=<level> (change all levels)\n\
                     levels: trace debug info warning error critical off\n";

pub(super) fn logging(context: &Context, query: &Query) -> Answer {
    let levels = &context.log_levels;
    match change(levels, query) {
        Ok(()) => Reply::text(list(levels)).into(),
        Err(error) => {
            Reply::bad_request(format!("error: {error}\n\n{USAGE}{}", list(levels))).into()
        }
    }
}

/// Makes the one change that the query asks for; none without a parameter.
fn change(levels: &LogLevels, query: &Query) -> Result<(), String> {
    let mut parameters = query.iter();
    let Some((name, value)) = parameters.next() else { return Ok(()) };
    if parameters.next().is_some() {
        return Err("invalid parameters: give one".into());
    }
    match name {
        "level" => levels.set_all(level(value)?),
        "paths" => {
            let pairs: Result<Vec<_>, String> = value
                .split(',')
                .map(|pair| {
                    let (name, value) = pair.split_once(':').ok_or("empty logger level")?;
                    Ok((name, level(value)?))
                })
                .collect();
            levels.set(&pairs?).map_err(|UnknownLogger| "unknown logger name".to_string())?;
        }
        name => levels
            .set(&[(name, level(value)?)])
            .map_err(|UnknownLogger| "unknown logger name".to_string())?,
    }
    Ok(())
}

fn level(text: &str) -> Result<Level, String> {
    Level::parse(text).ok_or_else(|| "unknown logger level".to_string())
}

fn list(levels: &LogLevels) -> String {
    let mut out = "active loggers:\n".to_string();
    for (name, level) in levels.list() {
        writeln!(out, "  {name}: {}", level.as_str()).expect("a string takes every character");
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(query: &str) -> (Result<(), String>, String) {
        // The layer must live as long as its levels are changed.
        let (levels, _layer) = LogLevels::new(Level::Info);
        (change(&levels, &Query::parse(Some(query))), list(&levels))
    }

    #[test]
    fn one_several_or_all_levels_change() {
        let (result, list) = changed("admin=debug");
        assert_eq!(result, Ok(()));
        assert!(list.starts_with("active loggers:\n  admin: debug\n"), "{list}");
        assert!(list.contains("  router: info\n"), "{list}");
        let (_, list) = changed("paths=admin:off,router:warn");
        assert!(list.contains("  admin: off\n") && list.contains("  router: warning\n"), "{list}");
        let (_, list) = changed("level=trace");
        assert!(!list.contains("info"), "{list}");
    }

    #[test]
    fn a_wrong_change_changes_nothing() {
        for query in [
            "admin=loud",
            "nobody=info",
            "paths=admin:debug,nobody:debug",
            "paths=admin",
            "a=b&c=d",
        ] {
            let (result, list) = changed(query);
            assert!(result.is_err() && !list.contains("debug"), "{query}: {list}");
        }
    }
}
