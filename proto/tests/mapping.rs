//! JSON and YAML in both directions: round trips, names, errors with their paths, unknown fields, secrets.
#![allow(clippy::unwrap_used, missing_docs)]

use proto::envoy::config::bootstrap::v3::Bootstrap;
use proto::envoy::config::cluster::v3::Cluster;
use proto::envoy::config::core::v3::TransportSocket;
use proto::envoy::service::discovery::v3::DiscoveryResponse;
use proto::google::protobuf::Any;
use proto::{FieldNames, Format, Registry};
use serde_json::json;

const BOOTSTRAP: &str = include_str!("bootstrap.yaml");

#[test]
fn a_large_bootstrap_survives_yaml_typed_json_typed() {
    let registry = Registry::load();
    let typed: Bootstrap = registry.from_yaml(BOOTSTRAP).unwrap();
    for names in [FieldNames::Proto, FieldNames::Json] {
        let json = registry.to_json_with(&typed, names);
        let again: Bootstrap = registry.from_json(&json.to_string()).unwrap();
        // Maps are unordered, so that their encodings inside Any differ: JSON is compared.
        assert_eq!(registry.to_json_with(&again, names), json);
    }
}

#[test]
fn json_has_the_form_that_envoy_prints() {
    let registry = Registry::load();
    let json = registry.to_json(&registry.from_yaml::<Bootstrap>(BOOTSTRAP).unwrap());
    let resources = &json["static_resources"];
    let cluster = &resources["clusters"][0];
    assert_eq!(cluster["connect_timeout"], "0.250s");
    assert_eq!(cluster["type"], "STRICT_DNS");
    assert_eq!(cluster["per_connection_buffer_limit_bytes"], 32768);
    assert_eq!(cluster["common_lb_config"]["healthy_panic_threshold"], json!({"value": 20}));
    let options = &cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    assert_eq!(
        options["@type"],
        "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    );
    assert_eq!(
        options["explicit_http_config"]["http2_protocol_options"]["max_concurrent_streams"],
        100
    );
    let manager = &resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let readers = &manager["http_filters"][0]["typed_config"]["rules"]["policies"]["readers"];
    assert_eq!(
        readers["permissions"][0]["and_rules"]["rules"][1]["url_path"]["path"]["prefix"],
        "/api"
    );
    assert_eq!(
        json["node"]["metadata"],
        json!({"version": "1", "shard": 3, "on": true, "list": ["a", null]})
    );
}

#[test]
fn errors_carry_path_line_and_column_through_any() {
    let registry = Registry::load();
    for (good, bad, path) in [
        (
            "connect_timeout: 0.25s",
            "connect_timeout: 250ms",
            "static_resources.clusters[0].connect_timeout",
        ),
        (
            "stat_prefix: ingress",
            "stat_prefx: ingress",
            "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.stat_prefx",
        ),
        (
            "- match: {prefix: /}",
            "- match: {prefix: 5}",
            "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].match.prefix",
        ),
        (
            "port_value: 15006",
            "port_value: x",
            "static_resources.listeners[0].address.socket_address.port_value",
        ),
    ] {
        let text = BOOTSTRAP.replacen(good, bad, 1);
        let error = registry.from_yaml::<Bootstrap>(&text).unwrap_err();
        assert_eq!(error.path(), path, "{error}");
        let line = 1 + text.lines().position(|line| line.contains(bad)).unwrap();
        assert_eq!(error.position().map(|position| position.line), Some(line), "{error}");
    }
}

#[test]
fn an_error_reads_as_one_sentence() {
    let registry = Registry::load();
    let yaml = registry.from_yaml::<Cluster>("name: a\nconnect_timeout: 100ms\n").unwrap_err();
    let text = "connect_timeout: a duration in seconds, such as \"0.25s\", is expected here, not the string \"100ms\" (line 2, column 1)";
    assert_eq!(yaml.to_string(), text);
    let json = registry
        .from_json::<Cluster>("{\"name\": \"a\",\n\"connect_timeout\": \"100ms\"}")
        .unwrap_err();
    assert_eq!(json.to_string(), text);
    let unknown = registry.from_json::<Cluster>("{\"nam\\u00e9\": \"a\"}").unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "namé: envoy.config.cluster.v3.Cluster has no such field (line 1, column 2)"
    );
}

#[test]
fn unknown_fields_and_enum_values_can_be_accepted_with_their_paths() {
    let text = "name: a\nnew: {x: 1}\ntype: QUANTUM\ntransport_socket:\n  name: t\n  typed_config:\n    '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n    snj: x\n    sni: b\n";
    let parsed = Registry::load().parse::<Cluster>(Format::Yaml, text).unwrap();
    assert_eq!(parsed.message.name, "a");
    let paths: Vec<_> = parsed.unknown.iter().map(|unknown| unknown.path()).collect();
    assert_eq!(paths, ["new", "transport_socket.typed_config.snj", "type"]);
    assert!(parsed.strict().is_err());
}

