use proto::Registry;
use proto::envoy::config::cluster::v3 as pb;

use super::*;
use crate::config::{At, Context as ConfigContext};
use crate::telemetry::stats::Store;

const YAML: &str = "
name: a:b
connect_timeout: 1s
type: STATIC
circuit_breakers: {thresholds: [{max_connections: 7}]}
load_assignment:
  cluster_name: a:b
  endpoints:
  - locality: {region: r, zone: z, sub_zone: s}
    priority: 0
    lb_endpoints:
    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9}}, hostname: h}
      health_status: DEGRADED
      load_balancing_weight: 3
      metadata: {filter_metadata: {envoy.lb: {canary: true}}}
";

fn row(added_via_api: bool) -> Row {
    let message: pb::Cluster = Registry::load().from_yaml(YAML).unwrap();
    let at = At::resource("cluster", "a:b");
    let config =
        crate::config::cluster::Cluster::from_proto(&message, &at, &ConfigContext::default());
    let cluster = Cluster::new(
        Arc::new(config.unwrap()),
        &Arc::new(Store::default()),
        &crate::upstream::cluster::ClusterRegistry::new(&Store::default()),
        None,
    );
    Row { cluster, added_via_api }
}

#[test]
fn text_has_envoys_lines_in_envoys_order() {
    let row = row(false);
    row.cluster.hosts().hosts()[0].stats.rq_total.add(2);
    let expected = "a:b::observability_name::a:b
a:b::default_priority::max_connections::7
a:b::default_priority::max_pending_requests::1024
a:b::default_priority::max_requests::1024
a:b::default_priority::max_retries::3
a:b::high_priority::max_connections::1024
a:b::high_priority::max_pending_requests::1024
a:b::high_priority::max_requests::1024
a:b::high_priority::max_retries::3
a:b::added_via_api::false
a:b::127.0.0.1:9::cx_active::0
a:b::127.0.0.1:9::cx_connect_fail::0
a:b::127.0.0.1:9::cx_total::0
a:b::127.0.0.1:9::rq_active::0
a:b::127.0.0.1:9::rq_error::0
a:b::127.0.0.1:9::rq_success::0
a:b::127.0.0.1:9::rq_timeout::0
a:b::127.0.0.1:9::rq_total::2
a:b::127.0.0.1:9::hostname::h
a:b::127.0.0.1:9::health_flags::/degraded_eds_health
a:b::127.0.0.1:9::weight::3
a:b::127.0.0.1:9::region::r
a:b::127.0.0.1:9::zone::z
a:b::127.0.0.1:9::sub_zone::s
a:b::127.0.0.1:9::canary::true
a:b::127.0.0.1:9::priority::0
a:b::127.0.0.1:9::success_rate::-1
a:b::127.0.0.1:9::local_origin_success_rate::-1
";
    assert_eq!(text_of(&[row]), expected);
}

#[test]
fn json_is_a_clusters_message() {
    let row = row(true);
    let host = Arc::clone(&row.cluster.hosts().hosts()[0]);
    host.stats.cx_active.add(1);
    host.set_health_flag(HealthFlags::FAILED_OUTLIER_CHECK, true);
    let value = json_of(&[row]);
    let message: proto::envoy::admin::v3::Clusters =
        Registry::load().from_json(&value.to_string()).unwrap();
    let status = &message.cluster_statuses[0];
    assert!(status.added_via_api);
    assert_eq!((status.name.as_str(), status.observability_name.as_str()), ("a:b", "a:b"));
    let breakers = status.circuit_breakers.as_ref().unwrap();
    assert_eq!(breakers.thresholds[0].max_connections.unwrap().value, 7);
    assert_eq!(breakers.thresholds[1].priority, 1);
    let host = &status.host_statuses[0];
    assert_eq!((host.weight, host.hostname.as_str()), (3, "h"));
    assert_eq!(host.locality.as_ref().unwrap().zone, "z");
    let health = host.health_status.as_ref().unwrap();
    assert!(health.failed_outlier_check && !health.failed_active_health_check);
    assert_eq!(value["cluster_statuses"][0]["host_statuses"][0]["stats"][0]["value"], "1");
}

#[test]
fn no_cluster_is_an_empty_message() {
    assert_eq!((text_of(&[]).as_str(), json_of(&[])), ("", json!({})));
}
