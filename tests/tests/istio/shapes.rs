//! Configurations as istiod and its agent write them, less what addresses of a test make different.

use std::net::SocketAddr;
use std::path::Path;

use pillion_tests::scenario::Protocol;
use pillion_tests::scenario::config::{
    cluster, endpoints_of, http_listener, merge, static_bootstrap, tcp_listener,
};
use serde_json::{Value, json};

use super::{Ports, TRUST_DOMAIN};

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const ALPN: &str = "type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig";

/// What the agent starts its proxy with.
pub fn bootstrap(service: &str, sockets: &Path) -> Value {
    let ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    let over_socket = |name: &str, socket: &str| {
        let mut cluster = cluster(name, Protocol::Http2, &[]);
        let address = json!({"pipe": {"path": sockets.join(socket)}});
        cluster["alt_stat_name"] = json!(format!("{name};"));
        cluster["load_assignment"]["endpoints"] =
            json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
        cluster
    };
    let clusters = [over_socket("sds-grpc", "secrets"), over_socket("xds-grpc", "XDS")];
    let mut bootstrap = static_bootstrap(&[], &clusters);
    let over = json!({
        "node": {
            "id": format!("sidecar~10.0.0.1~{service}-1.shop~shop.svc.cluster.local"),
            "cluster": format!("{service}.shop"),
            "metadata": {"NAMESPACE": "shop", "SERVICE_ACCOUNT": service, "ISTIO_VERSION": "1.30.0"},
        },
        "dynamic_resources": {
            "lds_config": ads,
            "cds_config": ads,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
        },
        "stats_config": {
            "use_all_default_tags": false,
            "stats_matcher": {"inclusion_list": {"patterns": [{"prefix": "cluster_manager"}]}},
        },
        "tracing": {"http": {"name": "envoy.tracers.zipkin", "typed_config": {
            "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
            "collector_cluster": "zipkin",
            "collector_endpoint": "/api/v2/spans",
            "collector_endpoint_version": "HTTP_JSON",
        }}},
        "bootstrap_extensions": [typed("metadata_discovery", "istio.workload.BootstrapExtension")],
    });
    merge(&mut bootstrap, &over);
    bootstrap
}

/// A filter whose configuration only Istio's build of Envoy knows.
fn typed(name: &str, message: &str) -> Value {
    json!({"name": name, "typed_config": {
        "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
        "type_url": format!("type.googleapis.com/{message}"),
        "value": {},
    }})
}

fn tcp_exchange() -> Value {
    typed("istio.metadata_exchange", "envoy.tcp.metadataexchange.config.MetadataExchange")
}

fn http_filters(more: &[Value]) -> Value {
    let first = typed("istio.metadata_exchange", "io.istio.http.peer_metadata.Config");
    let stats = typed("istio.stats", "stats.PluginConfig");
    let router = json!({"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}});
    Value::Array([&[first], more, &[stats, router]].concat())
}

fn secret(name: &str) -> Value {
    json!({"name": name, "sds_config": {
        "initial_fetch_timeout": "0s",
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
        },
    }})
}

fn common(alpn: &[&str]) -> Value {
    let names =
        json!([{"san_type": "URI", "matcher": {"prefix": format!("spiffe://{TRUST_DOMAIN}/")}}]);
    json!({
        "alpn_protocols": alpn,
        "tls_certificate_sds_secret_configs": [secret("default")],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": names},
            "validation_context_sds_secret_config": secret("ROOTCA"),
        },
    })
}

/// A cluster of another sidecar: mutual TLS for endpoints that say that they are of the mesh.
fn mesh_cluster(name: &str, endpoint: SocketAddr, follows_downstream: bool) -> [Value; 2] {
    let mut cluster = cluster(name, Protocol::Http2, &[]);
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    if follows_downstream {
        cluster["typed_extension_protocol_options"][options] = json!({
            "@type": format!("type.googleapis.com/{options}"),
            "use_downstream_protocol_config": {"http2_protocol_options": {}},
        });
    } else {
        cluster["typed_extension_protocol_options"] = json!(null);
    }
    let context = json!({
        "@type": format!("{TLS}.UpstreamTlsContext"),
        "common_tls_context": common(&["istio-peer-exchange", "istio"]),
        "sni": "outbound_.80_._.stock.shop.svc.cluster.local",
    });
    let raw = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    let over = json!({
        "type": "EDS",
        "load_assignment": null,
        "eds_cluster_config": {"service_name": name, "eds_config": {
            "ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3",
        }},
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{
            "max_connections": 4_294_967_295_u32, "max_pending_requests": 4_294_967_295_u32,
            "max_requests": 4_294_967_295_u32, "max_retries": 4_294_967_295_u32,
            "track_remaining": true,
        }]},
        "common_lb_config": {"locality_weighted_lb_config": {}},
        "metadata": {"filter_metadata": {"istio": {"services": [
            {"host": "stock.shop.svc.cluster.local", "name": "stock", "namespace": "shop"},
        ]}}},
        "transport_socket_matches": [
            {"name": "tlsMode-istio", "match": {"tlsMode": "istio"},
             "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}},
            {"name": "tlsMode-disabled", "match": {},
             "transport_socket": {"name": "envoy.transport_sockets.raw_buffer", "typed_config": {"@type": raw}}},
        ],
        "filters": [tcp_exchange()],
    });
    merge(&mut cluster, &over);
    let mut endpoints = endpoints_of(name, &[endpoint]);
    endpoints["endpoints"][0]["load_balancing_weight"] = json!(1);
    endpoints["endpoints"][0]["lb_endpoints"][0]["metadata"] = json!({"filter_metadata": {
        "envoy.transport_socket_match": {"tlsMode": "istio"},
        "istio": {"workload": "stock;shop;stock;v1;Kubernetes"},
    }});
    [cluster, endpoints]
}

