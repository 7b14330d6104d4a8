//! curl as a client that speaks TLS.

use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{cluster, http_listener, static_bootstrap};
use pillion_tests::scenario::{Protocol, Sidecar, Upstream};
use serde_json::json;

use super::pki::{file, tls_listener};
use super::programs::run;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_speaks_both_versions_of_http_in_mutual_tls() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let address = free_address();
    let details = json!({"uri": true, "subject": true});
    let hcm = json!({
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": details,
    });
    let listener = tls_listener(http_listener(address, "up", &hcm));
    let clusters = [cluster("up", Protocol::Http1, &[upstream.address])];
    let _sidecar = Sidecar::start(&static_bootstrap(&[listener], &clusters), &[]);
    let (resolve, url) = (
        format!("server.test:{}:127.0.0.1", address.port()),
        format!("https://server.test:{}/header/x-forwarded-client-cert", address.port()),
    );
    let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let common = ["-sS", "--max-time", "20", "--resolve", &resolve, "--cacert", &ca];
    let own = ["--cert", &certificate, "--key", &key, "-w", " %{http_version} %{num_connects}"];
    for (protocol, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for tls in ["1.2", "1.3"] {
            let last = ["--tls-max", tls, protocol, &url, &url];
            let Some(got) = run("curl", &[&common[..], &own, &last].concat()) else { return };
            assert!(got.contains("URI=spiffe://td.test/ns/default/sa/client"), "{got}");
            assert!(got.contains(&format!(" {version} 1")), "{got}");
            assert!(got.ends_with(&format!(" {version} 0")), "the connection is kept: {got}");
        }
    }
}
