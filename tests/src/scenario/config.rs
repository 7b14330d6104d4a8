//! Configuration for scenarios, as JSON: the plainest that works, to be changed by a merge patch.

use std::net::SocketAddr;

use control_plane_mock::{ControlPlane, Resource, parse_documents};
use proto::{Format, type_url};
use serde_json::{Value, json};

use super::client::Protocol;
use crate::differential::bootstrap::{HCM, HTTP_OPTIONS, ROUTER};

pub use crate::differential::bootstrap::merge;

const TCP_PROXY: &str =
    "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
/// The cluster of the control plane.
const CONTROL_PLANE: &str = "control_plane";

/// A bootstrap with everything in it.
pub fn static_bootstrap(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({
        "node": {"id": "sidecar", "cluster": "scenario"},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

/// A bootstrap that takes listeners and clusters over ADS. `api_type` is `GRPC` (state of the world) or `DELTA_GRPC`.
pub fn ads_bootstrap(control_plane: SocketAddr, api_type: &str) -> Value {
    json!({
        "node": {"id": "sidecar", "cluster": "scenario"},
        "static_resources": {"clusters": [cluster(CONTROL_PLANE, Protocol::Http2, &[control_plane])]},
        "dynamic_resources": {
            "cds_config": ads(),
            "lds_config": ads(),
            "ads_config": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": CONTROL_PLANE}}],
            },
        },
    })
}

/// A config source: the ADS stream.
pub fn ads() -> Value {
    json!({"ads": {}, "resource_api_version": "V3"})
}

/// A listener that speaks HTTP and sends everything to `cluster`. `hcm` is a merge patch over the connection manager.
pub fn http_listener(address: SocketAddr, cluster: &str, hcm: &Value) -> Value {
    let mut config = json!({
        "@type": HCM,
        "stat_prefix": "ingress",
        "route_config": routes(cluster),
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    });
    merge(&mut config, hcm);
    listener(address, "envoy.filters.network.http_connection_manager", config)
}

/// A listener that speaks HTTP and takes the route table `routes` over ADS.
pub fn rds_listener(address: SocketAddr) -> Value {
    let rds = json!({"route_config_name": "routes", "config_source": ads()});
    http_listener(address, "", &json!({"route_config": null, "rds": rds}))
}

/// A listener that relays TCP to `cluster`.
pub fn tcp_listener(address: SocketAddr, cluster: &str) -> Value {
    let config = json!({"@type": TCP_PROXY, "stat_prefix": "tcp", "cluster": cluster});
    listener(address, "envoy.filters.network.tcp_proxy", config)
}

fn listener(address: SocketAddr, filter: &str, config: Value) -> Value {
    json!({
        "name": format!("on-{}", address.port()),
        "address": socket(address),
        "filter_chains": [{"name": "chain", "filters": [{"name": filter, "typed_config": config}]}],
    })
}

/// The route table `routes`: everything goes to `cluster`, for as long as it takes.
pub fn routes(cluster: &str) -> Value {
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}});
    json!({
        "name": "routes",
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
    })
}

/// A cluster with fixed endpoints.
pub fn cluster(name: &str, protocol: Protocol, endpoints: &[SocketAddr]) -> Value {
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": endpoints_of(name, endpoints),
    });
    if protocol == Protocol::Http2 {
        let options =
            json!({"@type": HTTP_OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}});
        cluster["typed_extension_protocol_options"] =
            json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options});
    }
    cluster
}

/// A cluster that takes its endpoints over ADS.
pub fn eds_cluster(name: &str) -> Value {
    let mut cluster = cluster(name, Protocol::Http1, &[]);
    let over = json!({"type": "EDS", "load_assignment": null, "eds_cluster_config": {"eds_config": ads()}});
    merge(&mut cluster, &over);
    cluster
}

/// The endpoints of a cluster (a `ClusterLoadAssignment`).
pub fn endpoints_of(cluster: &str, endpoints: &[SocketAddr]) -> Value {
    let endpoint = |address: &SocketAddr| json!({"endpoint": {"address": socket(*address)}});
    let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
    json!({"cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}]})
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// A resource that a control plane can serve. Its type follows from what it looks like.
pub fn resource(value: &Value) -> Resource {
    let kind = match value {
        value if value.get("filter_chains").is_some() => type_url::LISTENER,
        value if value.get("virtual_hosts").is_some() => type_url::ROUTE_CONFIGURATION,
        value if value.get("cluster_name").is_some() => type_url::CLUSTER_LOAD_ASSIGNMENT,
        _ => type_url::CLUSTER,
    };
    let mut typed = value.clone();
    typed["@type"] = json!(kind);
    let parsed = parse_documents(Format::Json, &typed.to_string());
    let mut parsed = parsed.unwrap_or_else(|error| panic!("{typed}: {error}"));
    parsed.pop().expect("one document is one resource")
}

/// A control plane on a free port that serves these.
pub async fn control_plane(resources: &[&Value]) -> ControlPlane {
    let control_plane = ControlPlane::start_default().await.expect("a free port");
    control_plane.put(resources.iter().map(|value| resource(value)));
    control_plane
}
