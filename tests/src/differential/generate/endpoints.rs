//! Random endpoints with weights, priorities, localities and health under policies that hash, so that the host is no matter of
//! chance.

use fastrand::Rng;
use serde_json::{Value, json};

use super::with_steps;
use crate::fuzz::input::one;

const REQUESTS: usize = 200;
const UPSTREAMS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// One cluster of up to six hosts, each with a key of its own on the ring.
pub(super) fn case(rng: &mut Rng) -> Value {
    let mut endpoints: Vec<Value> = Vec::new();
    let localities = rng.usize(1..4);
    for locality in 0..localities {
        endpoints.push(json!({
            "locality": {"zone": format!("z{locality}")},
            "priority": rng.usize(..=locality.min(2)),
            "load_balancing_weight": rng.u32(1..4),
            "lb_endpoints": [],
        }));
    }
    for name in UPSTREAMS {
        let at = rng.usize(..localities);
        if let Some(hosts) = endpoints[at]["lb_endpoints"].as_array_mut() {
            hosts.push(host(rng, name));
        }
    }
    renumber(&mut endpoints);
    let policy = *one(rng, &["RING_HASH", "MAGLEV"]);
    let mut common = json!({"healthy_panic_threshold": {"value": one(rng, &[0, 30, 50, 80])}});
    if rng.bool() {
        common["locality_weighted_lb_config"] = json!({});
    }
    let mut cluster = json!({
        "lb_policy": policy,
        "common_lb_config": common,
        "load_assignment": {
            "endpoints": endpoints,
            "policy": {"overprovisioning_factor": one(rng, &[100, 140, 200])},
        },
    });
    if policy == "RING_HASH" {
        cluster["ring_hash_lb_config"] = json!({"minimum_ring_size": one(rng, &[8, 64, 1024])});
    }
    let hash = json!([{"header": {"header_name": "x-key"}}]);
    let config = json!({
        "cluster": {"a": cluster},
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "a", "hash_policy": hash}}],
    });
    let steps = (0..REQUESTS).map(|at| {
        let key = rng.u32(..).to_string();
        json!({"request": {"headers": {"x-key": key}, "connection": format!("c{}", at / 100)}})
    });
    let mut case = with_steps(config, steps.collect());
    case["upstreams"] = UPSTREAMS.iter().map(|name| (name.to_string(), json!({}))).collect();
    case
}

fn host(rng: &mut Rng, name: &str) -> Value {
    let health = *one(rng, &["HEALTHY", "HEALTHY", "UNKNOWN", "UNHEALTHY", "DEGRADED", "DRAINING"]);
    let port = format!("{{{{upstream.{name}}}}}");
    json!({
        "health_status": health,
        "load_balancing_weight": rng.u32(1..5),
        "metadata": {"filter_metadata": {"envoy.lb": {"hash_key": format!("key-{name}")}}},
        "endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}},
    })
}

/// Priorities without a gap, which static clusters must have.
fn renumber(endpoints: &mut [Value]) {
    let mut used: Vec<u64> = endpoints.iter().filter_map(|e| e["priority"].as_u64()).collect();
    used.sort_unstable();
    used.dedup();
    for endpoint in endpoints {
        let place =
            used.iter().position(|priority| Some(*priority) == endpoint["priority"].as_u64());
        endpoint["priority"] = json!(place);
    }
}
