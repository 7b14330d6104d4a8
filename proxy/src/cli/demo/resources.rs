//! What the control plane serves in the demo, as a person would write it, and the sidecars' bootstraps.

use std::net::SocketAddr;

/// `node.id` of the client-side sidecar.
pub const CLIENT: &str = "client-sidecar";
/// `node.id` of the server-side sidecar.
pub const SERVER: &str = "server-sidecar";

/// Who the client-side sidecar is to the other one; the control plane's authority names a node after its `node.cluster`.
pub const CLIENT_ID: &str = "spiffe://cluster.local/shop";
/// Who the server-side sidecar is.
pub const SERVER_ID: &str = "spiffe://cluster.local/greeter";

/// A sidecar's bootstrap: who it is, its admin interface and where its control plane is. All the rest comes over ADS.
pub fn bootstrap(node: &str, admin: SocketAddr, control_plane: SocketAddr) -> String {
    let service = if node == CLIENT { "shop" } else { "greeter" };
    format!(
        "\
node: {{id: {node}, cluster: {service}}}
admin: {{address: {}}}
dynamic_resources:
  ads_config:
    api_type: GRPC
    transport_api_version: V3
    grpc_services: [{{envoy_grpc: {{cluster_name: control-plane}}}}]
  lds_config: {{ads: {{}}, resource_api_version: V3}}
  cds_config: {{ads: {{}}, resource_api_version: V3}}
static_resources:
  clusters:
  - name: control-plane
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: control-plane
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {}}}
",
        socket(admin),
        socket(control_plane)
    )
}

/// The client side's listener: its routes come by name.
pub fn outbound_listener(address: SocketAddr) -> String {
    listener("outbound", address, "rds: {route_config_name: greeter, config_source: {ads: {}}}", "")
}

/// The client side's routes: everything goes to these clusters, by weight.
pub fn routes(clusters: &[(&str, u32)]) -> String {
    let clusters =
        clusters.iter().map(|(name, weight)| format!("{{name: {name}, weight: {weight}}}"));
    format!(
        "\
'@type': type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: greeter
virtual_hosts:
- name: greeter
  domains: ['*']
  routes:
  - match: {{prefix: /}}
    route: {{weighted_clusters: {{clusters: [{}]}}}}
",
        clusters.collect::<Vec<_>>().join(", ")
    )
}

/// A cluster of the client side: endpoints come over EDS, and each request goes to the less busy of two random ones.
pub fn eds_cluster(name: &str) -> String {
    format!(
        "\
'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
name: {name}
type: EDS
eds_cluster_config: {{eds_config: {{ads: {{}}}}}}
connect_timeout: 1s
lb_policy: LEAST_REQUEST
{}
",
        mutual_tls("UpstreamTlsContext", SERVER_ID)
    )
}

/// A zone with the address of its one endpoint and whether that is healthy.
pub type Zone<'a> = (&'a str, SocketAddr, bool);

/// The endpoints of a cluster of the client side in several zones; each is used when those before it cannot serve.
pub fn zones(cluster: &str, zones: &[Zone<'_>]) -> String {
    let zones = zones.iter().enumerate().map(|(priority, (zone, at, healthy))| {
        let health = if *healthy { "HEALTHY" } else { "UNHEALTHY" };
        format!(
            "\
- locality: {{zone: {zone}}}
  priority: {priority}
  lb_endpoints: [{{health_status: {health}, endpoint: {{address: {}}}}}]
",
            socket(*at)
        )
    });
    format!(
        "\
'@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
cluster_name: {cluster}
endpoints:
{}",
        zones.collect::<String>()
    )
}

/// The endpoints of a cluster of the client side.
pub fn endpoints(cluster: &str, addresses: &[SocketAddr]) -> String {
    let endpoints =
        addresses.iter().map(|at| format!("{{endpoint: {{address: {}}}}}", socket(*at)));
    format!(
        "\
'@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
cluster_name: {cluster}
endpoints:
- locality: {{zone: demo}}
  lb_endpoints: [{}]
",
        endpoints.collect::<Vec<_>>().join(", ")
    )
}

/// The server side's listener in front of a replica, for the client side only.
pub fn inbound_listener(replica: &str, address: SocketAddr) -> String {
    let routes = format!(
        "route_config: {{name: {replica}, virtual_hosts: [{{name: {replica}, domains: ['*'], routes: \
         [{{match: {{prefix: /}}, route: {{cluster: {replica}}}}}]}}]}}"
    );
    listener(replica, address, &routes, &mutual_tls("DownstreamTlsContext", CLIENT_ID))
}

/// The server side's cluster of one replica.
pub fn local_cluster(replica: &str, address: SocketAddr) -> String {
    format!(
        "\
'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
name: {replica}
type: STATIC
connect_timeout: 1s
load_assignment:
  cluster_name: {replica}
  endpoints: [{{lb_endpoints: [{{endpoint: {{address: {}}}}}]}}]
",
        socket(address)
    )
}

/// Mutual TLS with the certificate and the trust that the control plane issues over SDS, and with this peer only.
fn mutual_tls(context: &str, peer: &str) -> String {
    let require =
        if context == "DownstreamTlsContext" { "require_client_certificate: true, " } else { "" };
    format!(
        "transport_socket: {{name: envoy.transport_sockets.tls, typed_config: {{'@type': type.googleapis.com/envoy.\
         extensions.transport_sockets.tls.v3.{context}, {require}common_tls_context: {{\
         tls_params: {{tls_maximum_protocol_version: TLSv1_3}}, \
         tls_certificate_sds_secret_configs: [{{name: default, sds_config: {{ads: {{}}}}}}], \
         combined_validation_context: {{default_validation_context: {{match_typed_subject_alt_names: [\
         {{san_type: URI, matcher: {{exact: '{peer}'}}}}]}}, \
         validation_context_sds_secret_config: {{name: ROOTCA, sds_config: {{ads: {{}}}}}}}}}}}}}}"
    )
}

fn listener(name: &str, address: SocketAddr, routes: &str, transport_socket: &str) -> String {
    format!(
        "\
'@type': type.googleapis.com/envoy.config.listener.v3.Listener
name: {name}
address: {}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: {name}
      {routes}
      http_filters:
      - name: envoy.filters.http.router
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  {transport_socket}
",
        socket(address)
    )
}

fn socket(address: SocketAddr) -> String {
    format!("{{socket_address: {{address: {}, port_value: {}}}}}", address.ip(), address.port())
}