/// What the client's sidecar has: a listener of HTTP and one of bytes, both for `stock`.
pub fn outbound(ports: &Ports) -> Vec<Value> {
    let http = "outbound|80||stock.shop.svc.cluster.local";
    let tcp = "outbound|9000||stock.shop.svc.cluster.local";
    let of = |protocol: &str, names: [&str; 3]| json!({"upstream_protocol": protocol, "alpn_override": names});
    let alpn = json!({"name": "istio.alpn", "typed_config": {"@type": ALPN, "alpn_override": [
        of("HTTP10", ["istio-http/1.0", "istio", "http/1.0"]),
        of("HTTP11", ["istio-http/1.1", "istio", "http/1.1"]),
        of("HTTP2", ["istio-h2", "istio", "h2"]),
    ]}});
    let hcm = json!({
        "stat_prefix": "outbound_0.0.0.0_80;",
        "use_remote_address": false,
        "normalize_path": true,
        "stream_idle_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_filters": http_filters(&[alpn]),
    });
    let mut requests = http_listener(ports.http, http, &hcm);
    requests["traffic_direction"] = json!("OUTBOUND");
    let mut bytes = tcp_listener(ports.tcp, tcp);
    bytes["traffic_direction"] = json!("OUTBOUND");
    let filters = bytes["filter_chains"][0]["filters"].as_array_mut().expect("a list");
    filters.insert(0, typed("istio.stats", "stats.PluginConfig"));
    let clusters = [
        mesh_cluster(http, ports.inbound, true).to_vec(),
        mesh_cluster(tcp, ports.inbound, false).to_vec(),
        vec![black_hole(), passthrough()],
    ];
    [clusters.concat(), vec![requests, bytes]].concat()
}

fn black_hole() -> Value {
    json!({"name": "BlackHoleCluster", "type": "STATIC", "connect_timeout": "10s", "alt_stat_name": "BlackHoleCluster;"})
}

fn passthrough() -> Value {
    json!({
        "name": "PassthroughCluster", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "10s", "alt_stat_name": "PassthroughCluster;",
        "filters": [tcp_exchange()],
    })
}

/// What the sidecar of `stock` has: its virtual inbound listener, permissive, with detection of what is inside.
pub fn inbound(ports: &Ports, http: SocketAddr, tcp: SocketAddr) -> Vec<Value> {
    let clusters = [("inbound|8080||", http), ("inbound|9000||", tcp)].map(|(name, address)| {
        let mut cluster = cluster(name, Protocol::Http1, &[address]);
        cluster["alt_stat_name"] = json!(format!("{name};"));
        cluster
    });
    let hcm = |prefix: &str| {
        json!({
            "stat_prefix": prefix,
            "server_name": "istio-envoy",
            "forward_client_cert_details": "APPEND_FORWARD",
            "set_current_client_cert_details": {"subject": true, "dns": true, "uri": true},
            "http_filters": http_filters(&[]),
        })
    };
    let tls = |alpn: &[&str]| {
        json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": format!("{TLS}.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": common(alpn),
        }})
    };
    let chain = |name: &str, listener: Value, matching: Value, socket: Option<Value>| {
        let mut chain = listener["filter_chains"][0].clone();
        chain["name"] = json!(name);
        chain["filter_chain_match"] = matching;
        if let Some(socket) = socket {
            chain["transport_socket"] = socket;
        }
        chain
    };
    let requests = |prefix: &str| http_listener(ports.inbound, "inbound|8080||", &hcm(prefix));
    let mut bytes = tcp_listener(ports.inbound, "inbound|9000||");
    let filters = bytes["filter_chains"][0]["filters"].as_array_mut().expect("a list");
    filters.insert(0, tcp_exchange());
    let inspector = |name: &str, message: &str| {
        json!({"name": format!("envoy.filters.listener.{name}"), "typed_config": {
            "@type": format!("type.googleapis.com/envoy.extensions.filters.listener.{name}.v3.{message}"),
        }})
    };
    let mut listener = requests("unused");
    let over = json!({
        "name": "virtualInbound",
        "traffic_direction": "INBOUND",
        "continue_on_listener_filters_timeout": true,
        "listener_filters_timeout": "0s",
        "listener_filters": [
            inspector("original_dst", "OriginalDst"),
            inspector("tls_inspector", "TlsInspector"),
            inspector("http_inspector", "HttpInspector"),
        ],
        "filter_chains": [
            chain(
                "mesh-http",
                requests("inbound_0.0.0.0_8080;"),
                json!({"transport_protocol": "tls", "application_protocols": ["istio-http/1.0", "istio-http/1.1", "istio-h2"]}),
                Some(tls(&["h2", "http/1.1"])),
            ),
            chain(
                "plain-http",
                requests("inbound_plain;"),
                json!({"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]}),
                None,
            ),
            chain(
                "mesh-tcp",
                bytes,
                json!({"transport_protocol": "tls", "application_protocols": ["istio-peer-exchange", "istio"]}),
                Some(tls(&["istio-peer-exchange", "h2", "http/1.1"])),
            ),
        ],
    });
    merge(&mut listener, &over);
    [clusters.to_vec(), vec![listener]].concat()
}
