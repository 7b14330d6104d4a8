//! The command operators: their names, their arguments and where their values come from.

use std::time::{Duration, SystemTime};

use super::facts::{FACTS, HEAD_FACTS};
use super::grpc_status::GrpcStatusStyle;
use super::heads::HeaderQuery;
use super::metadata::MetadataQuery;
use super::parse::Command;
use super::target::{self, PathQuery, ServerNameQuery};
use super::time::TimeFormat;
use super::value::Value;
use super::{FormatContext, MISSING};
use crate::telemetry::stream_info::StreamInfo;

/// Where a fact without arguments comes from.
pub(super) type Fact = for<'a> fn(FormatContext<'a>) -> Value<'a>;
/// Where a point in time comes from.
type TimeSource = for<'a> fn(FormatContext<'a>) -> Option<SystemTime>;
/// A moment of the stream, from its start.
type Moment = fn(&StreamInfo) -> Option<Duration>;

/// An operator, with its argument understood.
#[derive(Clone, Debug)]
pub(super) enum Operator {
    /// A text that is known when the format is parsed.
    Constant(String),
    /// A fact of the stream or connection.
    Fact(Fact),
    /// A fact that is made from headers.
    HeadFact(Fact),
    Request(HeaderQuery),
    Response(HeaderQuery),
    Trailer(HeaderQuery),
    Path(PathQuery),
    QueryParameter(Box<str>),
    GrpcStatus(GrpcStatusStyle),
    Metadata(MetadataQuery),
    /// `%FILTER_STATE(KEY:PLAIN)%`, or typed, which puts the text into quotes.
    FilterState(Box<str>, bool),
    ServerName(ServerNameQuery),
    Time(TimeSource, TimeFormat),
    /// `%COMMON_DURATION(START:END:PRECISION)%`, with the nanoseconds of a unit.
    Duration(Moment, Moment, u128),
    /// A fact that no part of this proxy produces, with the operator's name.
    Absent(&'static str),
}

/// Operators whose facts do not exist here (yet) and that take no argument: they print as missing.
const ABSENT: &[&str] = &[
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "DOWNSTREAM_DETECTED_CLOSE_TYPE",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_HEADER_BYTES_SENT",
    "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "DOWNSTREAM_LOCAL_OTHERNAME_SAN",
    "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_OTHERNAME_SAN",
    "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    "DOWNSTREAM_WIRE_BYTES_SENT",
    "ROUNDTRIP_DURATION",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "UPSTREAM_DETECTED_CLOSE_TYPE",
    "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT",
    "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_HOST_NAMES_ATTEMPTED",
    "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_LOCAL_CLOSE_REASON",
    "UPSTREAM_SERVER_NAME",
    "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_WIRE_BYTES_SENT",
    "VIRTUAL_CLUSTER_NAME",
];

/// The same for operators that need an argument.
const ABSENT_WITH_ARGUMENT: &[&str] = &[
    "METADATA",
    "CLUSTER_METADATA",
    "UPSTREAM_METADATA",
    "UPSTREAM_HOST_METADATA",
    "UPSTREAM_FILTER_STATE",
];

/// The moments that `%COMMON_DURATION%` names.
const MOMENTS: &[(&str, Moment)] = &[
    ("DS_RX_BEG", |_| Some(Duration::ZERO)),
    ("DS_RX_END", |info| info.request_complete),
    ("US_CX_BEG", |info| info.upstream.connect_start),
    ("US_CX_END", |info| info.upstream.connected),
    ("US_HS_END", |info| info.upstream.handshake_complete),
    ("US_TX_BEG", |info| info.upstream.first_tx),
    ("US_TX_END", |info| info.upstream.last_tx),
    ("US_RX_BEG", |info| info.upstream.first_rx),
    ("US_RX_END", |info| info.upstream.last_rx),
    ("DS_TX_BEG", |info| info.response_started),
    ("DS_TX_END", |info| info.duration),
];

impl Operator {
    /// Finds the operator that a command names.
    ///
    /// # Errors
    /// What is wrong with the command, for a human.
    pub(super) fn resolve(command: &Command<'_>) -> Result<Operator, String> {
        let name = command.name;
        let operator = match Self::with_argument(name, command.argument) {
            Some(operator) => operator.map_err(|error| format!("%{name}%: {error}"))?,
            None => {
                let operator = Self::without_argument(name)
                    .ok_or_else(|| format!("%{name}% is an unknown command operator"))?;
                if command.argument.is_some() {
                    return Err(format!("%{name}% takes no argument"));
                }
                operator
            }
        };
        if command.limit.is_some() && !operator.has_length(name) {
            return Err(format!("%{name}% takes no length"));
        }
        Ok(operator)
    }

