//! The bootstrap that Envoy and Pillion both read.

use std::net::SocketAddr;

use control_plane_mock::Svid;
use serde_json::{Value, json};

use super::{Protocol, Work, idle_endpoints};

/// A bootstrap with one listener at `listen` that forwards to the upstream of `work`. Statistics are on, as they are
/// by default; there is no access log.
pub fn bootstrap(admin: SocketAddr, listen: SocketAddr, work: &Work) -> Value {
    let mut clusters = vec![cluster("upstream", work.protocol, [work.upstream])];
    clusters.extend(
        (0..work.idle_clusters)
            .map(|n| cluster(&format!("idle_{n}"), work.protocol, idle_endpoints(n))),
    );
    json!({
        "node": { "id": "bench", "cluster": "bench" },
        "admin": { "address": socket_address(admin) },
        "static_resources": {
            "listeners": [listener(listen, network_filter(work.protocol))],
            "clusters": clusters,
        },
    })
}

/// A bootstrap that takes its clusters from the management server at `server`, over ADS of the kind `api_type`
/// (`GRPC` or `DELTA_GRPC`).
pub fn ads_bootstrap(admin: SocketAddr, server: SocketAddr, api_type: &str) -> Value {
    json!({
        "node": { "id": "bench", "cluster": "bench" },
        "admin": { "address": socket_address(admin) },
        "dynamic_resources": {
            "ads_config": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "ads" } }],
            },
            "cds_config": { "ads": {}, "resource_api_version": "V3" },
        },
        "static_resources": { "clusters": [cluster("ads", Protocol::Grpc, [server])] },
    })
}

/// Which side of a mesh hop a proxy is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Beside the client: plaintext in, mutual TLS out.
    Outbound,
    /// Beside the server: mutual TLS in, plaintext out.
    Inbound,
}

/// As [`bootstrap`], for one side of a mesh hop: `identity` is what the proxy shows, `authority` (PEM) whom it trusts.
pub fn mesh_bootstrap(
    admin: SocketAddr,
    listen: SocketAddr,
    work: &Work,
    side: Side,
    identity: &Svid,
    authority: &str,
) -> Value {
    let mut bootstrap = bootstrap(admin, listen, work);
    let resources = &mut bootstrap["static_resources"];
    match side {
        Side::Outbound => {
            resources["clusters"][0]["transport_socket"] =
                tls("UpstreamTlsContext", identity, authority);
        }
        Side::Inbound => {
            let mut socket = tls("DownstreamTlsContext", identity, authority);
            socket["typed_config"]["require_client_certificate"] = json!(true);
            resources["listeners"][0]["filter_chains"][0]["transport_socket"] = socket;
        }
    }
    bootstrap
}

/// As [`mesh_bootstrap`] for the inbound side, where the certificate is the secret `default` of the management server at
/// `server`, over delta ADS.
pub fn rotating_bootstrap(
    admin: SocketAddr,
    listen: SocketAddr,
    work: &Work,
    server: SocketAddr,
    authority: &str,
) -> Value {
    let nobody = Svid { certificate_chain: String::new(), private_key: String::new() };
    let mut bootstrap = mesh_bootstrap(admin, listen, work, Side::Inbound, &nobody, authority);
    let ads = ads_bootstrap(admin, server, "DELTA_GRPC");
    let resources = &mut bootstrap["static_resources"];
    let chain = &mut resources["listeners"][0]["filter_chains"][0];
    let common = &mut chain["transport_socket"]["typed_config"]["common_tls_context"];
    common["tls_certificates"] = json!([]);
    let source = json!({ "ads": {}, "resource_api_version": "V3" });
    common["tls_certificate_sds_secret_configs"] =
        json!([{ "name": "default", "sds_config": source }]);
    let clusters = resources["clusters"].as_array_mut().expect("the bootstrap has a list of them");
    clusters.push(ads["static_resources"]["clusters"][0].clone());
    bootstrap["dynamic_resources"] = ads["dynamic_resources"].clone();
    bootstrap
}

/// A TLS context as control planes of meshes write it: TLS 1.3, peers by trust domain.
fn tls(context: &str, identity: &Svid, authority: &str) -> Value {
    let inline = |text: &str| json!({ "inline_string": text });
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{context}"),
            "common_tls_context": {
                "tls_params": { "tls_maximum_protocol_version": "TLSv1_3" },
                "tls_certificates": [{
                    "certificate_chain": inline(&identity.certificate_chain),
                    "private_key": inline(&identity.private_key),
                }],
                "validation_context": {
                    "trusted_ca": inline(authority),
                    "match_typed_subject_alt_names": [
                        { "san_type": "URI", "matcher": { "prefix": "spiffe://cluster.local/" } },
                    ],
                },
            },
        },
    })
}

/// `core.v3.Address`.
fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

/// `cluster.v3.Cluster` of type STATIC.
fn cluster(
    name: &str,
    protocol: Protocol,
    endpoints: impl IntoIterator<Item = SocketAddr>,
) -> Value {
    let endpoints: Vec<Value> = endpoints
        .into_iter()
        .map(|address| json!({ "endpoint": { "address": socket_address(address) } }))
        .collect();
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    });
    if matches!(protocol, Protocol::Http2 | Protocol::Grpc) {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
    }
    cluster
}

fn listener(address: SocketAddr, filter: Value) -> Value {
    json!({
        "name": "bench",
        "address": socket_address(address),
        "filter_chains": [{ "filters": [filter] }],
    })
}

fn network_filter(protocol: Protocol) -> Value {
    if protocol == Protocol::Tcp {
        return json!({
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "bench",
                "cluster": "upstream",
            },
        });
    }
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "bench",
            "route_config": {
                "name": "bench",
                "virtual_hosts": [{
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "upstream" } }],
                }],
            },
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
            }],
        },
    })
}
