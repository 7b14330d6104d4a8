//! OpenSSL's own client and server.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use pillion_tests::programs::{Process, Ready, free_address, needed};
use pillion_tests::scenario::config::{cluster, http_listener, merge, static_bootstrap};
use pillion_tests::scenario::{Connection, PATIENCE, Protocol, Sidecar, Upstream, until};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use super::pki::{common, file, tls_cluster, tls_listener};

/// The client asks for a page; everything that it prints, or `None` if there is no OpenSSL.
fn s_client(address: SocketAddr, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(needed("openssl")?);
    command.args(["s_client", "-ign_eof", "-CAfile", &file("ca.pem"), "-connect"]);
    command.arg(address.to_string()).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let request = b"GET /header/host HTTP/1.1\r\nhost: page.test\r\nconnection: close\r\n\r\n";
    // It may have been refused before it reads this.
    let _ = child.stdin.take().expect("a pipe").write_all(request);
    let output = block_in_place(|| child.wait_with_output()).expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&said).into_owned())
}

/// As a client that the listener lets in.
fn friend(address: SocketAddr, arguments: &[&str]) -> Option<String> {
    let (certificate, key) = (file("client.pem"), file("client.key"));
    let own = ["-cert", certificate.as_str(), "-key", key.as_str()];
    s_client(address, &[&own[..], arguments].concat())
}

fn listener_with_tls(upstream: SocketAddr) -> (Sidecar, SocketAddr) {
    let address = free_address();
    let listener = tls_listener(http_listener(address, "up", &json!({})));
    let clusters = [cluster("up", Protocol::Http1, &[upstream])];
    (Sidecar::start(&static_bootstrap(&[listener], &clusters), &[]), address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_client_agrees_on_versions_protocols_and_certificates() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let (sidecar, address) = listener_with_tls(upstream.address);
    for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let arguments = [flag, "-alpn", "http/1.1,h2", "-servername", "server.test"];
        let Some(said) = friend(address, &arguments) else { return };
        assert!(said.contains(&format!("New, {version}, Cipher is ")), "{said}");
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        assert!(said.contains("subject=O = Tests, CN = server"), "{said}");
        // The server's order decides, and h2 goes first.
        assert!(said.contains("ALPN protocol: h2"), "{said}");
        let plain = friend(address, &[flag, "-alpn", "http/1.1"]).expect("it was there before");
        assert!(
            plain.contains("ALPN protocol: http/1.1") && plain.contains("page.test"),
            "{plain}"
        );
        let second = friend(address, &[flag, "-servername", "second.test"]).expect("it is there");
        assert!(second.contains("subject=O = Tests, CN = second"), "{second}");
    }
    let old = friend(address, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]).expect("it is there");
    assert!(old.contains("SSL alert") && !old.contains("page.test"), "{old}");
    until("the reason", || sidecar.process.log().contains("UNSUPPORTED_PROTOCOL")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_client_resumes_its_session() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let (sidecar, address) = listener_with_tls(upstream.address);
    let folder = tempfile::tempdir().expect("a folder");
    for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let session = folder.path().join(version).display().to_string();
        let first = ["-servername", "server.test", flag, "-sess_out", &session];
        let Some(said) = friend(address, &first) else { return };
        assert!(said.contains(&format!("New, {version}")), "{said}");
        let again = ["-servername", "server.test", flag, "-sess_in", &session];
        let said = friend(address, &again).expect("it was there before");
        assert!(
            said.contains(&format!("Reused, {version}")) && said.contains("page.test"),
            "{said}"
        );
    }
    let reused = format!("listener.127.0.0.1_{}.ssl.session_reused", address.port());
    assert_eq!(sidecar.stat(&reused), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_refused_is_told_of_in_the_log() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let (sidecar, address) = listener_with_tls(upstream.address);
    let Some(said) = s_client(address, &["-tls1_3"]) else { return };
    assert!(said.contains("certificate required") && !said.contains("page.test"), "{said}");
    let told = "peer did not provide required client certificate";
    until("the warning", || sidecar.process.log().contains(told)).await;

    // The log tells of one a second, so that nobody can flood it.
    let (certificate, key) = (file("stranger.pem"), file("stranger.key"));
    until("a warning about the stranger", || {
        let stranger = ["-tls1_2", "-cert", &certificate, "-key", &key];
        assert!(!s_client(address, &stranger).expect("it is there").contains("page.test"));
        sidecar.process.log().contains("spiffe://other.test/stranger")
    })
    .await;
    let log = sidecar.process.log();
    let line = log.lines().find(|line| line.contains("other.test")).expect("a line");
    for part in ["WARN", "peer=127.0.0.1:", "unable to get local issuer certificate"] {
        assert!(line.contains(part), "{line}");
    }
}

