//! Resources as a control plane sends them: whatever bytes come, a resource is taken or refused by its path.

use pillion::config::cluster::Cluster;
use pillion::config::endpoint::Assignment;
use pillion::config::listener::Listener;
use pillion::config::route::RouteConfiguration;
use pillion::config::{At, ConfigError, Context};
use prost::{Message, Name};
use proto::Registry;
use proto::envoy::config::cluster::v3 as cluster_pb;
use proto::envoy::config::endpoint::v3 as endpoint_pb;
use proto::envoy::config::listener::v3 as listener_pb;
use proto::envoy::config::route::v3 as route_pb;

use super::Check;
use super::input::bytes;

/// A listener that has a bit of everything.
pub const LISTENER: &str = "
name: l
address: {socket_address: {address: 127.0.0.1, port_value: 80}}
listener_filters:
- name: p
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol
filter_chains:
- name: c
  filter_chain_match: {server_names: ['*.a'], prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}
  filters:
  - name: h
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: s
      stream_idle_timeout: 1.5s
      http_filters:
      - name: r
        typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
      route_config:
        virtual_hosts:
        - {name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: c, timeout: 1s}}]}
";

const ROUTES: &str = "
name: r
request_headers_to_add: [{header: {key: x, value: '%REQ(y)%'}, append_action: ADD_IF_ABSENT}]
virtual_hosts:
- name: v
  domains: ['*.a', 'b:80', 'c.*']
  routes:
  - match: {safe_regex: {regex: '/a(b|c)+'}, headers: [{name: h, string_match: {suffix: z}, invert_match: true}]}
    route: {weighted_clusters: {clusters: [{name: a, weight: 1}, {name: b, weight: 2}]}}
  - {match: {path_separated_prefix: /x}, redirect: {https_redirect: true, regex_rewrite: {pattern: {regex: x}, substitution: z}}}
  - {match: {path: /d}, direct_response: {status: 200, body: {inline_string: d}}}
";

const CLUSTER: &str = "
name: c
type: STATIC
connect_timeout: 1s
circuit_breakers: {thresholds: [{max_connections: 1}]}
load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: '::1', port_value: 1}}}}]}]}
";

const ENDPOINTS: &str = "
cluster_name: c
policy: {overprovisioning_factor: 150, drop_overloads: [{category: x, drop_percentage: {numerator: 5}}]}
endpoints:
- {priority: 1, locality: {region: r}, load_balancing_weight: 3, lb_endpoints: [{health_status: DRAINING, load_balancing_weight: 2, endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 65535}}}}]}
";

/// Translates a listener as LDS does.
pub fn translate_listener(message: &listener_pb::Listener) -> Result<Listener, ConfigError> {
    Listener::from_proto(message, &At::resource("listener", &message.name), &Context::default())
}

/// Listeners.
pub fn listener() -> Check {
    resource(LISTENER, |message| translate_listener(message).map(drop))
}

/// Clusters.
pub fn cluster() -> Check {
    resource(CLUSTER, |message: &cluster_pb::Cluster| {
        Cluster::from_proto(message, &At::resource("cluster", &message.name), &Context::default())
            .map(drop)
    })
}

/// Route tables.
pub fn route_configuration() -> Check {
    resource(ROUTES, |message: &route_pb::RouteConfiguration| {
        let at = At::resource("route configuration", &message.name);
        RouteConfiguration::from_proto(message, &at, &Context::default()).map(drop)
    })
}

/// Endpoints.
pub fn endpoints() -> Check {
    resource(ENDPOINTS, |message: &endpoint_pb::ClusterLoadAssignment| {
        let at = At::resource("endpoints", &message.cluster_name);
        Assignment::from_proto(message, &at, &Context::default()).map(drop)
    })
}

fn resource<T: Message + Name + Default + 'static>(
    sample: &str,
    translate: impl Fn(&T) -> Result<(), ConfigError> + 'static,
) -> Check {
    const WORDS: &[&[u8]] =
        &[b"\x08\xff\xff\xff\xff\x0f", b"\x0a\x00", b"\x12\x02*.", b"\xff", b"\x10\x00"];
    let sample = Registry::load().from_yaml::<T>(sample).expect("the sample is good");
    translate(&sample).expect("the sample is good");
    let sample = sample.encode_to_vec();
    Box::new(move |rng| {
        let Ok(message) = T::decode(&*bytes(rng, &[&sample], WORDS)) else { return };
        if let Err(error) = translate(&message) {
            assert!(!error.path.is_empty() && !error.message.is_empty(), "{error:?}");
        }
    })
}
