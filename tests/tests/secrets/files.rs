//! Secrets that stand in a listener: files that are replaced, and keys of session tickets that proxies share.

use std::fs;
use std::path::Path;

use control_plane_mock::{IdentityOptions, Svid};
use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{cluster, http_listener, static_bootstrap};
use pillion_tests::scenario::{Protocol, Sidecar, Upstream, until};
use serde_json::{Value, json};

use super::client::Client;
use super::control_plane;

const CONTEXT: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

/// A proxy whose listener has this TLS context.
fn sidecar(upstream: &Upstream, mut context: Value) -> (Sidecar, std::net::SocketAddr) {
    let address = free_address();
    context["@type"] = CONTEXT.into();
    let mut listener = http_listener(address, "up", &json!({}));
    listener["filter_chains"][0]["transport_socket"] =
        json!({"name": "envoy.transport_sockets.tls", "typed_config": context});
    let up = cluster("up", Protocol::Http1, &[upstream.address]);
    (Sidecar::start(&static_bootstrap(&[listener], &[up]), &[]), address)
}

/// Puts a certificate and its authority in place, all files at once, as Kubernetes does it with volumes.
fn publish(folder: &Path, version: &str, svid: &Svid, bundle: &str) {
    let own = folder.join(version);
    fs::create_dir(&own).expect("a folder");
    fs::write(own.join("cert.pem"), &svid.certificate_chain).expect("a file");
    fs::write(own.join("key.pem"), &svid.private_key).expect("a file");
    fs::write(own.join("ca.pem"), bundle).expect("a file");
    std::os::unix::fs::symlink(version, folder.join("next")).expect("a link");
    fs::rename(folder.join("next"), folder.join("now")).expect("it is moved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_listener_are_read_again_when_their_folder_is_replaced() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let [first, second] = [
        control_plane(IdentityOptions::default()).await,
        control_plane(IdentityOptions::default()).await,
    ];
    let id = "spiffe://cluster.local/files";
    let folder = tempfile::tempdir().expect("a folder");
    let svid = first.issue_svid(id).expect("it is issued");
    publish(folder.path(), "one", &svid, &first.trust_bundle());
    let file = |name: &str| json!({"filename": folder.path().join("now").join(name)});
    let watched = json!({"path": folder.path()});
    let (sidecar, address) = sidecar(
        &upstream,
        json!({
            "require_client_certificate": true,
            "common_tls_context": {
                "tls_certificates": [{
                    "certificate_chain": file("cert.pem"),
                    "private_key": file("key.pem"),
                    "watched_directory": watched,
                }],
                "validation_context": {"trusted_ca": file("ca.pem"), "watched_directory": watched},
            },
        }),
    );
    let (old, new) = (Client::new(&first, id), Client::new(&second, id));
    let mut open = old.connect(address).await.expect("it is let in");
    assert!(new.connect(address).await.is_err());

    // Files that do not belong together change nothing.
    let other = second.issue_svid(id).expect("it is issued");
    let broken = Svid {
        certificate_chain: svid.certificate_chain.clone(),
        private_key: other.private_key.clone(),
    };
    publish(folder.path(), "two", &broken, &first.trust_bundle());
    let refused = "files were replaced by bad ones";
    until("the warning", || sidecar.process.log().contains(refused)).await;
    assert!(old.connect(address).await.is_ok());

    publish(folder.path(), "three", &other, &second.trust_bundle());
    let mut connected = new.connect(address).await;
    while connected.is_err() {
        tokio::task::yield_now().await;
        connected = new.connect(address).await;
    }
    assert!(old.connect(address).await.is_err(), "nobody trusts its authority any more");
    assert_eq!(open.get("/").await, "up");
    assert!(!sidecar.process.log().contains("PRIVATE KEY"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_with_the_same_ticket_keys_resume_each_others_sessions() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let authority = control_plane(IdentityOptions::default()).await;
    let svid = authority.issue_svid("spiffe://cluster.local/tickets").expect("it is issued");
    let start = |key: &str| {
        let inline = |text: &str| json!({"inline_string": text});
        let keys = json!({"keys": [inline(&key.repeat(80))]});
        sidecar(
            &upstream,
            json!({
                "session_ticket_keys": keys,
                "common_tls_context": {"tls_certificates": [{
                    "certificate_chain": inline(&svid.certificate_chain),
                    "private_key": inline(&svid.private_key),
                }]},
            }),
        )
    };
    let client = Client::new(&authority, "spiffe://cluster.local/client");
    let mut resumed = Vec::new();
    for key in ["a", "a", "b"] {
        let (sidecar, address) = start(key);
        client.connect(address).await.expect("it is let in");
        resumed.push(
            sidecar.stat(&format!("listener.127.0.0.1_{}.ssl.session_reused", address.port())),
        );
        let dump = sidecar.get("/config_dump").body;
        assert!(!dump.contains(&key.repeat(80)), "a key in {dump}");
    }
    assert_eq!(resumed, [0, 1, 0]);
}
