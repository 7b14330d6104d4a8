//! The table of endpoints, and who answers a request.

use std::fmt::Write;

use http::{Method, StatusCode, Uri};

use super::query::Query;
use super::reply::{Answer, Reply};
use super::{
    Context, certs, clusters, config_dump, info, init_dump, listeners, logging, process, runtime,
    stats,
};

/// An endpoint.
struct Endpoint {
    path: &'static str,
    /// It changes something, so it must be asked with POST.
    mutates: bool,
    /// It shows statistics, which are brought up to date before.
    fresh: bool,
    help: &'static str,
    /// Parameters with what each does.
    parameters: &'static [(&'static str, &'static str)],
    answer: fn(&Context, &Query) -> Answer,
}

const FILTER: (&str, &str) = ("filter", "Regular expression (Google re2) for filtering stats");
const USED_ONLY: (&str, &str) =
    ("usedonly", "Only include stats that have been written by system since restart");

/// Every endpoint, in order of its path.
const ENDPOINTS: &[Endpoint] = &[
    look("/", "Admin home page", &[], home),
    look("/certs", "print certs on machine", &[], certs::certs),
    look(
        "/clusters",
        "upstream cluster status",
        &[
            ("filter", "Regular expression (Google re2) for filtering clusters by name"),
            ("format", "File format to use; One of (text, json)"),
        ],
        clusters::clusters,
    ),
    look(
        "/config_dump",
        "dump current Envoy configs",
        &[
            ("resource", "The resource to dump"),
            ("mask", "Fields to keep, of the whole dump or of each element of the resource"),
            ("name_regex", "Dump only configurations whose whole names match"),
            ("include_eds", "Dump endpoints too"),
        ],
        config_dump::config_dump,
    ),
    act(
        "/drain_listeners",
        "drain listeners",
        &[
            ("graceful", "go on accepting for the drain time while responses close connections"),
            ("skip_exit", "drain the connections but never stop the listeners"),
            ("inboundonly", "drain listeners with traffic_direction INBOUND only"),
        ],
        listeners::drain,
    ),
    act("/healthcheck/fail", "cause the server to fail health checks", &[], process::fail),
    act("/healthcheck/ok", "cause the server to pass health checks", &[], process::pass),
    look("/help", "print out list of admin commands", &[], help),
    look(
        "/hot_restart_version",
        "print the hot restart compatibility version",
        &[],
        info::hot_restart_version,
    ),
    look("/init_dump", "print what is waited for", &[], init_dump::init_dump),
    look(
        "/listeners",
        "print listener info",
        &[("format", "File format to use; One of (text, json)")],
        listeners::listeners,
    ),
    act(
        "/logging",
        "query/change logging levels",
        &[
            ("paths", "Change several levels: <logger>:<level>,<logger>:<level>"),
            ("level", "Change the level of all loggers"),
            ("<logger>", "Change the level of one logger"),
        ],
        logging::logging,
    ),
    look("/memory", "print current allocation/heap usage", &[], info::memory),
    act("/quitquitquit", "exit the server", &[], process::quit),
    look(
        "/ready",
        "print server state, return 200 if LIVE, otherwise return 503",
        &[],
        info::ready,
    ),
    act("/reopen_logs", "reopen access logs", &[], process::reopen_logs),
    act("/reset_counters", "reset all counters to zero", &[], stats::reset_counters),
    look("/runtime", "print runtime values", &[], runtime::runtime),
    look("/server_info", "print server version/status information", &[], info::server_info),
    measure(
        "/stats",
        "print server stats",
        &[
            USED_ONLY,
            FILTER,
            ("format", "Format to use; One of (text, json, prometheus)"),
            (
                "type",
                "Stat types to include.; One of (All, Counters, Histograms, Gauges, TextReadouts)",
            ),
            ("histogram_buckets", "Histogram bucket display mode; only the default, summary"),
            ("text_readouts", "Render text_readouts in prometheus format too"),
        ],
        stats::stats,
    ),
    measure(
        "/stats/prometheus",
        "print server stats in prometheus format",
        &[
            USED_ONLY,
            ("text_readouts", "Render text_readouts as new gauges with value 0"),
            FILTER,
            ("histogram_buckets", "Histogram bucket display mode; only the default, cumulative"),
        ],
        stats::prometheus,
    ),
];