/// A server on a free port that shows what was agreed on, and wants a certificate.
fn s_server(arguments: &[&str]) -> Option<(Process, SocketAddr)> {
    let address = free_address();
    let mut command = Command::new(needed("openssl")?);
    command.args(["s_server", "-www", "-Verify", "2", "-verify_return_error", "-accept"]);
    command.arg(address.to_string()).args(["-CAfile", &file("ca.pem")]);
    command.args(["-cert", &file("server.pem"), "-key", &file("server.key")]).args(arguments);
    let mut process = Process::spawn("openssl", &mut command).unwrap_or_else(|e| panic!("{e}"));
    let ready = block_in_place(|| process.wait_ready(Ready::Port(address), PATIENCE));
    ready.unwrap_or_else(|error| panic!("{error}"));
    Some((process, address))
}

/// A plain listener whose cluster speaks TLS to the server, with this context.
fn cluster_with_tls(server: SocketAddr, context: &Value) -> (Sidecar, SocketAddr) {
    let address = free_address();
    let format = "%RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON%\n";
    let hcm = json!({"access_log": [{"name": "log", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
        "log_format": {"text_format_source": {"inline_string": format}},
    }}]});
    let up = tls_cluster(cluster("up", Protocol::Http1, &[server]), context.clone());
    let listeners = [http_listener(address, "up", &hcm)];
    (Sidecar::start(&static_bootstrap(&listeners, &[up]), &[]), address)
}

async fn page(address: SocketAddr) -> (u16, String) {
    let mut connection = Connection::must_open(address, Protocol::Http1).await;
    let answer = connection.get("/").await.unwrap_or_else(|error| panic!("{error}"));
    (answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_server_is_spoken_to_in_mutual_tls() {
    for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let second = [file("second.pem"), file("second.key")];
        let by_name = ["-servername", "second.test", "-cert2", &second[0], "-key2", &second[1]];
        let Some((_server, address)) = s_server(&[&[flag][..], &by_name].concat()) else { return };
        let names = json!([{"san_type": "DNS", "matcher": {"exact": "second.test"}}]);
        let mut common = common(&["client"]);
        common["validation_context"]["match_typed_subject_alt_names"] = names;
        let named = json!({"sni": "second.test", "common_tls_context": common});
        let (sidecar, listener) = cluster_with_tls(address, &named);
        let (status, body) = page(listener).await;
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(&format!("New, {version}")), "{body}");
        assert!(body.contains("CN=client"), "it shows its certificate: {body}");
        // The server closes after each page: the next connection resumes the session.
        let (_, body) = page(listener).await;
        assert!(body.contains(&format!("Reused, {version}")), "{body}");
        assert_eq!(sidecar.stat("cluster.up.ssl.session_reused"), 1);

        // Under another name, it shows the other certificate.
        let mut other = named.clone();
        merge(&mut other, &json!({"sni": "server.test"}));
        let (sidecar, listener) = cluster_with_tls(address, &other);
        assert_eq!(page(listener).await.0, 503);
        let log = sidecar.process.log();
        assert!(log.contains("expected DNS exact \"second.test\""), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_after_the_handshake_is_told() {
    for (flag, alert) in [("-tls1_2", "HANDSHAKE_FAILURE"), ("-tls1_3", "CERTIFICATE_REQUIRED")] {
        let Some((_server, address)) = s_server(&[flag]) else { return };
        let (sidecar, listener) = cluster_with_tls(
            address,
            &json!({
                "common_tls_context": common(&[]),
            }),
        );
        assert_eq!(page(listener).await.0, 503);
        until("the access log", || sidecar.process.log().contains("\n503 ")).await;
        let log = sidecar.process.log();
        let line = log.lines().find(|line| line.starts_with("503 ")).expect("a line");
        assert!(line.contains("TLS_error:|") && line.contains(alert), "{log}");
        let warned = |line: &str| line.contains("WARN") && line.contains(alert);
        assert!(log.lines().any(warned), "{log}");
        assert_eq!(sidecar.stat("cluster.up.ssl.connection_error"), 1);
    }
}
