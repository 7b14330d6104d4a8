//! Both sides of a mesh with configurations of the shape that istiod sends: agents serve xDS and secrets on unix sockets, endpoints say
//! in their metadata that they speak mutual TLS, and ALPN says to the other side what is inside.

mod agents;
mod shapes;

use std::net::SocketAddr;

use control_plane_mock::{ControlPlane, IdentityOptions, Options};
use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::resource;
use pillion_tests::scenario::{Connection, Protocol, Sidecar, Upstream};
use serde_json::Value;

/// The trust domain of all.
const TRUST_DOMAIN: &str = "cluster.local";

/// What istiod and every agent are here: one process that serves both, on two sockets.
struct Agent {
    plane: ControlPlane,
    folder: tempfile::TempDir,
}

impl Agent {
    async fn start() -> Agent {
        let identity = IdentityOptions::default();
        let options = Options { identity, ..Options::default() };
        let mut plane = ControlPlane::start(options).await.expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        for socket in ["XDS", "secrets"] {
            plane.serve_socket(folder.path().join(socket)).expect("a socket");
        }
        Agent { plane, folder }
    }

    fn sidecar(&self, service: &str, resources: &[Value]) -> Sidecar {
        let bootstrap = shapes::bootstrap(service, self.folder.path());
        let node = bootstrap["node"]["id"].as_str().expect("it has one");
        self.plane.set_node_view(node, resources.iter().map(resource));
        Sidecar::start(&bootstrap, &agents::FLAGS)
    }
}

/// Where the listeners of both sidecars are.
struct Ports {
    /// The client's sidecar takes HTTP for `stock` here.
    http: SocketAddr,
    /// The same for bytes.
    tcp: SocketAddr,
    /// `virtualInbound` of `stock`'s sidecar.
    inbound: SocketAddr,
}

async fn body(address: SocketAddr, protocol: Protocol) -> String {
    let mut connection = Connection::must_open(address, protocol).await;
    let answer = connection.get("/").await.expect("an answer");
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alpn_leads_requests_and_bytes_to_their_chains_over_mutual_tls() {
    let (http, tcp) = (
        Upstream::start("http", Protocol::Http1).await,
        Upstream::start("tcp", Protocol::Http1).await,
    );
    let ports = Ports { http: free_address(), tcp: free_address(), inbound: free_address() };
    let agent = Agent::start().await;
    let inbound = shapes::inbound(&ports, http.address, tcp.address);
    let outbound = shapes::outbound(&ports);
    // Two sidecars of one namespace, and of one authority.
    let stock = agent.sidecar("stock", &inbound);
    let _cart = agent.sidecar("cart", &outbound);

    // With the filter `istio.alpn`, requests say that they are HTTP; without it, bytes say only that they are of the mesh.
    for protocol in [Protocol::Http1, Protocol::Http2] {
        assert_eq!(body(ports.http, protocol).await, "http", "{protocol:?}");
    }
    assert_eq!(body(ports.tcp, Protocol::Http1).await, "tcp");
    // Whoever is not of the mesh is taken as plain text.
    assert_eq!(body(ports.inbound, Protocol::Http1).await, "http");
    assert_eq!(stock.stat("http.inbound_0.0.0.0_8080;.downstream_rq_2xx"), 2);
    assert_eq!(stock.stat("http.inbound_plain;.downstream_rq_2xx"), 1);
    assert_eq!(stock.stat("listener_manager.lds.update_rejected"), 0);
    assert_eq!(stock.stat("cluster_manager.cds.update_rejected"), 0);
}
