use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::config::matcher::{ConnectionView, MatchInput, PseudoHeaders, RequestView};
use crate::config::testing::message;
use crate::config::{At, ConfigError};
use crate::io::Address;
use crate::telemetry::stream_info::Metadata;

fn condition(expression: &str) -> Result<Condition, ConfigError> {
    Condition::from_proto(&message(expression), &At::resource("listener", "l"))
}

/// Whether the expression holds for a request.
fn holds(expression: &str) -> bool {
    let address = Address::Ip("10.0.0.1:80".parse::<SocketAddr>().unwrap());
    let header = |name: &'static str, value: &'static str| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let headers = HeaderMap::from_iter([header("x-a", "1"), header("x-b", "2")]);
    let fields = serde_json::json!({"k": {"list": ["a", 3]}, "open": true});
    let metadata = Metadata::from_iter([("ns".to_owned(), fields)]);
    let pseudo =
        PseudoHeaders { method: "GET", scheme: "http", authority: "a.example", path: "/p?q=1" };
    let input = MatchInput {
        connection: ConnectionView {
            id: 1,
            local: &address,
            remote: &address,
            direct_remote: &address,
            server_name: "",
            transport_protocol: "tls",
            application_protocols: &[],
            filter_state: None,
            tls: None,
        },
        remote: &address,
        request: Some(RequestView { pseudo, headers: &headers, protocol: "HTTP/1.1" }),
        response: None,
        filter_state: None,
        metadata: Some(&metadata),
        route_metadata: None,
    };
    condition(expression).unwrap_or_else(|error| panic!("{error}: {expression}")).holds(&input)
}

fn ident(name: &str) -> String {
    format!("{{ident_expr: {{name: {name}}}}}")
}

fn attribute(root: &str, field: &str) -> String {
    format!("{{select_expr: {{operand: {}, field: {field}}}}}", ident(root))
}

fn call(function: &str, arguments: &[&str]) -> String {
    format!("{{call_expr: {{function: '{function}', args: [{}]}}}}", arguments.join(", "))
}

fn text(value: &str) -> String {
    format!("{{const_expr: {{string_value: '{value}'}}}}")
}

fn int(value: i64) -> String {
    format!("{{const_expr: {{int64_value: {value}}}}}")
}

fn truth(value: bool) -> String {
    format!("{{const_expr: {{bool_value: {value}}}}}")
}

#[test]
fn attributes_are_compared_and_searched() {
    let path = attribute("request", "path");
    let header = |name: &str| call("_[_]", &[&attribute("request", "headers"), &text(name)]);
    let of_metadata = |field: &str| {
        let namespace = call("_[_]", &[&ident("metadata"), &text("ns")]);
        format!("{{select_expr: {{operand: {namespace}, field: {field}}}}}")
    };
    let list = format!("{{select_expr: {{operand: {}, field: list}}}}", of_metadata("k"));
    for (expression, expected) in [
        (call("_==_", &[&path, &text("/p?q=1")]), true),
        (call("_==_", &[&attribute("request", "url_path"), &text("/p")]), true),
        (call("_==_", &[&attribute("request", "query"), &text("q=1")]), true),
        (call("_!=_", &[&attribute("request", "method"), &text("GET")]), false),
        (call("startsWith", &[&path, &text("/p")]), true),
        (call("endsWith", &[&path, &text("/p")]), false),
        (call("contains", &[&path, &text("q=")]), true),
        (call("matches", &[&path, &text("q=[0-9]")]), true),
        (call("matches", &[&path, &text("^q")]), false),
        (call("_==_", &[&header("x-a"), &text("1")]), true),
        (call("_==_", &[&header("x-none"), &text("1")]), false),
        (call("_!=_", &[&header("x-none"), &text("1")]), false),
        (call("@in", &[&text("x-b"), &attribute("request", "headers")]), true),
        (
            call("@in", &[&text("b"), &format!("{{list_expr: {{elements: [{}]}}}}", text("b"))]),
            true,
        ),
        (call("_==_", &[&attribute("destination", "port"), &int(80)]), true),
        (call("_<_", &[&attribute("source", "port"), &int(80)]), false),
        (call("_>=_", &[&call("_+_", &[&int(1), &int(2)]), &int(3)]), true),
        (call("_==_", &[&call("size", &[&path]), &int(6)]), true),
        (attribute("connection", "mtls"), false),
        (of_metadata("open"), true),
        (call("_==_", &[&call("_[_]", &[&list, &int(1)]), &int(3)]), true),
        (call("_==_", &[&call("_[_]", &[&list, &int(9)]), &int(3)]), false),
    ] {
        assert_eq!(holds(&expression), expected, "{expression}");
    }
}

#[test]
fn one_side_decides_although_the_other_has_no_value() {
    let missing = call("_==_", &[&attribute("connection", "tls_version"), &text("x")]);
    let (yes, no) = (truth(true), truth(false));
    for (expression, expected) in [
        (call("_||_", &[&missing, &yes]), true),
        (call("_||_", &[&missing, &no]), false),
        (call("_&&_", &[&yes, &missing]), false),
        (call("!_", &[&call("_&&_", &[&missing, &no])]), true),
        (call("!_", &[&missing]), false),
        (call("_?_:_", &[&yes, &yes, &missing]), true),
        (call("_?_:_", &[&missing, &yes, &yes]), false),
        (text("true"), false),
        (call("_/_", &[&int(1), &int(0)]), false),
    ] {
        assert_eq!(holds(&expression), expected, "{expression}");
    }
}

#[test]
fn a_header_can_be_asked_for() {
    let has = |field: &str| {
        let headers = attribute("request", "headers");
        format!("{{select_expr: {{operand: {headers}, field: {field}, test_only: true}}}}")
    };
    assert!(holds(&has("x-a")) && !holds(&has("x-none")));
}

#[test]
fn what_would_only_fail_later_is_refused() {
    for (expression, path) in [
        ("{}".to_owned(), ""),
        (ident("nothing"), ".ident_expr"),
        (attribute("request", "time"), ".select_expr"),
        (attribute("response", "code"), ".select_expr"),
        (call("nothing", &[]), ".call_expr.function"),
        (call("_&&_", &[&truth(true)]), ".call_expr.function"),
        (call("startsWith", &[&text("a")]), ".call_expr.function"),
        (call("matches", &[&text("a"), &text("(")]), ".call_expr"),
        ("{comprehension_expr: {}}".to_owned(), ".comprehension_expr"),
        ("{struct_expr: {}}".to_owned(), ".struct_expr"),
    ] {
        let error = condition(&expression).unwrap_err();
        let path = path.trim_start_matches('.');
        let separator = if path.is_empty() { "" } else { ": " };
        assert_eq!(error.path, format!("listener \"l\"{separator}{path}"), "{error}");
    }
}
