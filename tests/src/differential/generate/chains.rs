//! Random sets of filter chains, and connections that come near them.

use fastrand::Rng;
use serde_json::{Value, json};

use super::with_steps;
use crate::fuzz::input::{one, some};

const CONNECTIONS: usize = 80;
const DIRECT_RESPONSE: &str =
    "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config";
const TLS_INSPECTOR: &str =
    "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
const NAMES: &[&str] = &["a.com", "b.a.com", "c.b.a.com", "b.com", "A.com"];
const SOURCES: &[&str] = &["127.0.0.1", "127.0.0.2", "127.0.1.1", "127.1.0.1"];

/// Chains that answer with their own names.
pub(super) fn case(rng: &mut Rng) -> Value {
    let chains: Vec<Value> = (0..rng.usize(1..8))
        .map(|chain| {
            let mut chain = answering(&format!("{chain:02}"));
            chain["filter_chain_match"] = matches(rng);
            chain
        })
        .collect();
    let mut listener = json!({
        "filter_chains": chains,
        "listener_filters": [{"name": "tls", "typed_config": {"@type": TLS_INSPECTOR}}],
    });
    if rng.bool() {
        listener["default_filter_chain"] = answering("no");
    }
    let steps = (0..CONNECTIONS).map(|_| json!({"raw": connection(rng)})).collect();
    with_steps(json!({"listener": listener}), steps)
}

fn answering(name: &str) -> Value {
    let config = json!({"@type": DIRECT_RESPONSE, "response": {"inline_string": name}});
    json!({"filters": [{"name": "direct", "typed_config": config}]})
}

fn matches(rng: &mut Rng) -> Value {
    let names = &["a.com", "*.a.com", "*.b.a.com", "b.com", "*.com"];
    let range = |rng: &mut Rng| {
        let length = *one(rng, &[8, 16, 24, 32]);
        json!({"address_prefix": one(rng, SOURCES), "prefix_len": length})
    };
    let mut matches = json!({});
    if rng.bool() {
        matches["server_names"] = json!(some(rng, 2, |rng| json!(one(rng, names))));
    }
    match rng.u8(..5) {
        0 => matches["transport_protocol"] = json!("tls"),
        1 => matches["transport_protocol"] = json!("raw_buffer"),
        2 => matches["application_protocols"] = json!([one(rng, &["h2", "http/1.1"])]),
        _ => {}
    }
    match rng.u8(..6) {
        0 => matches["source_prefix_ranges"] = json!([range(rng)]),
        1 => matches["direct_source_prefix_ranges"] = json!([range(rng)]),
        2 => matches["source_type"] = json!(one(rng, &["SAME_IP_OR_LOOPBACK", "EXTERNAL"])),
        3 => matches["prefix_ranges"] = json!([range(rng)]),
        4 => matches["destination_port"] = json!(one(rng, &["{{listener}}", "1"])),
        _ => {}
    }
    matches
}

fn connection(rng: &mut Rng) -> Value {
    let mut connection = json!({"source": one(rng, SOURCES), "bytes": 2});
    if rng.u8(..4) == 0 {
        connection["send"] = json!("hello");
        return connection;
    }
    let mut hello = json!({"alpn": some(rng, 2, |rng| json!(one(rng, &["h2", "http/1.1", "x"])))});
    if rng.u8(..5) > 0 {
        hello["sni"] = json!(one(rng, NAMES));
    }
    connection["client_hello"] = hello;
    connection
}
