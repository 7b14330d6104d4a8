//! Agents next to the proxy that serve secrets on a unix socket, as SPIRE's and Istio's do.

use control_plane_mock::IdentityOptions;
use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{merge, resource, static_bootstrap};
use pillion_tests::scenario::{Connection, PATIENCE, Protocol, Sidecar, Upstream, until};
use proto::type_url;
use serde_json::json;

use super::client::Client;
use super::config::{Mesh, Names, Source, sds, socket_cluster};
use super::{acknowledged, control_plane};

/// SPIRE's names: the identity and its trust domain.
const SPIRE: Names<'static> =
    Names { own: "spiffe://cluster.local/ns/shop/sa/cart", trust: "spiffe://cluster.local" };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spire_serves_identities_on_a_socket_and_rotates_them() {
    for api in super::APIS {
        let upstream = Upstream::start("up", Protocol::Http1).await;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agent.sock");
        let mut agent = control_plane(IdentityOptions::default()).await;
        agent.serve_socket(&path).expect("a socket");
        let mesh = Mesh { plain: free_address(), tls: free_address() };
        let source = sds(Source::Cluster("spire_agent", api), "60s");
        let [up, through, tls, plain] = mesh.resources(upstream.address, &SPIRE, &source);
        // The cluster of the agent stands last: what needs it comes before.
        let clusters = [up, through, socket_cluster("spire_agent", &path)];
        let sidecar = Sidecar::start(&static_bootstrap(&[tls, plain], &clusters), &[]);

        let client = Client::new(&agent, "spiffe://cluster.local/test");
        let connection = client.connect(mesh.tls).await.expect("it is let in");
        assert_eq!(connection.identities(), [SPIRE.own]);
        let mut plain = Connection::must_open(mesh.plain, Protocol::Http1).await;
        assert_eq!(plain.get("/").await.expect("an answer").body, "up");
        // Both contexts share one stream and each of its secrets.
        let clients = agent.clients();
        assert_eq!(clients.len(), 1, "{clients:?}");
        let subscribed = clients[0].subscription(type_url::SECRET).expect("to secrets");
        assert_eq!(subscribed.names, [SPIRE.trust, SPIRE.own]);

        // The stream is cut while the agent issues a new certificate: it comes with the next stream.
        agent.drop_streams(None);
        let version = agent.rotate_certificates();
        until("the new certificate", || {
            let name = format!("sds.{}.update_success", SPIRE.own.replace(':', "_"));
            sidecar.stat(&name) >= 2
        })
        .await;
        acknowledged(&agent, version).await;
        let next = client.connect(mesh.tls).await.expect("it is let in");
        assert_ne!(next.serial(), connection.serial());
        assert_eq!(plain.get("/").await.expect("an answer").body, "up");
    }
}

/// What Istio's agent writes: both sockets, the sources of everything, and a great deal that is about Envoy only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bootstrap_of_istios_agent_runs_over_its_two_sockets() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (xds, secrets) = (folder.path().join("XDS"), folder.path().join("socket"));
    let mut istiod = control_plane(IdentityOptions::default()).await;
    istiod.serve_socket(&xds).expect("a socket");
    let mut agent = control_plane(IdentityOptions::default()).await;
    agent.serve_socket(&secrets).expect("a socket");

    let mesh = Mesh { plain: free_address(), tls: free_address() };
    let source = sds(Source::Cluster("sds-grpc", "GRPC"), "0s");
    let resources = mesh.resources(upstream.address, &Names::ISSUED, &source);
    istiod.put(resources.iter().map(resource));

    let ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    let mut bootstrap = static_bootstrap(
        &[],
        &[socket_cluster("sds-grpc", &secrets), {
            let mut cluster = socket_cluster("xds-grpc", &xds);
            merge(
                &mut cluster,
                &json!({
                    "alt_stat_name": "xds-grpc;",
                    "connect_timeout": "1s",
                    "max_requests_per_connection": 1,
                    "circuit_breakers": {"thresholds": [{
                        "priority": "DEFAULT", "max_connections": 100_000,
                        "max_pending_requests": 100_000, "max_requests": 100_000,
                    }]},
                    "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}},
                }),
            );
            cluster
        }],
    );
    merge(
        &mut bootstrap,
        &json!({
            "application_log_config": {"log_format": {"text_format": "%Y-%m-%dT%T.%fZ\t%l\t%v"}},
            "node": {
                "id": "sidecar~10.0.0.1~cart-1.shop~shop.svc.cluster.local",
                "cluster": "cart.shop",
                "metadata": {
                    "NAMESPACE": "shop", "SERVICE_ACCOUNT": "cart", "INTERCEPTION_MODE": "REDIRECT",
                    "PROXY_CONFIG": {"drainDuration": "45s"}, "POD_PORTS": "[]",
                },
            },
            "layered_runtime": {"layers": [
                {"name": "global config", "static_layer": {"overload.global_downstream_max_connections": "2147483647"}},
                {"name": "admin", "admin_layer": {}},
            ]},
            "stats_config": {
                "use_all_default_tags": false,
                "stats_tags": [{"tag_name": "cluster_name", "regex": "^cluster\\.((.+?(\\..+?\\.svc\\.cluster\\.local)?)\\.)"}],
                "stats_matcher": {"inclusion_list": {"patterns": [{"prefix": "cluster_manager"}]}},
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
            "bootstrap_extensions": [{
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {
                    "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
                    "type_url": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
                    "value": {"buffer_size_kb": 64},
                },
            }],
        }),
    );
    let flags = [
        "--drain-time-s",
        "45",
        "--drain-strategy",
        "immediate",
        "--local-address-ip-version",
        "v4",
    ];
    let flags =
        [&flags[..], &["--allow-unknown-static-fields", "--component-log-level", "misc:error"]]
            .concat();
    let sidecar = Sidecar::start(&bootstrap, &flags);

    let client = Client::new(&agent, "spiffe://cluster.local/ns/shop/sa/stock");
    let mut inbound = client.connect(mesh.tls).await.expect("it is let in");
    assert_eq!(inbound.identities(), ["spiffe://cluster.local/ns/shop/sa/cart"]);
    assert_eq!(inbound.get("/").await, "up");
    let mut outbound = Connection::must_open(mesh.plain, Protocol::Http1).await;
    assert_eq!(outbound.get("/").await.expect("an answer").body, "up");

    // What istiod's own readiness probe asks of the agent, and the agent of the proxy.
    for ready in ["cluster_manager.cds.update_success", "listener_manager.lds.update_success"] {
        assert!(sidecar.stat(ready) >= 1, "{ready}");
    }
    let version = agent.rotate_certificates();
    let answer = agent.wait_ack(type_url::SECRET, version, None, PATIENCE).await;
    assert_eq!(answer.expect("an answer").error, None);
    let next = client.connect(mesh.tls).await.expect("it is let in");
    assert_ne!(next.serial(), inbound.serial());
    // The stream of secrets names the node in its first message only, and is apart from istiod's.
    assert!(istiod.clients()[0].subscription(type_url::SECRET).is_none());
    assert_eq!(agent.clients()[0].cluster, "cart.shop");
}
