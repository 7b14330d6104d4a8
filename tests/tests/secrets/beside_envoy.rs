//! Envoy as the other sidecar of a mesh: each on each side, with identities of one authority over SDS.

use std::net::SocketAddr;
use std::path::Path;

use control_plane_mock::{ControlPlane, IdentityOptions};
use pillion_tests::programs::{did_not_run, envoy, free_address, pillion};
use pillion_tests::scenario::config::{
    cluster, http_listener, merge, static_bootstrap, tcp_listener,
};
use pillion_tests::scenario::{Connection, Protocol, Sidecar, Upstream, until};
use serde_json::{Value, json};

use super::config::{Names, Source, sds, socket_cluster, tls_cluster, tls_listener};
use super::control_plane;

/// Addresses of the three listeners of a side: HTTP/1.1, HTTP/2 and TCP.
type Addresses = [SocketAddr; 3];

const PROTOCOLS: [Protocol; 3] = [Protocol::Http1, Protocol::Http2, Protocol::Http1];

fn start(program: &Path, name: &str, mut bootstrap: Value, agent: &Path) -> Sidecar {
    merge(&mut bootstrap, &json!({"node": {"id": name, "cluster": name}}));
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("a list");
    clusters.push(socket_cluster("agent", agent));
    let mut sidecar = Sidecar::spawn(program, &bootstrap, &[]);
    sidecar.wait_live();
    sidecar
}

/// Beside the server: takes mutual TLS only.
fn inbound(upstream: SocketAddr, source: &Value) -> (Value, Addresses) {
    let addresses = [free_address(), free_address(), free_address()];
    let hcm = json!({
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"uri": true},
    });
    let listeners = [
        http_listener(addresses[0], "up", &hcm),
        http_listener(addresses[1], "up", &hcm),
        tcp_listener(addresses[2], "up"),
    ];
    let listeners = listeners.map(|listener| tls_listener(listener, &Names::ISSUED, source));
    let clusters = [cluster("up", Protocol::Http1, &[upstream])];
    (static_bootstrap(&listeners, &clusters), addresses)
}

/// Beside the client: takes plaintext, and passes it on in mutual TLS.
fn outbound(inbound: Addresses, source: &Value) -> (Value, Addresses) {
    let addresses = [free_address(), free_address(), free_address()];
    let listeners = [
        http_listener(addresses[0], "http1", &json!({})),
        http_listener(addresses[1], "http2", &json!({})),
        tcp_listener(addresses[2], "tcp"),
    ];
    let names = ["http1", "http2", "tcp"];
    let clusters: Vec<Value> = (0..3)
        .map(|i| {
            let plain = cluster(names[i], PROTOCOLS[i], &[inbound[i]]);
            let mut cluster = tls_cluster(plain, &Names::ISSUED, source);
            if PROTOCOLS[i] == Protocol::Http2 {
                // Beside other options of HTTP, Envoy wants it there.
                let once =
                    json!({"common_http_protocol_options": {"max_requests_per_connection": 1}});
                let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
                merge(&mut cluster["typed_extension_protocol_options"][options], &once);
                merge(&mut cluster, &json!({"max_requests_per_connection": null}));
            }
            cluster
        })
        .collect();
    (static_bootstrap(&listeners, &clusters), addresses)
}

/// What a client gets over each protocol, on a connection of its own.
async fn ask(addresses: Addresses, path: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    for (address, protocol) in addresses.into_iter().zip(PROTOCOLS) {
        let mut connection = Connection::must_open(address, protocol).await;
        let answer = connection.get(path).await.unwrap_or_else(|error| panic!("{error}"));
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 200, "{protocol:?}: {body}");
        bodies.push(body);
    }
    bodies
}

async fn check(agent: &ControlPlane, socket: &Path, client: &Path, server: &Path, api: &str) {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let source = sds(Source::Cluster("agent", api), "60s");
    let (bootstrap, listening) = inbound(upstream.address, &source);
    let server = start(server, "server", bootstrap, socket);
    let (bootstrap, addresses) = outbound(listening, &source);
    let client = start(client, "client", bootstrap, socket);

    let identity = "URI=spiffe://cluster.local/client";
    let told = ask(addresses, "/header/x-forwarded-client-cert").await;
    assert!(told[0].contains(identity) && told[1].contains(identity), "{told:?}");
    assert_eq!(told[2], "", "TCP carries no header of the proxy's");

    // New certificates serve the connections after them. Both proxies take them, each its own.
    agent.rotate_certificates();
    for side in [&client, &server] {
        until("the new certificate", || side.stat("sds.default.update_success") == 2).await;
    }
    assert_eq!(ask(addresses, "/").await, ["up", "up", "up"]);
    for protocol in ["http1", "http2", "tcp"] {
        assert_eq!(client.stat(&format!("cluster.{protocol}.ssl.handshake")), 2, "{protocol}");
    }

    // Who has no certificate is let in by neither.
    let plain = tokio::net::TcpStream::connect(listening[0]).await.expect("it listens");
    drop(plain);
    let refused = Connection::must_open(listening[0], Protocol::Http1).await.get("/").await;
    assert!(refused.is_err(), "{refused:?}");
    let errors = format!("listener.127.0.0.1_{}.ssl.connection_error", listening[0].port());
    server.wait_stat(&errors, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_is_the_other_sidecar_on_either_side() {
    let Some(envoy) = envoy() else { return did_not_run("Envoy is not installed") };
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent.sock");
    let mut agent = control_plane(IdentityOptions::default()).await;
    agent.serve_socket(&socket).expect("a socket");
    for api in super::APIS {
        check(&agent, &socket, &pillion(), &envoy, api).await;
        check(&agent, &socket, &envoy, &pillion(), api).await;
    }
}
