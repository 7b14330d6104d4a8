//! Configuration of a sidecar that copes with what happens to the replicas behind it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::scenario::Protocol;
use crate::scenario::config::{cluster, http_listener, merge};

const HTTP_OPTIONS: &str =
    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const PREVIOUS_HOSTS: &str =
    "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
const PREVIOUS_PRIORITIES: &str = "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";

/// A listener for every kind of client, whose requests go to the cluster `up` and are sent again where that can help.
pub fn listener(address: SocketAddr, per_try_timeout: Option<&str>) -> Value {
    let mut retries = json!({
        "retry_on": "connect-failure,refused-stream,reset,5xx",
        "num_retries": 3,
        "retry_back_off": {"base_interval": "0.005s"},
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": PREVIOUS_HOSTS},
        }],
        "host_selection_retry_max_attempts": 5,
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {"@type": PREVIOUS_PRIORITIES, "update_frequency": 1},
        },
    });
    if let Some(time) = per_try_timeout {
        retries["per_try_timeout"] = json!(time);
    }
    let route = json!({
        "match": {"prefix": "/"},
        "route": {"cluster": "up", "timeout": "5s", "retry_policy": retries},
    });
    let hosts = json!([{"name": "all", "domains": ["*"], "routes": [route]}]);
    let hcm = json!({
        "route_config": {"virtual_hosts": hosts},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
    });
    http_listener(address, "up", &hcm)
}

/// The cluster `up`, which speaks to each endpoint what the client speaks.
pub fn up(endpoints: &[SocketAddr]) -> Value {
    let mut up = cluster("up", Protocol::Http1, endpoints);
    let options = json!({
        "@type": HTTP_OPTIONS,
        "use_downstream_protocol_config": {"http2_protocol_options": {}},
    });
    let over = json!({
        "connect_timeout": "0.25s",
        "lb_policy": "LEAST_REQUEST",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
        },
        "circuit_breakers": {"thresholds": [{"max_retries": 1000}]},
    });
    merge(&mut up, &over);
    up
}

/// [`up`], watched by health checks and outlier detection.
pub fn watched(endpoints: &[SocketAddr]) -> Value {
    let mut up = up(endpoints);
    let over = json!({
        "health_checks": [{
            "timeout": "0.25s",
            "interval": "0.25s",
            "unhealthy_threshold": 2,
            "healthy_threshold": 1,
            "http_health_check": {"path": "/health"},
        }],
        "outlier_detection": {
            "consecutive_5xx": 5,
            "interval": "0.25s",
            "base_ejection_time": "2s",
            "max_ejection_percent": 50,
        },
    });
    merge(&mut up, &over);
    up
}
