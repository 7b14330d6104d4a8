use super::*;
use crate::config::cluster::{Discovery, DnsFamily, RetryBudget, Thresholds, UpstreamProtocol};
use crate::config::source::SourceKind;
use proto::Registry;

/// Translates the cluster `a` with these fields beside its name.
fn warned(fields: &str) -> Result<(Cluster, Vec<String>), String> {
    let yaml = format!("{{name: a, {fields}}}");
    let message: pb::Cluster =
        Registry::load().from_yaml(&yaml).expect("the test's YAML is a message");
    let at = At::resource("cluster", &message.name);
    let context = Context::default();
    Cluster::from_proto(&message, &at, &context)
        .map(|cluster| (cluster, context.take_warnings()))
        .map_err(|error| error.to_string())
}

/// Translates a cluster that gives no warnings.
fn translate(fields: &str) -> Cluster {
    let (cluster, warnings) = warned(fields).expect("it is valid");
    assert_eq!(warnings, Vec::<String>::new());
    cluster
}

/// Asserts that the cluster is refused with this error, after the cluster's name.
fn refuses(fields: &str, error: &str) {
    assert_eq!(warned(fields).expect_err(fields), format!("cluster \"a\": {error}"));
}

const UNSUPPORTED: &str = "is not supported by this version of Pillion; remove the field";

const ONE_NAME: &str = "load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [\
    {endpoint: {address: {socket_address: {address: web, port_value: 80}}}}]}]}";

fn http(options: &str) -> String {
    const NAME: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    format!(
        "typed_extension_protocol_options: {{{NAME}: {{\"@type\": type.googleapis.com/{NAME}, {options}}}}}"
    )
}

#[test]
fn defaults_are_envoys() {
    let cluster = translate("");
    assert!(matches!(&cluster.discovery, Discovery::Static(none) if none.localities.is_empty()));
    assert_eq!(cluster.connect_timeout, Duration::from_secs(5));
    assert_eq!(cluster.buffer_limit, 1 << 20);
    assert_eq!(*cluster.lb, LoadBalancing::default());
    assert_eq!(*cluster.circuit_breakers, [Thresholds::default(); 2]);
    assert_eq!(cluster.protocol, UpstreamProtocol::Http1);
    assert_eq!(cluster.http.idle_timeout, Some(Duration::from_secs(3600)));
    assert!(cluster.tls.is_none() && cluster.metadata.is_none());
    assert!(Arc::ptr_eq(&cluster.name, &cluster.stat_name));
}

#[test]
fn colons_would_end_a_name_in_statistics() {
    assert_eq!(&*translate("alt_stat_name: 'x:y;'").stat_name, "x_y;");
}

#[test]
fn eds_asks_for_the_service_name_or_the_clusters() {
    let eds = |config: &str| {
        let fields =
            format!("type: EDS, eds_cluster_config: {{eds_config: {{ads: {{}}}}{config}}}");
        match translate(&fields).discovery {
            Discovery::Eds { source, service_name } => (source, service_name),
            other => panic!("not EDS: {other:?}"),
        }
    };
    let (source, name) = eds("");
    assert_eq!((source.kind, &*name), (SourceKind::Ads, "a"));
    assert_eq!(&*eds(", service_name: b").1, "b");
    refuses("type: EDS", "eds_cluster_config: is required");
    refuses("type: EDS, eds_cluster_config: {}", "eds_cluster_config.eds_config: is required");
    refuses("eds_cluster_config: {}", "eds_cluster_config: is for clusters of type EDS");
}

#[test]
fn dns_clusters_have_names_and_their_own_clocks() {
    let fields = format!(
        "type: STRICT_DNS, dns_lookup_family: V4_ONLY, dns_refresh_rate: 3s, respect_dns_ttl: true, \
         dns_failure_refresh_rate: {{base_interval: 2s}}, {ONE_NAME}"
    );
    let Discovery::StrictDns { assignment, dns } = translate(&fields).discovery else {
        panic!("not STRICT_DNS");
    };
    assert_eq!(assignment.endpoint_count(), 1);
    assert_eq!(dns.family, DnsFamily::V4Only);
    assert_eq!(dns.refresh_rate, Duration::from_secs(3));
    assert_eq!(dns.failure_refresh, (Duration::from_secs(2), Duration::from_secs(20)));
    assert!(dns.respect_ttl);
}

#[test]
fn the_dns_extension_is_strict_or_logical() {
    let dns = |more: &str| {
        translate(&format!(
            "cluster_type: {{name: envoy.clusters.dns, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster, \
             dns_lookup_family: ALL{more}}}}}, {ONE_NAME}"
        ))
        .discovery
    };
    assert!(matches!(dns(""), Discovery::StrictDns { dns, .. } if dns.family == DnsFamily::All));
    assert!(matches!(
        dns(", all_addresses_in_single_endpoint: true"),
        Discovery::LogicalDns { .. }
    ));
}

