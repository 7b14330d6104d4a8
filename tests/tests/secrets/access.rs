//! Access control by the identity that a client's certificate proves, over HTTP and TCP.

use control_plane_mock::IdentityOptions;
use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{ads_bootstrap, cluster, http_listener, resource};
use pillion_tests::scenario::{Protocol, Sidecar, Upstream};
use serde_json::{Value, json};

use crate::client::Client;
use crate::config::{ADS, Names, sds, tls_listener};
use crate::control_plane;

const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
const NETWORK: &str = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC";
const ACTION: &str = "type.googleapis.com/envoy.config.rbac.v3.Action";
const URI_SAN: &str =
    "type.googleapis.com/envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput";

/// Who asks, and the body that the client gets; none where the connection closes.
const ONE: &str = "spiffe://cluster.local/ns/a/sa/one";
const LONGER: &str = "spiffe://cluster.local/ns/a/sa/one/more";
const OTHER: &str = "spiffe://cluster.local/ns/b/sa/one";

/// Rules that let one identity in, as Istio writes them.
fn rules(name: &Value) -> Value {
    json!({"policies": {"one": {
        "permissions": [{"any": true}],
        "principals": [{"authenticated": {"principal_name": name}}],
    }}})
}

/// A tree that lets one identity in, as Kuma writes it.
fn tree() -> Value {
    let action = |name: &str, action: &str| json!({"action": {"name": "a", "typed_config": {"@type": ACTION, "name": name, "action": action}}});
    json!({
        "matcher_list": {"matchers": [{
            "predicate": {"single_predicate": {
                "input": {"name": "san", "typed_config": {"@type": URI_SAN}},
                "value_match": {"exact": ONE},
            }},
            "on_match": action("one", "ALLOW"),
        }]},
        "on_no_match": action("default", "DENY"),
    })
}

/// What the clients with these identities get from a listener with these filters.
async fn answers(http: &Value, network: &Value) -> Vec<Option<String>> {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let control_plane = control_plane(IdentityOptions::default()).await;
    let address = free_address();
    let mut hcm = json!({});
    if !http.is_null() {
        let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
        hcm["http_filters"] = json!([
            {"name": "rbac", "typed_config": http},
            {"name": "router", "typed_config": {"@type": router}},
        ]);
    }
    let mut listener = http_listener(address, "up", &hcm);
    if !network.is_null() {
        let filters = listener["filter_chains"][0]["filters"].as_array_mut().expect("a list");
        filters.insert(0, json!({"name": "rbac", "typed_config": network}));
    }
    let listener = tls_listener(listener, &Names::ISSUED, &sds(ADS, "60s"));
    let up = cluster("up", Protocol::Http1, &[upstream.address]);
    control_plane.put([resource(&up), resource(&listener)]);
    let _sidecar = Sidecar::start(&ads_bootstrap(control_plane.addr(), "DELTA_GRPC"), &[]);
    let mut answers = Vec::new();
    for id in [ONE, LONGER, OTHER] {
        let answer = match Client::new(&control_plane, id).connect(address).await {
            Ok(mut connection) => Some(connection.get("/").await),
            Err(_) => None,
        };
        answers.push(answer);
    }
    answers
}

fn expected(refusal: Option<&str>) -> Vec<Option<String>> {
    let refusal = refusal.map(str::to_owned);
    vec![Some("up".to_owned()), refusal.clone(), refusal]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_pass_for_the_identity_that_rules_name_and_for_no_longer_one() {
    let denied = expected(Some("RBAC: access denied"));
    for name in [json!({"exact": ONE}), json!({"safe_regex": {"regex": ".*/ns/a/sa/one"}})] {
        let filter = json!({"@type": HTTP, "rules": rules(&name)});
        assert_eq!(answers(&filter, &Value::Null).await, denied, "{name}");
    }
    let filter = json!({"@type": HTTP, "matcher": tree()});
    assert_eq!(answers(&filter, &Value::Null).await, denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_pass_for_the_identity_that_rules_name_and_for_no_longer_one() {
    for engine in [("rules", rules(&json!({"exact": ONE}))), ("matcher", tree())] {
        let mut filter = json!({"@type": NETWORK, "stat_prefix": "net"});
        filter[engine.0] = engine.1;
        assert_eq!(answers(&Value::Null, &filter).await, expected(None), "{filter}");
    }
}
