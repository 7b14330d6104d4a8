use super::*;
use crate::config::source::SourceKind;
use crate::io::Address;
use proto::Registry;

fn warned(yaml: &str) -> Result<(Bootstrap, Vec<String>), String> {
    let message = Registry::load().from_yaml(yaml).expect("the test's YAML is a message");
    let context = Context::default();
    Bootstrap::from_proto(&message, &context)
        .map(|bootstrap| (bootstrap, context.take_warnings()))
        .map_err(|error| error.to_string())
}

fn refused(yaml: &str) -> String {
    warned(yaml).expect_err("it breaks a rule")
}

/// What Istio's agent writes, shortened to one of each kind.
const ISTIO: &str = r#"
application_log_config:
  log_format: {text_format: "%Y\t%l\t%v"}
node:
  id: sidecar~10.0.0.1~web-1.default~default.svc.cluster.local
  cluster: web.default
  locality: {}
  metadata: {ISTIO_VERSION: "1.27", ENVOY_PROMETHEUS_PORT: 15090}
layered_runtime:
  layers:
  - name: global config
    static_layer:
      overload.global_downstream_max_connections: 2147483647
      re2.max_program_size.error_level: "32768"
      envoy: {reloadable_features: {http_reject_path_with_fragment: false}}
  - {name: admin, admin_layer: {}}
bootstrap_extensions:
- name: envoy.bootstrap.internal_listener
  typed_config:
    "@type": type.googleapis.com/udpa.type.v1.TypedStruct
    type_url: type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener
    value: {buffer_size_kb: 64}
stats_config:
  use_all_default_tags: false
  stats_tags: [{tag_name: cluster_name, regex: "^cluster\\.((.+?(?=\\|)))"}]
  stats_matcher: {inclusion_list: {patterns: [{prefix: server}]}}
admin:
  access_log:
  - name: envoy.access_loggers.file
    typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/null}
  profile_path: /var/lib/istio/data/envoy.prof
  address: {socket_address: {address: 127.0.0.1, port_value: 15000}}
dynamic_resources:
  lds_config: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3}
  cds_config: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3}
  ads_config:
    api_type: DELTA_GRPC
    set_node_on_first_message_only: true
    transport_api_version: V3
    grpc_services: [{envoy_grpc: {cluster_name: xds-grpc}}]
static_resources:
  clusters:
  - name: xds-grpc
    alt_stat_name: "xds-grpc;"
    type: STATIC
    connect_timeout: 1s
    lb_policy: ROUND_ROBIN
    load_assignment:
      cluster_name: xds-grpc
      endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: ./etc/istio/proxy/XDS}}}}]}]
    circuit_breakers:
      thresholds:
      - {priority: DEFAULT, max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}
    upstream_connection_options: {tcp_keepalive: {keepalive_time: 300}}
    max_requests_per_connection: 1
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
  - name: zipkin
    type: STRICT_DNS
    dns_refresh_rate: 30s
    dns_lookup_family: V4_ONLY
    load_assignment:
      cluster_name: zipkin
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: zipkin, port_value: 9411}}}}]}]
cluster_manager: {outlier_detection: {event_log_path: /dev/stdout}}
tracing: {http: {name: envoy.zipkin}}
"#;

#[test]
fn istios_bootstrap_loads() {
    let (bootstrap, warnings) = warned(ISTIO).expect("it loads");
    assert_eq!(bootstrap.node.cluster, "web.default");
    let names: Vec<_> = bootstrap.clusters.iter().map(|(cluster, _)| &*cluster.name).collect();
    assert_eq!(names, ["xds-grpc", "zipkin"]);
    let ads = bootstrap.ads.expect("there is ADS");
    assert!(ads.delta && ads.aggregated && ads.set_node_on_first_message_only);
    let lds = bootstrap.lds.expect("there is LDS");
    assert_eq!((lds.kind, lds.initial_fetch_timeout), (SourceKind::Ads, None));
    let admin = bootstrap.admin.expect("there is an admin interface");
    assert_eq!(admin.address, Address::Ip("127.0.0.1:15000".parse().expect("an address")));
    assert_eq!(admin.access_log.len(), 1);
    assert_eq!(bootstrap.runtime["re2.max_program_size.error_level"], "32768");
    let nested = "envoy.reloadable_features.http_reject_path_with_fragment";
    assert_eq!(bootstrap.runtime[nested], false);
    for field in ["stats_config", "bootstrap_extensions", "tracing", "layered_runtime.layers[1]"] {
        let start = format!("bootstrap: {field}");
        assert!(warnings.iter().any(|text| text.starts_with(&start)), "{field}: {warnings:?}");
    }
}

#[test]
fn an_empty_bootstrap_has_envoys_defaults() {
    let (bootstrap, warnings) = warned("{}").expect("it loads");
    assert_eq!(bootstrap.stats_flush_interval, Duration::from_secs(5));
    assert!(bootstrap.admin.is_none() && bootstrap.ads.is_none() && bootstrap.runtime.is_empty());
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn an_admin_without_address_does_not_exist() {
    let (bootstrap, _) = warned("{admin: {access_log_path: /dev/null}}").expect("it loads");
    assert!(bootstrap.admin.is_none());
}

#[test]
fn later_runtime_layers_win() {
    let (bootstrap, _) = warned(
        "{layered_runtime: {layers: [{name: a, static_layer: {x: {y: 1, z: 2}}}, \
         {name: b, static_layer: {x.y: 3, f: {numerator: 5, denominator: HUNDRED}}}]}}",
    )
    .expect("it loads");
    assert_eq!(bootstrap.runtime["x.y"], 3);
    assert_eq!(bootstrap.runtime["x.z"], 2);
    assert_eq!(bootstrap.runtime["f"]["numerator"], 5);
}

#[test]
fn errors_in_static_resources_name_the_resource() {
    assert_eq!(
        refused("{static_resources: {clusters: [{name: a, connect_timeout: 0s}]}}"),
        "cluster \"a\": connect_timeout: 0ns is not longer than 0ns"
    );
    assert_eq!(
        refused("{static_resources: {clusters: [{name: a}, {name: a}]}}"),
        "cluster \"a\": duplicate name in static_resources"
    );
    assert_eq!(refused("{static_resources: {secrets: [{}]}}"), "secret: name: must not be empty");
}

#[test]
fn rules_of_the_bootstrap_are_enforced() {
    assert_eq!(
        refused("{stats_flush_interval: 300s}"),
        "bootstrap: stats_flush_interval: 300s is not within 1ms and 300s"
    );
    assert_eq!(
        refused("{header_prefix: x-own}"),
        "bootstrap: header_prefix: only \"x-envoy\" is supported"
    );
    assert_eq!(
        refused("{dynamic_resources: {ads_config: {api_type: GRPC}}}"),
        "bootstrap: dynamic_resources.ads_config.transport_api_version: \
         V2 (and AUTO, which means V2) is gone; set it to V3"
    );
    assert_eq!(
        refused("{admin: {address: {socket_address: {address: localhost, port_value: 1}}}}"),
        "bootstrap: admin.address: malformed IP address: localhost; \
         only clusters of type STRICT_DNS and LOGICAL_DNS have names"
    );
}
