//! Certificates and trust that come over SDS, and that change: real proxies, real handshakes.

mod access;
mod agent;
mod beside_envoy;
mod client;
mod config;
mod files;
mod keys;

use std::time::Duration;

use client::Client;
use config::{ADS, Names, mesh, mesh_listener, sds, tls_listener};
use control_plane_mock::{ControlPlane, Fault, FaultKind, IdentityOptions, Options};
use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{ads_bootstrap, http_listener, merge, resource};
use pillion_tests::scenario::{Load, PATIENCE, Protocol, Sidecar, Upstream, until};
use proto::type_url;
use serde_json::json;

/// The API of both variants of the protocol.
const APIS: [&str; 2] = ["GRPC", "DELTA_GRPC"];

async fn control_plane(identity: IdentityOptions) -> ControlPlane {
    ControlPlane::start(Options { identity, ..Options::default() }).await.expect("a free port")
}

async fn acknowledged(control_plane: &ControlPlane, version: u64) {
    let answer = control_plane.wait_ack(type_url::SECRET, version, None, PATIENCE).await;
    assert_eq!(answer.unwrap_or_else(|error| panic!("{error}")).error, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_rotate_under_load_and_no_request_fails() {
    for api in APIS {
        let upstream = Upstream::start("up", Protocol::Http1).await;
        let control_plane = control_plane(IdentityOptions::default()).await;
        let mesh = mesh(&control_plane, upstream.address);
        let sidecar = Sidecar::start(&ads_bootstrap(control_plane.addr(), api), &[]);
        let load = Load::start(mesh.plain, 4).await;
        for _ in 0..20 {
            let version = control_plane.rotate_certificates();
            acknowledged(&control_plane, version).await;
            load.serve_more(10).await;
        }
        let report = load.stop().await;
        assert!(report.failures.is_empty(), "{report:?}");
        assert!(sidecar.stat("sds.default.update_success") >= 21);
        assert_eq!(sidecar.stat("sds.default.update_rejected"), 0);
        let factory = "cluster.mesh.client_ssl_socket_factory.ssl_context_update_by_sds";
        assert!(sidecar.stat(factory) >= 20);
        // Each request had a connection of its own to the other side of the mesh.
        assert!(sidecar.stat("cluster.mesh.ssl.handshake") >= report.requests);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_live_for_seconds_are_replaced_in_time() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let lifetime = Duration::from_secs(4);
    let identity = IdentityOptions { lifetime, ..IdentityOptions::default() };
    let control_plane = control_plane(identity).await;
    let mesh = mesh(&control_plane, upstream.address);
    let sidecar = Sidecar::start(&ads_bootstrap(control_plane.addr(), "DELTA_GRPC"), &[]);
    assert_eq!(sidecar.stat("server.days_until_first_cert_expiring"), 0);
    let load = Load::start(mesh.plain, 2).await;
    // The first certificate is over when the fourth is in use.
    until("three rotations", || sidecar.stat("sds.default.update_success") >= 4).await;
    load.serve_more(50).await;
    let report = load.stop().await;
    assert!(report.failures.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_serves_new_connections_while_open_ones_go_on() {
    for api in APIS {
        let upstream = Upstream::start("up", Protocol::Http1).await;
        let control_plane = control_plane(IdentityOptions::default()).await;
        let mesh = mesh(&control_plane, upstream.address);
        let _sidecar = Sidecar::start(&ads_bootstrap(control_plane.addr(), api), &[]);
        let client = Client::new(&control_plane, "spiffe://cluster.local/test");
        let mut open = client.connect(mesh.tls).await.expect("it is let in");
        assert_eq!(open.get("/").await, "up");
        let before = open.serial();

        let version = control_plane.rotate_certificates();
        acknowledged(&control_plane, version).await;
        let mut next = client.connect(mesh.tls).await.expect("it is let in");
        assert_ne!(next.serial(), before);
        assert_eq!(next.get("/").await, "up");
        assert_eq!(open.get("/").await, "up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_authority_is_trusted_from_its_push_on_and_the_old_one_no_more() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let control_plane = control_plane(IdentityOptions::default()).await;
    let mesh = mesh(&control_plane, upstream.address);
    let _sidecar = Sidecar::start(&ads_bootstrap(control_plane.addr(), "GRPC"), &[]);
    let old = control_plane.issue_svid("spiffe://cluster.local/test").expect("it is issued");
    let client = Client::with(&old, &control_plane.trust_bundle());
    assert!(client.connect(mesh.tls).await.is_ok());
    // With a second authority the first is still in the bundle, with a third it is not.
    for _ in 0..2 {
        let version = control_plane.rotate_authority().expect("it is made");
        acknowledged(&control_plane, version).await;
    }
    // Not even with the session that it has, which was agreed under the old trust.
    assert!(client.connect(mesh.tls).await.is_err());
    let client = Client::with(&old, &control_plane.trust_bundle());
    let refused = client.connect(mesh.tls).await.err().expect("it is refused");
    assert!(refused.contains("alert"), "{refused}");
    let new = Client::new(&control_plane, "spiffe://cluster.local/test");
    assert_eq!(new.connect(mesh.tls).await.expect("it is let in").get("/").await, "up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_secrets_a_listener_resets_connections_and_a_cluster_fails_requests() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let control_plane = control_plane(IdentityOptions::default()).await;
    let silence = control_plane.arm(Fault::from(FaultKind::Withhold).on_type(type_url::SECRET));
    let mesh = mesh_listener(&control_plane, upstream.address, "0.2s");
    let sidecar = Sidecar::start(&ads_bootstrap(control_plane.addr(), "DELTA_GRPC"), &[]);
    let client = Client::new(&control_plane, "spiffe://cluster.local/test");
    assert!(client.connect(mesh.tls).await.is_err());
    let listener = format!("listener.127.0.0.1_{}.server_ssl_socket_factory", mesh.tls.port());
    sidecar.wait_stat(&format!("{listener}.downstream_context_secrets_not_ready"), 1).await;
    let mut plain =
        pillion_tests::scenario::Connection::must_open(mesh.plain, Protocol::Http1).await;
    let answer = plain.get("/").await.expect("an answer");
    assert_eq!(answer.status, 503);
    let not_ready = "cluster.mesh.client_ssl_socket_factory.upstream_context_secrets_not_ready";
    assert!(sidecar.stat(not_ready) >= 1);
    assert_eq!(sidecar.stat("sds.default.init_fetch_timeout"), 1);

    control_plane.disarm(silence);
    until("late secrets", || sidecar.stat("sds.ROOTCA.update_success") == 1).await;
    until("late secrets", || sidecar.stat("sds.default.update_success") == 1).await;
    assert_eq!(client.connect(mesh.tls).await.expect("it is let in").get("/").await, "up");
    let answer = plain.get("/").await.expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, "up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_the_bootstrap_are_named_without_a_source() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let control_plane = control_plane(IdentityOptions::default()).await;
    let svid = control_plane.issue_svid("spiffe://cluster.local/fixed").expect("it is issued");
    let address = free_address();
    let names = Names { own: "mine", trust: "theirs" };
    let listener = tls_listener(http_listener(address, "up", &json!({})), &names, &json!(null));
    let inline = |text: &str| json!({"inline_string": text});
    let mut bootstrap = pillion_tests::scenario::config::static_bootstrap(
        &[listener],
        &[pillion_tests::scenario::config::cluster("up", Protocol::Http1, &[upstream.address])],
    );
    let secrets = json!([
        {"name": "mine", "tls_certificate": {
            "certificate_chain": inline(&svid.certificate_chain), "private_key": inline(&svid.private_key)}},
        {"name": "theirs", "validation_context": {"trusted_ca": inline(&control_plane.trust_bundle())}},
    ]);
    merge(&mut bootstrap, &json!({"static_resources": {"secrets": secrets}}));
    let sidecar = Sidecar::start(&bootstrap, &[]);
    let client = Client::new(&control_plane, "spiffe://cluster.local/test");
    let mut open = client.connect(address).await.expect("it is let in");
    assert_eq!(open.identities(), ["spiffe://cluster.local/fixed"]);
    assert_eq!(open.get("/").await, "up");

    let certs: serde_json::Value = serde_json::from_str(&sidecar.get("/certs").body).expect("JSON");
    let certificate = &certs["certificates"][0];
    let own = &certificate["cert_chain"][0];
    assert_eq!(own["subject_alt_names"], json!([{"uri": "spiffe://cluster.local/fixed"}]));
    assert_eq!(own["serial_number"], open.serial());
    assert_eq!(certificate["ca_cert"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_served_before_goes_on_while_the_server_of_secrets_is_gone() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let control_plane = control_plane(IdentityOptions::default()).await;
    let mesh = mesh(&control_plane, upstream.address);
    let sidecar = Sidecar::start(&ads_bootstrap(control_plane.addr(), "DELTA_GRPC"), &[]);
    let client = Client::new(&control_plane, "spiffe://cluster.local/test");
    let before = client.connect(mesh.tls).await.expect("it is let in").serial();
    control_plane.drop_streams(None);
    assert_eq!(client.connect(mesh.tls).await.expect("it is let in").serial(), before);
    control_plane.rotate_certificates();
    until("the new certificate", || sidecar.stat("sds.default.update_success") == 2).await;
    assert_ne!(client.connect(mesh.tls).await.expect("it is let in").serial(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_of_lds_waits_for_its_secrets_however_long_they_take() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let control_plane = control_plane(IdentityOptions::default()).await;
    let silence = control_plane.arm(Fault::from(FaultKind::Withhold).on_type(type_url::SECRET));
    let mesh = mesh_listener(&control_plane, upstream.address, "0s");
    let mut sidecar = Sidecar::spawn(
        &pillion_tests::programs::pillion(),
        &ads_bootstrap(control_plane.addr(), "GRPC"),
        &[],
    );
    let subscribed = control_plane.wait_until(PATIENCE, |clients| {
        clients.iter().any(|client| client.subscription(type_url::SECRET).is_some())
    });
    assert!(subscribed.await);
    assert_ne!(sidecar.get("/ready").status, 200);
    control_plane.disarm(silence);
    sidecar.wait_live();
    let client = Client::new(&control_plane, "spiffe://cluster.local/test");
    assert!(client.connect(mesh.tls).await.is_ok());
    // Put again, with another field: the certificate is there already.
    let mut changed = http_listener(mesh.tls, "up", &json!({"stat_prefix": "again"}));
    changed = tls_listener(changed, &Names::ISSUED, &sds(ADS, "0s"));
    let version = control_plane.put([resource(&changed)]);
    let answer = control_plane.wait_ack(type_url::LISTENER, version, None, PATIENCE).await;
    assert_eq!(answer.expect("an answer").error, None);
    assert!(client.connect(mesh.tls).await.is_ok());
}
