//! Random route tables, and requests that come near them.

use fastrand::Rng;
use serde_json::{Value, json};

use super::with_steps;
use crate::fuzz::input::{one, some};

const REQUESTS: usize = 300;
/// Requests on one connection.
const ON_ONE: usize = 50;
const WORDS: &[&str] = &["a", "b", "ab", "A", "admin", "x.y", "1", ""];
const HOSTS: &[&str] =
    &["a.com", "b.com", "www.a.com", "x.b.com", "a.org", "A.com", "a.com:80", "com"];
const DOMAINS: &[&str] =
    &["a.com", "*.a.com", "a.*", "*.com", "www.*", "b.com", "*", "*-x.com", "a.com:80"];
const NAMES: &[&str] = &["x-a", "x-b", "x-c"];
const VALUES: &[&str] = &["", "a", "ab", "b", "5", "17", "-3", "a,b", "A"];

/// A table of virtual hosts whose routes answer with their own names.
pub(super) fn case(rng: &mut Rng) -> Value {
    let mut domains: Vec<&str> = DOMAINS.to_vec();
    rng.shuffle(&mut domains);
    let mut hosts = Vec::new();
    for host in 0..rng.usize(1..5) {
        let of_host: Vec<&str> = domains.drain(..rng.usize(1..3).min(domains.len())).collect();
        let routes: Vec<Value> =
            (0..rng.usize(1..9)).map(|route| self::route(rng, format!("{host}.{route}"))).collect();
        if !of_host.is_empty() {
            hosts.push(json!({"name": format!("v{host}"), "domains": of_host, "routes": routes}));
        }
    }
    let steps = (0..REQUESTS).map(|at| json!({"request": request(rng, at)})).collect();
    with_steps(json!({"virtual_hosts": hosts}), steps)
}

fn route(rng: &mut Rng, name: String) -> Value {
    let path = path(rng);
    let regex =
        *one(rng, &["/a.*", "/(a|b)/?.*", "/[ab]+", "/.*/b", "/ab?", "/a/.{1}", "(?i)/A.*"]);
    let mut matches = match rng.u8(..6) {
        0 | 1 => json!({"prefix": path}),
        2 | 3 => json!({"path": path}),
        4 => json!({"safe_regex": {"regex": regex}}),
        _ => json!({"path_separated_prefix": format!("/{}", one(rng, &["a", "b", "ab", "a/b"]))}),
    };
    if rng.u8(..4) == 0 && matches.get("safe_regex").is_none() {
        matches["case_sensitive"] = json!(false);
    }
    if rng.bool() {
        matches["headers"] = json!(some(rng, 2, header));
    }
    if rng.u8(..3) == 0 {
        matches["query_parameters"] = json!(some(rng, 2, query));
    }
    json!({"match": matches, "direct_response": {"status": 200, "body": {"inline_string": name}}})
}

fn header(rng: &mut Rng) -> Value {
    let value = string(rng);
    let matcher = match rng.u8(..5) {
        0 => json!({"present_match": rng.bool()}),
        1 => json!({"range_match": {"start": rng.i64(-5..6), "end": rng.i64(6..20)}}),
        _ => json!({"string_match": value}),
    };
    let mut header = json!({"name": one(rng, NAMES), "invert_match": rng.bool()});
    header["treat_missing_header_as_empty"] = json!(rng.u8(..4) == 0);
    if let (Value::Object(header), Value::Object(matcher)) = (&mut header, matcher) {
        header.extend(matcher);
    }
    header
}

fn query(rng: &mut Rng) -> Value {
    let name = *one(rng, &["q", "r", "Q"]);
    match rng.u8(..3) {
        0 => json!({"name": name, "present_match": rng.bool()}),
        _ => json!({"name": name, "string_match": string(rng)}),
    }
}

/// A `StringMatcher`.
pub(super) fn string(rng: &mut Rng) -> Value {
    let value = *one(rng, &["a", "b", "ab", "5", "A"]);
    let regex = *one(rng, &["a+", "[ab]*", "a|b", "\\d+", ".*"]);
    match rng.u8(..6) {
        0 => json!({"exact": value}),
        1 => json!({"prefix": value, "ignore_case": rng.bool()}),
        2 => json!({"suffix": value}),
        3 => json!({"contains": value}),
        4 => json!({"safe_regex": {"regex": regex}}),
        _ => json!({"exact": value, "ignore_case": true}),
    }
}

/// A path of a few segments.
pub(super) fn path(rng: &mut Rng) -> String {
    let segments: Vec<&str> = (0..rng.usize(1..4)).map(|_| *one(rng, WORDS)).collect();
    format!("/{}", segments.join("/"))
}

/// A request that many matchers of the table say something about.
pub(super) fn request(rng: &mut Rng, at: usize) -> Value {
    let mut target = path(rng);
    if rng.bool() {
        let pairs = ["q=a", "q=", "q", "r=ab", "Q=b", "q=5&q=a", "r=%61"];
        target.push_str(&format!("?{}&{}", one(rng, &pairs), one(rng, &pairs)));
    }
    let headers: Vec<Value> =
        some(rng, 3, |rng| json!([one(rng, NAMES), one(rng, VALUES)])).into_iter().collect();
    json!({
        "method": one(rng, &["GET", "POST", "PUT"]),
        "path": target,
        "host": one(rng, HOSTS),
        "headers": headers,
        "connection": format!("c{}", at / ON_ONE),
    })
}