/// An endpoint that only shows something.
const fn look(
    path: &'static str,
    help: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    answer: fn(&Context, &Query) -> Answer,
) -> Endpoint {
    Endpoint { path, mutates: false, fresh: false, help, parameters, answer }
}

/// An endpoint that shows statistics.
const fn measure(
    path: &'static str,
    help: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    answer: fn(&Context, &Query) -> Answer,
) -> Endpoint {
    Endpoint { fresh: true, ..look(path, help, parameters, answer) }
}

/// An endpoint that changes something.
const fn act(
    path: &'static str,
    help: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    answer: fn(&Context, &Query) -> Answer,
) -> Endpoint {
    Endpoint { path, mutates: true, fresh: false, help, parameters, answer }
}

/// Answers a request.
pub(super) async fn answer(context: &Context, method: &Method, uri: &Uri) -> Answer {
    let Some(endpoint) = find(uri.path()) else {
        let body = format!("invalid path. {}", commands());
        return Reply::error(StatusCode::NOT_FOUND, body).into();
    };
    if endpoint.mutates && method != Method::POST {
        let body = format!("Method {method} not allowed, POST required.");
        return Reply::error(StatusCode::METHOD_NOT_ALLOWED, body).into();
    }
    if endpoint.fresh {
        context.refresh_stats().await;
    }
    (endpoint.answer)(context, &Query::parse(uri.query()))
}

fn find(path: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| endpoint.path == path)
}

fn help(_context: &Context, _query: &Query) -> Answer {
    Reply::text(commands()).into()
}

fn commands() -> String {
    let mut out = "admin commands are:\n".to_string();
    for Endpoint { path, mutates, help, parameters, .. } in ENDPOINTS {
        let post = if *mutates { " (POST)" } else { "" };
        writeln!(out, "  {path}{post}: {help}").expect("a string takes every character");
        for (name, help) in *parameters {
            writeln!(out, "      {name}: {help}").expect("a string takes every character");
        }
    }
    out
}

/// A page with a link to everything that shows something and a button for everything else.
fn home(_context: &Context, _query: &Query) -> Answer {
    let mut rows = String::new();
    for Endpoint { path, mutates, help, .. } in ENDPOINTS {
        // Relative, so that the page also works behind a proxy that puts a path in front.
        let path = &path[1..];
        let command = match mutates {
            false => format!("<a href=\"{path}\">{path}</a>"),
            true => {
                format!("<form method=\"post\" action=\"{path}\"><button>{path}</button></form>")
            }
        };
        writeln!(rows, "<tr><td>{command}</td><td>{help}</td></tr>")
            .expect("a string takes every character");
    }
    Reply::html(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>Pillion Admin</title></head>\n<body>\n<table>\n\
         <tr><th>Command</th><th>Description</th></tr>\n{rows}</table>\n</body>\n</html>\n"
    ))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_found_by_path() {
        assert!(ENDPOINTS.is_sorted_by_key(|endpoint| endpoint.path));
        assert!(find("/drain_listeners").is_some_and(|endpoint| endpoint.mutates));
        assert!(find("/ready").is_some_and(|endpoint| !endpoint.mutates));
        assert!(find("/ready/").is_none());
    }

    #[test]
    fn help_names_methods_and_parameters() {
        let help = commands();
        assert!(help.starts_with("admin commands are:\n  /: Admin home page\n"), "{help}");
        assert!(help.contains("\n  /quitquitquit (POST): exit the server\n"), "{help}");
        assert!(help.contains("\n      usedonly: "), "{help}");
    }
}
