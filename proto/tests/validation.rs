//! The API's rules (PGV), checked by reflection.
#![allow(clippy::unwrap_used, missing_docs)]

use proto::Registry;
use proto::envoy::config::bootstrap::v3::Bootstrap;
use proto::envoy::config::cluster::v3::Cluster;
use proto::envoy::config::core::v3::{Address, HeaderValueOption};
use proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use proto::envoy::config::listener::v3::Listener;
use proto::google::protobuf::Any;

fn violations<T: prost::Message + prost::Name + Default>(
    registry: &Registry,
    yaml: &str,
) -> Vec<String> {
    let message: T = registry.from_yaml(yaml).unwrap();
    let violations = registry.validate(&message).err().unwrap_or_default();
    violations.iter().map(ToString::to_string).collect()
}

#[test]
fn a_valid_bootstrap_breaks_no_rule() {
    let registry = Registry::load();
    assert_eq!(
        violations::<Bootstrap>(&registry, include_str!("bootstrap.yaml")),
        Vec::<String>::new()
    );
}

#[test]
fn each_kind_of_rule_is_checked() {
    let registry = Registry::load();
    let cluster = |yaml: &str| violations::<Cluster>(&registry, yaml);
    assert_eq!(cluster("name: ''"), ["name: value length must be at least 1 characters"]);
    assert_eq!(
        cluster("{name: a, connect_timeout: 0s}"),
        ["connect_timeout: value must be greater than 0s, is 0s"]
    );
    assert_eq!(
        cluster("{name: a, lb_policy: 99}"),
        ["lb_policy: value must be one of the defined enum values, is 99"]
    );
    assert_eq!(
        cluster("{name: a, outlier_detection: {max_ejection_percent: 101}}"),
        ["outlier_detection.max_ejection_percent: value must be less than or equal to 100, is 101"]
    );
    assert_eq!(
        cluster("{name: a, common_lb_config: {healthy_panic_threshold: {value: -1}}}"),
        [
            "common_lb_config.healthy_panic_threshold.value: value must be greater than or equal to 0, is -1"
        ]
    );
    assert_eq!(cluster("{name: a, health_checks: [{}]}").len(), 5);
    assert_eq!(
        violations::<Address>(&registry, "socket_address: {address: a, port_value: 70000}"),
        ["socket_address.port_value: value must be less than or equal to 65535, is 70000"]
    );
    assert_eq!(violations::<Address>(&registry, "{}"), ["address: value is required"]);
    assert_eq!(
        violations::<HeaderValueOption>(&registry, "header: {key: \"a\\nb\"}"),
        ["header.key: value \"a\\nb\" is not a valid HTTP header name"]
    );
    assert_eq!(violations::<HeaderValueOption>(&registry, "{}"), ["header: value is required"]);
}

#[test]
fn lists_maps_and_wrappers_are_walked() {
    let registry = Registry::load();
    let yaml = "{cluster_name: a, endpoints: [{}, {lb_endpoints: [{load_balancing_weight: 0}]}], named_endpoints: {x: {address: {pipe: {}}}}}";
    assert_eq!(
        violations::<ClusterLoadAssignment>(&registry, yaml),
        [
            "endpoints[1].lb_endpoints[0].load_balancing_weight: value must be greater than or equal to 1, is 0",
            "named_endpoints[\"x\"].address.pipe.path: value length must be at least 1 characters",
        ]
    );
}

#[test]
fn the_content_of_any_is_checked_where_its_type_is_known() {
    let registry = Registry::load();
    let yaml = "
filter_chains:
- filters:
  - name: hcm
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      route_config:
        virtual_hosts:
        - name: v
          routes: [{match: {prefix: /}, route: {cluster: ''}}]
";
    let found = violations::<Listener>(&registry, yaml);
    let config = "filter_chains[0].filters[0].typed_config";
    assert_eq!(
        found,
        [
            format!("{config}.stat_prefix: value length must be at least 1 characters"),
            format!(
                "{config}.route_config.virtual_hosts[0].domains: value must contain at least 1 item(s), has 0"
            ),
            format!(
                "{config}.route_config.virtual_hosts[0].routes[0].route.cluster: value length must be at least 1 characters"
            ),
        ]
    );
    let unknown = Any { type_url: "type.googleapis.com/my.Unknown".into(), value: vec![0xff] };
    assert!(registry.validate(&unknown).is_ok());
}

#[test]
fn broken_and_endless_anys_are_violations() {
    let registry = Registry::load();
    let broken = Any { type_url: proto::type_url::CLUSTER.into(), value: vec![0xff] };
    assert!(registry.validate(&broken).is_err());
    let mut nested = Any::default();
    for _ in 0..2_000 {
        nested = proto::any::pack(&nested);
    }
    assert!(registry.validate(&nested).is_err());
}

#[test]
fn violations_are_bounded() {
    let registry = Registry::load();
    let yaml = format!("{{cluster_name: a, endpoints: [{}]}}", "{priority: 1000},".repeat(500));
    assert_eq!(violations::<ClusterLoadAssignment>(&registry, &yaml).len(), 20);
}