#[test]
fn discovery_rules_are_enforced() {
    refuses(
        "type: LOGICAL_DNS",
        "load_assignment: LOGICAL_DNS clusters must have a single locality_lb_endpoint and a \
         single lb_endpoint",
    );
    refuses(
        &format!("type: STATIC, {ONE_NAME}"),
        "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address: malformed IP address: web; \
         only clusters of type STRICT_DNS and LOGICAL_DNS have names",
    );
    refuses(
        "type: STRICT_DNS, dns_refresh_rate: 0.001s",
        "dns_refresh_rate: 1ms is not longer than 1ms",
    );
    refuses(
        "type: STRICT_DNS, dns_failure_refresh_rate: {base_interval: 5s, max_interval: 1s}",
        "dns_failure_refresh_rate: max_interval must be greater than or equal to base_interval",
    );
    refuses(
        "cluster_type: {name: envoy.clusters.aggregate}",
        "cluster_type.typed_config: didn't find a registered implementation for \
         \"envoy.clusters.aggregate\" with type URL \"\": Pillion has no such extension",
    );
}

#[test]
fn original_destinations_need_their_own_policy() {
    let provided = "type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED";
    let cluster = translate(&format!(
        "{provided}, original_dst_lb_config: {{use_http_header: true, upstream_port_override: 9}}"
    ));
    let Discovery::OriginalDst { header, port_override, cleanup_interval } = cluster.discovery
    else {
        panic!("not ORIGINAL_DST");
    };
    assert_eq!(header.expect("it is used").as_str(), "x-envoy-original-dst-host");
    assert_eq!((port_override, cleanup_interval), (Some(9), Duration::from_secs(5)));
    refuses(
        "type: ORIGINAL_DST",
        "lb_policy: only CLUSTER_PROVIDED is allowed with cluster type ORIGINAL_DST",
    );
    refuses(
        "lb_policy: CLUSTER_PROVIDED",
        "lb_policy: CLUSTER_PROVIDED is allowed with ORIGINAL_DST and aggregate only",
    );
    refuses(
        &format!("{provided}, original_dst_lb_config: {{http_header_name: x}}"),
        "original_dst_lb_config.http_header_name: is set while use_http_header is not",
    );
    refuses(
        &format!("{provided}, load_assignment: {{cluster_name: a}}"),
        "load_assignment: ORIGINAL_DST clusters must have no load assignment configured",
    );
}

#[test]
fn the_protocol_is_explicit_automatic_or_the_downstreams() {
    let protocol = |options: &str| translate(&http(options)).protocol;
    assert_eq!(
        protocol("explicit_http_config: {http2_protocol_options: {}}"),
        UpstreamProtocol::Http2
    );
    assert_eq!(
        protocol("explicit_http_config: {http_protocol_options: {}}"),
        UpstreamProtocol::Http1
    );
    assert_eq!(protocol("use_downstream_protocol_config: {}"), UpstreamProtocol::UseDownstream);
    assert_eq!(translate("http2_protocol_options: {}").protocol, UpstreamProtocol::Http2);
    assert_eq!(
        translate("protocol_selection: USE_DOWNSTREAM_PROTOCOL").protocol,
        UpstreamProtocol::UseDownstream
    );
    let path = "typed_extension_protocol_options[\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"]";
    refuses(
        &http("auto_config: {}"),
        &format!("{path}.auto_config: needs a transport socket with ALPN, which is TLS"),
    );
    refuses(
        &http("explicit_http_config: {http3_protocol_options: {}}"),
        &format!("{path}.explicit_http_config.http3_protocol_options: {UNSUPPORTED}"),
    );
    refuses(
        &http("explicit_http_config: {http2_protocol_options: {initial_stream_window_size: 9}}"),
        &format!(
            "{path}.explicit_http_config.http2_protocol_options.initial_stream_window_size: \
             9 is not within 65535 and 2147483647"
        ),
    );
}

#[test]
fn kumas_http_options_are_understood() {
    let cluster = translate(&http(
        "common_http_protocol_options: {idle_timeout: 0s, maxConnectionDuration: 0s, \
         max_stream_duration: 4s}, explicit_http_config: {http_protocol_options: {}}",
    ));
    assert_eq!(cluster.http.idle_timeout, None);
    assert_eq!(cluster.http.max_connection_duration, None);
    assert_eq!(cluster.http.max_stream_duration, Some(Duration::from_secs(4)));
}

