//! What Envoy 1.40 accepts and refuses in a YAML bootstrap, as measured with `envoy --mode validate`.
#![allow(clippy::unwrap_used, missing_docs)]

use proto::Registry;
use proto::envoy::config::bootstrap::v3::Bootstrap;

/// A bootstrap with one cluster, whose `connect_timeout`, `type`, `name`, port and the rest the cases fill in.
fn cluster(fields: &str) -> String {
    format!("static_resources:\n  clusters:\n  - {}\n", fields.trim().replace('\n', "\n    "))
}

fn endpoint(port: &str) -> String {
    cluster(&format!(
        "name: a\nload_assignment:\n  cluster_name: a\n  endpoints:\n  - lb_endpoints:\n    - endpoint:\n        address:\n          socket_address: {{address: 127.0.0.1, port_value: {port}}}"
    ))
}

fn typed(config: &str) -> String {
    cluster(&format!("name: a\ntransport_socket:\n  name: t\n  typed_config: {config}"))
}

const TLS: &str =
    "'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";

#[test]
fn envoy_accepts() {
    let registry = Registry::load();
    for (what, text) in [
        ("enum in lower case", cluster("name: a\ntype: strict_dns")),
        ("enum by number", cluster("name: a\ntype: 1")),
        ("bool yes", cluster("name: a\nrespect_dns_ttl: yes")),
        ("bool on", cluster("name: a\nrespect_dns_ttl: on")),
        ("quoted bool", cluster("name: a\nrespect_dns_ttl: 'true'")),
        ("duplicate key", cluster("name: a\nname: b")),
        ("second document", format!("{}---\nnonsense: [\n", cluster("name: a"))),
        ("quoted port", endpoint("'80'")),
        ("float port", endpoint("80.0")),
        ("hexadecimal port", endpoint("0x50")),
        ("null", cluster("name: a\nconnect_timeout: null")),
        ("anchors", format!("!ignore x: &n a\n{}", cluster("name: *n"))),
        ("camelCase", cluster("name: a\nconnectTimeout: 1s")),
        ("typed config", typed(&format!("{{{TLS}, sni: x}}"))),
        ("empty typed config", typed("{}")),
    ] {
        let read = registry.from_yaml::<Bootstrap>(&text);
        assert!(read.is_ok(), "{what}: {}", read.unwrap_err());
    }
}

#[test]
fn envoy_refuses() {
    let registry = Registry::load();
    for (what, text) in [
        ("number for a string", cluster("name: 5")),
        ("bool for a string", cluster("name: true")),
        ("word that is a bool for a string", cluster("name: yes")),
        ("octal of YAML 1.2", endpoint("0o17")),
        ("empty file", String::new()),
        ("null file", "~".into()),
        ("comment only", "# nothing\n".into()),
        ("merge key", format!("!ignore x: &n {{name: a}}\n{}", cluster("<<: *n"))),
        ("unknown field", cluster("nme: a")),
        ("typo inside Any", typed(&format!("{{{TLS}, snj: x}}"))),
        ("unknown @type", typed("{'@type': type.googleapis.com/my.Unknown}")),
        ("missing @type", typed("{sni: x}")),
        ("@type without a prefix", typed("{'@type': envoy.config.cluster.v3.Cluster}")),
        ("duration in ms", cluster("name: a\nconnect_timeout: 100ms")),
        ("duration without a leading zero", cluster("name: a\nconnect_timeout: .25s")),
        ("duration without a unit", cluster("name: a\nconnect_timeout: 1")),
        ("unknown enum value", cluster("name: a\ntype: NO_SUCH")),
        ("object for a list", "static_resources: {clusters: {name: a}}".into()),
        ("list for an object", "static_resources: []".into()),
        ("negative port", endpoint("-1")),
        ("port of more than 32 bits", endpoint("5000000000")),
        ("fraction for a port", endpoint("80.5")),
        ("two members of a oneof", cluster("name: a\ntype: STATIC\ncluster_type: {name: x}")),
        ("null in a list", "static_resources: {clusters: [null]}".into()),
    ] {
        assert!(registry.from_yaml::<Bootstrap>(&text).is_err(), "{what}");
    }
}

#[test]
fn the_last_of_equal_keys_wins() {
    let bootstrap: Bootstrap = Registry::load().from_yaml(&cluster("name: a\nname: b")).unwrap();
    assert_eq!(bootstrap.static_resources.unwrap().clusters[0].name, "b");
}

#[test]
fn an_untagged_float_in_a_struct_stays_a_string() {
    let registry = Registry::load();
    let bootstrap: Bootstrap =
        registry.from_yaml("node: {id: a, metadata: {weights: [1, 2.5, yes]}}").unwrap();
    let json = registry.to_json(&bootstrap);
    assert_eq!(json["node"]["metadata"]["weights"], serde_json::json!([1, "2.5", true]));
}