    fn without_argument(name: &str) -> Option<Operator> {
        let find = |facts: &[(&str, Fact)]| Some(facts.iter().find(|fact| fact.0 == name)?.1);
        let absent = || absent(ABSENT, name);
        let made = || match name {
            "HOSTNAME" => Some(Operator::Constant(hostname())),
            _ => None,
        };
        find(FACTS)
            .map(Operator::Fact)
            .or_else(|| find(HEAD_FACTS).map(Operator::HeadFact))
            .or_else(made)
            .or_else(absent)
    }

    /// The operators that need or may have an argument; none if `name` is not one of them.
    fn with_argument(name: &str, argument: Option<&str>) -> Option<Result<Operator, String>> {
        let optional = argument.unwrap_or("");
        let needed = || match argument {
            None | Some("") => Err("needs an argument in parentheses".to_string()),
            Some(argument) => Ok(argument),
        };
        let header =
            |wrap: fn(HeaderQuery) -> Operator| needed().and_then(HeaderQuery::parse).map(wrap);
        let time = |source: TimeSource| {
            TimeFormat::parse(argument).map(|format| Operator::Time(source, format))
        };
        Some(match name {
            "REQ" => header(Operator::Request),
            "RESP" => header(Operator::Response),
            "TRAILER" => header(Operator::Trailer),
            "PATH" => PathQuery::parse(optional).map(Operator::Path),
            "QUERY_PARAM" => needed().map(|name| Operator::QueryParameter(name.into())),
            "GRPC_STATUS" => GrpcStatusStyle::parse(optional).map(Operator::GrpcStatus),
            "REQUESTED_SERVER_NAME" => ServerNameQuery::parse(optional).map(Operator::ServerName),
            "ENVIRONMENT" => needed().map(|name| {
                Operator::Constant(std::env::var(name).unwrap_or_else(|_| MISSING.to_string()))
            }),
            "DYNAMIC_METADATA" => {
                needed().map(|argument| Operator::Metadata(MetadataQuery::parse(argument)))
            }
            "FILTER_STATE" => needed().and_then(filter_state),
            "COMMON_DURATION" => needed().and_then(common_duration),
            "START_TIME" => time(|context| Some(context.info.start_time)),
            "EMIT_TIME" => time(|_| Some(SystemTime::now())),
            "DOWNSTREAM_PEER_CERT_V_START" => time(|c| Some(c.downstream_peer()?.not_before)),
            "DOWNSTREAM_PEER_CERT_V_END" => time(|c| Some(c.downstream_peer()?.not_after)),
            "UPSTREAM_PEER_CERT_V_START" => time(|c| Some(c.upstream_peer()?.not_before)),
            "UPSTREAM_PEER_CERT_V_END" => time(|c| Some(c.upstream_peer()?.not_after)),
            "START_TIME_LOCAL" | "EMIT_TIME_LOCAL" => {
                Err("local time is not supported; use the operator without _LOCAL (UTC)"
                    .to_string())
            }
            _ => {
                let absent = absent(ABSENT_WITH_ARGUMENT, name)?;
                needed().map(|_| absent)
            }
        })
    }

    /// Whether `:LENGTH` may follow.
    fn has_length(&self, name: &str) -> bool {
        match self {
            Operator::Request(_)
            | Operator::Response(_)
            | Operator::Trailer(_)
            | Operator::Path(_)
            | Operator::Metadata(_)
            | Operator::FilterState(..)
            | Operator::QueryParameter(_) => true,
            Operator::Absent(name) => ABSENT_WITH_ARGUMENT.contains(name),
            _ => matches!(name, "ENVIRONMENT" | "LOCAL_REPLY_BODY"),
        }
    }