#[test]
fn both_spellings_of_one_field_are_refused() {
    let error = Registry::load()
        .from_json::<Cluster>(r#"{"altStatName": "a", "alt_stat_name": "b"}"#)
        .unwrap_err();
    assert_eq!(error.problem(), "cannot be given beside \"altStatName\"");
}

#[test]
fn json_with_escaped_surrogates_and_tabs_is_read() {
    let cluster: Cluster =
        Registry::load().from_json("{\n\t\"name\": \"\\ud83d\\ude00\"\n}").unwrap();
    assert_eq!(cluster.name, "😀");
}

#[test]
fn an_any_of_an_unknown_type_is_printed_as_bytes() {
    let registry = Registry::load();
    let any = |url: &str| Any { type_url: url.into(), value: vec![0xff, 1] };
    let printed = json!({"@type": "type.googleapis.com/my.Unknown", "value": "/wE="});
    assert_eq!(registry.any_to_json(&any("type.googleapis.com/my.Unknown")), printed);
    let broken = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    assert_eq!(registry.any_to_json(&any(broken)), json!({"@type": broken, "value": "/wE="}));
    assert_eq!(registry.any_to_json(&any("")), json!({"@type": "", "value": "/wE="}));
    assert_eq!(registry.any_to_json(&Any::default()), json!({}));
}

#[test]
fn secrets_are_redacted() {
    let registry = Registry::load();
    let socket: TransportSocket = registry
        .from_yaml(
            "name: t\ntyped_config:\n  '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n  common_tls_context:\n    tls_certificates:\n    - certificate_chain: {inline_string: public}\n      private_key: {inline_string: secret}\n    - private_key: {inline_bytes: c2VjcmV0}\n",
        )
        .unwrap();
    let json = registry.to_json(&socket);
    let certificates = &json["typed_config"]["common_tls_context"]["tls_certificates"];
    assert_eq!(certificates[0]["certificate_chain"]["inline_string"], "public");
    assert_eq!(certificates[0]["private_key"]["inline_string"], "[redacted]");
    assert_eq!(certificates[1]["private_key"]["inline_bytes"], "W3JlZGFjdGVkXQ==");
    assert!(!json.to_string().contains("secret"));
}

#[test]
fn typed_structs_and_well_known_types_inside_any_are_known() {
    let registry = Registry::load();
    for config in [
        json!({"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "x/y", "value": {"a": 1.5}}),
        json!({"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": "x/y", "value": {"a": [true]}}),
        json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"a": "b"}}),
        json!({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.500s"}),
        json!({"@type": "type.googleapis.com/google.protobuf.UInt32Value", "value": 7}),
        json!({"@type": "type.googleapis.com/google.protobuf.Any", "value": {"@type": "type.googleapis.com/google.protobuf.BoolValue", "value": true}}),
    ] {
        let text = json!({"name": "t", "typed_config": config.clone()}).to_string();
        let socket: TransportSocket = registry.from_json(&text).unwrap();
        assert_eq!(registry.to_json(&socket)["typed_config"], config);
    }
}

#[test]
fn messages_nested_without_end_are_refused() {
    let registry = Registry::load();
    let nested = |levels: usize| {
        format!("{{\"metadata\": {}1{}}}", "{\"a\":".repeat(levels), "}".repeat(levels))
    };
    assert!(registry.from_json::<proto::envoy::config::core::v3::Node>(&nested(20)).is_ok());
    for levels in [60, 120, 10_000] {
        assert!(
            registry.from_json::<proto::envoy::config::core::v3::Node>(&nested(levels)).is_err()
        );
        assert!(
            registry.from_yaml::<proto::envoy::config::core::v3::Node>(&nested(levels)).is_err()
        );
    }
}

#[test]
fn any_inside_any_without_end_is_printed_as_bytes_at_last() {
    let registry = Registry::load();
    let mut any = Any::default();
    for _ in 0..2_000 {
        any = proto::any::pack(&any);
    }
    assert!(registry.any_to_json(&any).to_string().len() > 1000);
}

#[test]
fn secrets_in_typed_structs_are_redacted() {
    let registry = Registry::load();
    let secret = json!({
        "name": "s",
        "typed_config": {
            "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
            "type_url": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
            "value": {"privateKey": {"inlineString": "secret"}},
        }
    });
    let socket: TransportSocket = registry.from_json(&secret.to_string()).unwrap();
    let value = json!({"private_key": {"inline_string": "[redacted]"}});
    assert_eq!(registry.to_json(&socket)["typed_config"]["value"], value);
}

#[test]
fn unknown_fields_on_the_wire_are_found_through_any() {
    let registry = Registry::load();
    let mut socket = proto::any::pack(&TransportSocket::default());
    // Field 900, a varint.
    socket.value.extend([0xa0, 0x38, 1]);
    let entry = DiscoveryResponse { resources: vec![Any::default(), socket], ..Default::default() };
    let mut packed = proto::any::pack(&entry);
    assert_eq!(
        registry.unknown_fields(&packed),
        ["resources[1]: field 900 of envoy.config.core.v3.TransportSocket"]
    );
    packed.value.extend([0xa0, 0x38, 1]);
    assert_eq!(registry.unknown_fields(&packed).len(), 2);
    assert!(registry.unknown_fields(&proto::any::pack(&Cluster::default())).is_empty());
}