#[test]
fn circuit_breakers_are_per_priority_and_the_first_counts() {
    let cluster = translate(
        "circuit_breakers: {thresholds: [{max_requests: 7}, {max_requests: 8}, \
         {priority: HIGH, max_retries: 9, track_remaining: true}]}",
    );
    let [default, high] = *cluster.circuit_breakers;
    assert_eq!((default.max_requests, default.max_connections), (7, 1024));
    assert_eq!((high.max_retries, high.track_remaining), (9, true));
    refuses(
        "circuit_breakers: {per_host_thresholds: [{max_retries: 1}]}",
        &format!("circuit_breakers.per_host_thresholds[0].max_retries: {UNSUPPORTED}"),
    );
}

#[test]
fn retries_are_limited_by_a_number_or_a_budget() {
    let thresholds = |yaml: &str| {
        let cluster = translate(&format!("circuit_breakers: {{thresholds: [{yaml}]}}"));
        cluster.circuit_breakers[0]
    };
    assert!(!thresholds("{}").limits_retries);
    assert!(thresholds("{max_retries: 5}").limits_retries);
    assert!(!thresholds("{max_retries: 4294967295}").limits_retries);
    let budget = thresholds("{retry_budget: {}}");
    assert!(budget.limits_retries);
    assert_eq!(budget.retry_budget, Some(RetryBudget { percent: 20.0, min: 3 }));
    let breakers = translate("circuit_breakers: {per_host_thresholds: [{max_connections: 7}]}");
    assert_eq!(breakers.circuit_breakers[0].max_connections_per_host, 7);
    assert_eq!(breakers.circuit_breakers[1].max_connections_per_host, u32::MAX);
}

#[test]
fn connections_start_from_the_source_of_the_hosts_ip_version() {
    let socket = |address: &str| format!("{{address: {address}, port_value: 0}}");
    let bind = |second: &str| {
        format!(
            "upstream_bind_config: {{source_address: {}, extra_source_addresses: [{{address: {}}}]}}",
            socket("127.0.0.6"),
            socket(second)
        )
    };
    let cluster = translate(&bind("'::6'"));
    let source = |host: &str| {
        let host = crate::io::Address::Ip(host.parse().expect("an address"));
        cluster.source_for(&host).map(|source| source.ip().to_string())
    };
    assert_eq!(source("10.0.0.1:80").as_deref(), Some("127.0.0.6"));
    assert_eq!(source("[::1]:80").as_deref(), Some("::6"));
    refuses(
        &bind("127.0.0.7"),
        "upstream_bind_config.extra_source_addresses[0].address: must be of the other IP version \
         than source_address",
    );
}

#[test]
fn what_changes_traffic_and_is_not_there_is_refused_by_name() {
    for (field, value) in
        [("connection_pool_per_downstream_connection", "true"), ("upstream_config", "{name: tcp}")]
    {
        refuses(&format!("{field}: {value}"), &format!("{field}: {UNSUPPORTED}"));
    }
}

#[test]
fn what_changes_no_traffic_is_accepted_with_a_warning() {
    let (_, warnings) = warned(
        "track_cluster_stats: {}, lrs_server: {self: {}}, wait_for_warm_on_init: false, \
         common_lb_config: {update_merge_window: 1s}",
    )
    .expect("it is valid");
    let fields: Vec<_> = warnings.iter().map(|text| text.split(": ").nth(1)).collect();
    let expected = [
        "track_cluster_stats",
        "lrs_server",
        "wait_for_warm_on_init",
        "common_lb_config.update_merge_window",
    ];
    assert_eq!(fields, expected.map(Some));
}

#[test]
fn plain_rules_are_enforced() {
    refuses("connect_timeout: 0s", "connect_timeout: 0ns is not longer than 0ns");
    refuses("connect_timeout: -1s", "connect_timeout: duration is negative (-1 s, 0 ns)");
    refuses(
        "common_lb_config: {healthy_panic_threshold: {value: 101}}",
        "common_lb_config.healthy_panic_threshold: 101 is not within 0 and 100",
    );
    refuses(
        "transport_socket: {name: x, typed_config: {\"@type\": type.googleapis.com/google.protobuf.Empty, value: {}}}",
        "transport_socket.typed_config: didn't find a registered implementation for \"x\" with type \
         URL \"type.googleapis.com/google.protobuf.Empty\": Pillion has no such extension",
    );
    let at = At::resource("cluster", "");
    let error = Cluster::from_proto(&pb::Cluster::default(), &at, &Context::default());
    assert_eq!(error.expect_err("no name").to_string(), "cluster: name: must not be empty");
}

#[test]
fn the_model_of_a_cluster_is_small() {
    assert!(size_of::<Cluster>() <= 512, "{}", size_of::<Cluster>());
    let endpoint = size_of::<crate::config::endpoint::Endpoint>();
    assert!(endpoint <= 72, "{endpoint}");
}
