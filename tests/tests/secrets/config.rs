//! Listeners and clusters that speak mutual TLS with secrets over SDS.

use std::net::SocketAddr;
use std::path::Path;

use control_plane_mock::ControlPlane;
use pillion_tests::programs::free_address;
use pillion_tests::scenario::Protocol;
use pillion_tests::scenario::config::{cluster, http_listener, merge, resource};
use serde_json::{Value, json};

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// Where secrets come from.
pub const ADS: Source<'static> = Source::Ads;

/// Where secrets come from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// The aggregated stream.
    Ads,
    /// A stream of their own through this cluster, in this variant of the protocol.
    Cluster(&'a str, &'a str),
}

/// The names of the secrets of a TLS context.
pub struct Names<'a> {
    /// The certificate that is shown.
    pub own: &'a str,
    /// Whom to trust.
    pub trust: &'a str,
}

impl Names<'static> {
    /// What the control plane's authority issues.
    pub const ISSUED: Names<'static> = Names { own: "default", trust: "ROOTCA" };
}

/// An `sds_config`.
pub fn sds(source: Source<'_>, initial_fetch_timeout: &str) -> Value {
    let mut config =
        json!({"initial_fetch_timeout": initial_fetch_timeout, "resource_api_version": "V3"});
    match source {
        Source::Ads => config["ads"] = json!({}),
        Source::Cluster(name, api_type) => {
            config["api_config_source"] = json!({
                "api_type": api_type,
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": name}}],
            });
        }
    }
    config
}

fn context(kind: &str, names: &Names<'_>, source: &Value) -> Value {
    let secret = |name: &str| match source {
        Value::Null => json!({"name": name}),
        source => json!({"name": name, "sds_config": source}),
    };
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": format!("{TLS}.{kind}"),
        "common_tls_context": {
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [secret(names.own)],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": [
                    {"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}},
                ]},
                "validation_context_sds_secret_config": secret(names.trust),
            },
        },
    }})
}

/// The listener, whose clients must show a certificate.
pub fn tls_listener(mut listener: Value, names: &Names<'_>, source: &Value) -> Value {
    let mut socket = context("DownstreamTlsContext", names, source);
    socket["typed_config"]["require_client_certificate"] = json!(true);
    listener["filter_chains"][0]["transport_socket"] = socket;
    listener
}

/// The cluster, with TLS and a new connection for each request.
pub fn tls_cluster(mut cluster: Value, names: &Names<'_>, source: &Value) -> Value {
    let once = json!({
        "transport_socket": context("UpstreamTlsContext", names, source),
        "max_requests_per_connection": 1,
    });
    merge(&mut cluster, &once);
    cluster
}

/// The cluster of an agent on a unix socket.
pub fn socket_cluster(name: &str, path: &Path) -> Value {
    let mut cluster = cluster(name, Protocol::Http2, &[]);
    let address = json!({"pipe": {"path": path}});
    cluster["load_assignment"]["endpoints"] =
        json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    cluster
}

/// Both sides of a mesh in one proxy: a plain listener, whose cluster `mesh` speaks mutual TLS to a second listener, which sends
/// everything to the server.
pub struct Mesh {
    /// The plain listener.
    pub plain: SocketAddr,
    /// The listener with TLS.
    pub tls: SocketAddr,
}

/// A mesh with issued identities over ADS.
pub fn mesh(control_plane: &ControlPlane, upstream: SocketAddr) -> Mesh {
    mesh_listener(control_plane, upstream, "60s")
}

/// The same with an initial fetch timeout of the secrets.
pub fn mesh_listener(control_plane: &ControlPlane, upstream: SocketAddr, timeout: &str) -> Mesh {
    let mesh = Mesh { plain: free_address(), tls: free_address() };
    let resources = mesh.resources(upstream, &Names::ISSUED, &sds(ADS, timeout));
    control_plane.put(resources.iter().map(resource));
    mesh
}

impl Mesh {
    /// The resources, with these secrets on both sides.
    pub fn resources(&self, upstream: SocketAddr, names: &Names<'_>, source: &Value) -> [Value; 4] {
        [
            cluster("up", Protocol::Http1, &[upstream]),
            tls_cluster(cluster("mesh", Protocol::Http1, &[self.tls]), names, source),
            tls_listener(http_listener(self.tls, "up", &json!({})), names, source),
            http_listener(self.plain, "mesh", &json!({"stat_prefix": "plain"})),
        ]
    }
}
