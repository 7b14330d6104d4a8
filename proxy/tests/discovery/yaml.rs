//! Resources as people write them.

use std::sync::LazyLock;

use control_plane_mock::Resource;
use prost::{Message, Name};
use proto::Registry;
use proto::envoy::config::cluster::v3::Cluster;
use proto::envoy::config::core::v3::DataSource;
use proto::envoy::config::core::v3::data_source::Specifier;
use proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use proto::envoy::config::listener::v3::Listener;
use proto::envoy::config::route::v3::RouteConfiguration;
use proto::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::load);

/// The message that a text describes.
pub fn parse<T: Message + Name + Default>(text: &str) -> T {
    REGISTRY.from_yaml(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn resource<T: Message + Name + Default>(text: &str) -> Resource {
    Resource::pack(&parse::<T>(text)).unwrap()
}

/// An initial fetch timeout that never passes in a test that goes well.
pub const LONG: &str = "60s";
/// One that a test waits for.
pub const SHORT: &str = "0.2s";

/// An EDS cluster whose endpoints come over ADS, and more of its fields.
pub fn cluster(name: &str, service: &str, more: &str) -> Resource {
    cluster_within(LONG, name, service, more)
}

/// The same with an initial fetch timeout.
pub fn cluster_within(timeout: &str, name: &str, service: &str, more: &str) -> Resource {
    resource::<Cluster>(&format!(
        "{{name: {name}, type: EDS, eds_cluster_config: {{service_name: {service}, eds_config: {{ads: {{}}, \
         initial_fetch_timeout: {timeout}, resource_api_version: V3}}}}, {more}}}"
    ))
}

/// A static cluster with one endpoint.
pub fn static_cluster(name: &str, port: u16) -> Resource {
    resource::<Cluster>(&format!(
        "{{name: {name}, type: STATIC, load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [\
         {{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]}}}}"
    ))
}

/// Endpoints of a service on these ports.
pub fn endpoints(service: &str, ports: &[u16]) -> Resource {
    let address = |port: &u16| {
        format!(
            "{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}"
        )
    };
    let all: Vec<String> = ports.iter().map(address).collect();
    resource::<ClusterLoadAssignment>(&format!(
        "{{cluster_name: {service}, endpoints: [{{lb_endpoints: [{}]}}]}}",
        all.join(", ")
    ))
}

/// A listener on a free port of the loopback address with these filter chains, and more of its fields.
pub fn listener(name: &str, chains: &str, more: &str) -> Resource {
    resource::<Listener>(&listener_text(name, chains, more))
}

/// The same as a text.
pub fn listener_text(name: &str, chains: &str, more: &str) -> String {
    format!(
        "{{name: {name}, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, \
         filter_chains: [{chains}], {more}}}"
    )
}

/// A filter chain whose routes come over ADS.
pub fn rds_chain(routes: &str) -> String {
    rds_chain_within(LONG, routes)
}

/// The same with an initial fetch timeout.
pub fn rds_chain_within(timeout: &str, routes: &str) -> String {
    chain(&format!(
        "rds: {{route_config_name: {routes}, config_source: {{ads: {{}}, initial_fetch_timeout: {timeout}, \
         resource_api_version: V3}}}}"
    ))
}

/// A filter chain that answers with this status.
pub fn direct_chain(status: u16) -> String {
    chain(&format!(
        "route_config: {{name: inline, virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, \
         direct_response: {{status: {status}}}}}]}}]}}"
    ))
}

/// A secret as it is written.
pub fn secret(text: &str) -> Resource {
    resource::<Secret>(text)
}

/// A secret with a certificate and its key.
pub fn certificate(name: &str, chain: &str, key: &str) -> Resource {
    let inline = |text: &str| DataSource {
        specifier: Some(Specifier::InlineString(text.to_owned())),
        ..DataSource::default()
    };
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(chain)),
        private_key: Some(inline(key)),
        ..TlsCertificate::default()
    };
    let kind = Some(secret::Type::TlsCertificate(certificate));
    Resource::pack(&Secret { name: name.to_owned(), r#type: kind }).unwrap()
}

/// The field that says where a secret comes from: ADS, with an initial fetch timeout.
pub fn sds_source(timeout: &str) -> String {
    format!(
        ", sds_config: {{ads: {{}}, initial_fetch_timeout: {timeout}, resource_api_version: V3}}"
    )
}

/// A TLS context of this kind, with its certificate and its trust over ADS.
fn tls_socket(kind: &str, timeout: &str, own: &str, trust: &str) -> String {
    let source = sds_source(timeout);
    format!(
        "transport_socket: {{name: envoy.transport_sockets.tls, typed_config: {{'@type': type.googleapis.com/envoy.\
         extensions.transport_sockets.tls.v3.{kind}, common_tls_context: {{tls_certificate_sds_secret_configs: [\
         {{name: '{own}'{source}}}], combined_validation_context: {{default_validation_context: {{}}, \
         validation_context_sds_secret_config: {{name: '{trust}'{source}}}}}}}}}}}"
    )
}

/// A filter chain that speaks TLS.
pub fn tls_chain(timeout: &str, own: &str, trust: &str) -> String {
    let socket = tls_socket("DownstreamTlsContext", timeout, own, trust);
    direct_chain(200).replacen("{filters", &format!("{{{socket}, filters"), 1)
}

/// A static cluster that speaks TLS.
pub fn tls_cluster(timeout: &str, name: &str, own: &str, trust: &str) -> Resource {
    let socket = tls_socket("UpstreamTlsContext", timeout, own, trust);
    resource::<Cluster>(&format!("{{name: {name}, type: STATIC, {socket}}}"))
}

fn chain(routes: &str) -> String {
    format!(
        "{{filters: [{{name: hcm, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.\
         http_connection_manager.v3.HttpConnectionManager, stat_prefix: in, {routes}, http_filters: [{{name: router, \
         typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]}}}}]}}"
    )
}

/// Routes of everything to a cluster.
pub fn routes(name: &str, cluster: &str, more: &str) -> Resource {
    resource::<RouteConfiguration>(&format!(
        "{{name: {name}, virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, \
         route: {{cluster: {cluster}}}}}]}}], {more}}}"
    ))
}