    /// Whether the operator reads headers or trailers.
    pub(super) fn needs_heads(&self) -> bool {
        match self {
            Operator::HeadFact(_)
            | Operator::Request(_)
            | Operator::Response(_)
            | Operator::Trailer(_)
            | Operator::Path(_)
            | Operator::QueryParameter(_)
            | Operator::GrpcStatus(_)
            | Operator::ServerName(_) => true,
            Operator::Constant(_)
            | Operator::Fact(_)
            | Operator::Time(..)
            | Operator::Duration(..)
            | Operator::Metadata(_)
            | Operator::FilterState(..)
            | Operator::Absent(_) => false,
        }
    }

    /// The operator's value for this stream.
    pub(super) fn value<'a>(&'a self, context: FormatContext<'a>) -> Value<'a> {
        match self {
            Operator::Constant(text) => Value::Text(text),
            Operator::Fact(fact) | Operator::HeadFact(fact) => fact(context),
            Operator::Request(query) => query.in_request(context),
            Operator::Response(query) => query.in_response(context),
            Operator::Trailer(query) => query.in_map(context.trailers),
            Operator::Path(query) => query.value(context),
            Operator::QueryParameter(name) => target::query_parameter(name, context),
            Operator::GrpcStatus(style) => style.value(context),
            Operator::Metadata(query) => query.value(context),
            Operator::FilterState(key, plain) => match context.info.filter_state(key) {
                None => Value::Missing,
                Some(text) if *plain => Value::text(Some(text)),
                Some(text) => Value::Made(serde_json::Value::from(text).to_string()),
            },
            Operator::ServerName(query) => query.value(context),
            Operator::Time(source, format) => {
                source(context).map_or(Value::Missing, |time| Value::Time(time, format))
            }
            Operator::Duration(from, to, unit) => match (from(context.info), to(context.info)) {
                (Some(from), Some(to)) => Value::number(
                    to.checked_sub(from).and_then(|d| u64::try_from(d.as_nanos() / unit).ok()),
                ),
                _ => Value::Missing,
            },
            Operator::Absent(_) => Value::Missing,
        }
    }
}

fn absent(names: &'static [&'static str], name: &str) -> Option<Operator> {
    names.iter().find(|absent| **absent == name).map(|absent| Operator::Absent(absent))
}

/// `KEY`, `KEY:TYPED` or `KEY:PLAIN`; a `FIELD` is one of an object, and here everything is text.
fn filter_state(argument: &str) -> Result<Operator, String> {
    let (key, style) = argument.split_once(':').unwrap_or((argument, "TYPED"));
    match style {
        "PLAIN" => Ok(Operator::FilterState(key.into(), true)),
        "TYPED" => Ok(Operator::FilterState(key.into(), false)),
        _ if style.starts_with("FIELD:") => Ok(Operator::Absent("FILTER_STATE")),
        _ => Err(format!("\"{style}\" is not PLAIN, TYPED or FIELD:NAME")),
    }
}

/// `START:END:PRECISION`; the precision is `ms` (the default), `us` or `ns`. Filters of Envoy's may define further points,
/// so that an unknown one is no mistake.
fn common_duration(argument: &str) -> Result<Operator, String> {
    let parts: Vec<&str> = argument.split(':').collect();
    let (from, to, precision) = match parts[..] {
        [from, to] => (from, to, "ms"),
        [from, to, precision] => (from, to, precision),
        _ => return Err(format!("\"{argument}\" is not START:END or START:END:PRECISION")),
    };
    let unit = match precision {
        "ms" => 1_000_000,
        "us" => 1_000,
        "ns" => 1,
        other => return Err(format!("\"{other}\" is no precision; use ms, us or ns")),
    };
    let moment = |name: &str| Some(MOMENTS.iter().find(|moment| moment.0 == name)?.1);
    Ok(match (moment(from), moment(to)) {
        (Some(from), Some(to)) => Operator::Duration(from, to, unit),
        _ => Operator::Absent("COMMON_DURATION"),
    })
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => MISSING.to_string(),
        name => name.to_string(),
    }
}
