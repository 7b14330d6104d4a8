//! Bootstraps of a client's and a server's sidecar, as a control plane would put them together.

use control_plane_mock::Svid;
use serde_json::{Value, json};

const LISTENER: &str = "type.googleapis.com/envoy.extensions.filters.listener";
const NETWORK: &str = "type.googleapis.com/envoy.extensions.filters.network";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// The HTTP service's port, which takes mutual TLS only.
pub const HTTP: u16 = 8080;
/// The port of a server that speaks first, in plaintext.
pub const BANNER: u16 = 2525;

fn address(ip: &str, port: u16) -> Value {
    json!({"socket_address": {"address": ip, "port_value": port}})
}

/// A listener at a port of all addresses of both IP versions.
fn listener(name: &str, port: u16, over: Value) -> Value {
    let mut listener = json!({
        "name": name,
        "address": address("0.0.0.0", port),
        "additional_addresses": [{"address": address("::", port)}],
    });
    for (key, value) in over.as_object().expect("a map") {
        listener[key] = value.clone();
    }
    listener
}

fn listener_filter(name: &str, message: &str, mut config: Value) -> Value {
    config["@type"] = format!("{LISTENER}.{name}.v3.{message}").into();
    json!({"name": name, "typed_config": config})
}

/// `tcp_proxy` to a cluster.
pub fn tcp(cluster: &str) -> Value {
    let kind = format!("{NETWORK}.tcp_proxy.v3.TcpProxy");
    json!([{"name": "tcp", "typed_config": {"@type": kind, "stat_prefix": cluster, "cluster": cluster}}])
}

/// An access log on stderr.
fn stderr_log(format: &str) -> Value {
    json!([{"name": "log", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
        "log_format": {"text_format_source": {"inline_string": format!("{format}\n")}},
    }}])
}

/// HTTP to a cluster, logged to stderr.
fn http(cluster: &str, log: &str) -> Value {
    let kind = format!("{NETWORK}.http_connection_manager.v3.HttpConnectionManager");
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": cluster}});
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    json!([{"name": "http", "typed_config": {
        "@type": kind,
        "stat_prefix": cluster,
        "http_filters": [{"name": "router", "typed_config": {"@type": router}}],
        "access_log": stderr_log(log),
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }}])
}

fn original_dst(name: &str) -> Value {
    json!({"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s"})
}

fn common_tls(svid: &Svid, bundle: &str) -> Value {
    json!({
        "tls_certificates": [{
            "certificate_chain": {"inline_string": svid.certificate_chain},
            "private_key": {"inline_string": svid.private_key},
        }],
        "validation_context": {
            "trusted_ca": {"inline_string": bundle},
            "match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}},
            ],
        },
    })
}

fn bootstrap(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({
        "node": {"id": "sidecar", "cluster": "mesh"},
        "admin": {"address": address("127.0.0.1", 15000)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

/// The client's sidecar: HTTP to port 8080 of anybody goes out as mutual TLS, the rest passes as it is.
pub fn client(svid: &Svid, bundle: &str) -> Value {
    let black_hole =
        json!({"filter_chain_match": {"destination_port": 15001}, "filters": tcp("black_hole")});
    let outbound = listener(
        "virtual_outbound",
        15001,
        json!({
            "traffic_direction": "OUTBOUND",
            "use_original_dst": true,
            "filter_chains": [black_hole],
            "default_filter_chain": {"filters": tcp("passthrough")},
        }),
    );
    let service = listener(
        "service",
        HTTP,
        json!({
            "traffic_direction": "OUTBOUND",
            "bind_to_port": false,
            "filter_chains": [{"filters": http("service", "client %RESPONSE_CODE% %UPSTREAM_HOST%")}],
        }),
    );
    let mut service_cluster = original_dst("service");
    service_cluster["transport_socket"] = json!({"name": "tls", "typed_config": {
        "@type": format!("{TLS}.UpstreamTlsContext"),
        "common_tls_context": common_tls(svid, bundle),
    }});
    let empty = json!({"name": "black_hole", "type": "STATIC", "connect_timeout": "1s"});
    bootstrap(&[outbound, service], &[service_cluster, original_dst("passthrough"), empty])
}

/// What differs between servers' sidecars.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// Connections are redirected, and reach the server from 127.0.0.6 or ::6.
    Redirect,
    /// Connections come by TPROXY, and reach the server from the client's address.
    Tproxy,
}

/// The server's sidecar: mutual TLS at port 8080, plaintext at the banner's port, and nothing else.
pub fn server(svid: &Svid, bundle: &str, inbound: Inbound) -> Value {
    let mut filters = vec![listener_filter("original_dst", "OriginalDst", json!({}))];
    if inbound == Inbound::Tproxy {
        filters.push(listener_filter("original_src", "OriginalSrc", json!({"mark": 1337})));
    }
    filters.push(listener_filter("tls_inspector", "TlsInspector", json!({})));
    let tls = json!({"name": "tls", "typed_config": {
        "@type": format!("{TLS}.DownstreamTlsContext"),
        "require_client_certificate": true,
        "common_tls_context": common_tls(svid, bundle),
    }});
    let log = "server %RESPONSE_CODE% peer=%DOWNSTREAM_PEER_URI_SAN% to=%DOWNSTREAM_LOCAL_ADDRESS%";
    let listener = listener(
        "virtual_inbound",
        15006,
        json!({
            "traffic_direction": "INBOUND",
            "transparent": inbound == Inbound::Tproxy,
            "listener_filters": filters,
            "listener_filters_timeout": "0.2s",
            "continue_on_listener_filters_timeout": true,
            "access_log": stderr_log("connection %DOWNSTREAM_TRANSPORT_FAILURE_REASON%"),
            "filter_chains": [
                {"filter_chain_match": {"destination_port": 15006}, "filters": tcp("black_hole")},
                {
                    "filter_chain_match": {"destination_port": HTTP, "transport_protocol": "tls"},
                    "transport_socket": tls,
                    "filters": http("inbound", log),
                },
                {"filter_chain_match": {"destination_port": BANNER}, "filters": tcp("inbound")},
            ],
        }),
    );
    let mut to_server = original_dst("inbound");
    if inbound == Inbound::Redirect {
        let source = |ip: &str| json!({"address": ip, "port_value": 0});
        to_server["upstream_bind_config"] = json!({
            "source_address": source("127.0.0.6"),
            "extra_source_addresses": [{"address": source("::6")}],
        });
    }
    let empty = json!({"name": "black_hole", "type": "STATIC", "connect_timeout": "1s"});
    bootstrap(&[listener], &[to_server, empty])
}
