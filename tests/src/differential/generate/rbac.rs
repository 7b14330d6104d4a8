//! Random access policies, and requests that come near them.

use fastrand::Rng;
use serde_json::{Value, json};

use super::routes::{path, request, string};
use super::with_steps;
use crate::fuzz::input::{one, some};

const REQUESTS: usize = 200;
const FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";

/// One filter with random policies before a route that answers.
pub(super) fn case(rng: &mut Rng) -> Value {
    let mut policies = json!({});
    for policy in 0..rng.usize(1..4) {
        let mut permissions = some(rng, 2, |rng| permission(rng, 3));
        permissions.push(permission(rng, 3));
        let mut principals = some(rng, 2, |rng| principal(rng, 3));
        principals.push(principal(rng, 3));
        policies[format!("p{policy}")] =
            json!({"permissions": permissions, "principals": principals});
    }
    let action = *one(rng, &["ALLOW", "DENY"]);
    let filter = json!({"@type": FILTER, "rules": {"action": action, "policies": policies}});
    let config = json!({
        "hcm": {"normalize_path": rng.bool()},
        "http_filters": [{"name": "rbac", "typed_config": filter}],
        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
    });
    let steps = (0..REQUESTS).map(|at| {
        let mut request = request(rng, at);
        let source = one(rng, &["127.0.0.1", "127.0.0.2", "127.0.1.1"]);
        request["source"] = json!(source);
        request["connection"] = json!(format!("{source} {}", at / 50));
        json!({"request": request})
    });
    let steps = steps.collect();
    with_steps(config, steps)
}

fn permission(rng: &mut Rng, depth: u8) -> Value {
    let set = |rng: &mut Rng| {
        let mut rules = some(rng, 2, |rng| permission(rng, depth - 1));
        rules.push(permission(rng, depth - 1));
        json!({"rules": rules})
    };
    match rng.u8(..if depth == 0 { 4 } else { 7 }) {
        0 => json!({"any": true}),
        1 => json!({"header": header(rng)}),
        2 => json!({"url_path": {"path": {"prefix": path(rng)}}}),
        3 => json!({"destination_port": one(rng, &["{{listener}}", "1"])}),
        4 => json!({"and_rules": set(rng)}),
        5 => json!({"or_rules": set(rng)}),
        _ => json!({"not_rule": permission(rng, depth - 1)}),
    }
}

fn principal(rng: &mut Rng, depth: u8) -> Value {
    let set = |rng: &mut Rng| {
        let mut ids = some(rng, 2, |rng| principal(rng, depth - 1));
        ids.push(principal(rng, depth - 1));
        json!({"ids": ids})
    };
    let range = json!({"address_prefix": one(rng, &["127.0.0.0", "127.0.0.2"]), "prefix_len": one(rng, &[24, 32, 8])});
    match rng.u8(..if depth == 0 { 4 } else { 7 }) {
        0 => json!({"any": true}),
        1 => json!({"header": header(rng)}),
        2 => json!({"direct_remote_ip": range}),
        3 => json!({"url_path": {"path": string(rng)}}),
        4 => json!({"and_ids": set(rng)}),
        5 => json!({"or_ids": set(rng)}),
        _ => json!({"not_id": principal(rng, depth - 1)}),
    }
}

fn header(rng: &mut Rng) -> Value {
    let name = *one(rng, &["x-a", "x-b", ":method", ":path", ":authority"]);
    json!({"name": name, "string_match": string(rng), "invert_match": rng.bool()})
}
