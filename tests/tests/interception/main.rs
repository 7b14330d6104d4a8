//! Programs that know nothing of a mesh, on machines whose connections are redirected to sidecars.

mod capture;
mod machine;
mod mesh;
mod rules;

use std::fs;

use capture::{Capture, holds};
use control_plane_mock::{ControlPlane, IdentityOptions, Options, Svid};
use machine::{Machine, can_run, printed};
use mesh::{BANNER, HTTP, Inbound};
use pillion_tests::programs::Process;
use pillion_tests::scenario::until;

/// Who is who.
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/stock";
/// What goes over the wire, if nobody encrypts it.
const SECRET: &str = "the stock is 42 pieces";

/// Greets before it is spoken to, as mail servers do.
const GREETER: &str = "
import socketserver, socket
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b'220 at your service\\r\\n')
        self.request.sendall(b'you said ' + self.request.recv(100))
class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
Server(('::', 2525), Handler).serve_forever()
";
/// Waits for the greeting before it speaks.
const GREETED: &str = "
import socket, sys
peer = socket.create_connection((sys.argv[1], 2525), timeout=20)
print(peer.recv(100).decode())
peer.sendall(b'hello')
print(peer.recv(100).decode())
";

/// An authority that issues certificates.
async fn authority(identity: IdentityOptions) -> ControlPlane {
    let options = Options { identity, ..Options::default() };
    ControlPlane::start(options).await.expect("it starts")
}

/// A client's and a server's machine, each with its sidecar, its rules and the server's programs.
struct Mesh {
    client: Machine,
    server: Machine,
    _client_sidecar: Process,
    server_sidecar: Process,
    web: Process,
    _greeter: Process,
    _pages: tempfile::TempDir,
    authority: ControlPlane,
}

impl Mesh {
    async fn start(inbound: Inbound) -> Mesh {
        let authority = authority(IdentityOptions::default()).await;
        let bundle = authority.trust_bundle();
        let (client, server) = Machine::pair();
        let pages = tempfile::tempdir().expect("a folder");
        fs::write(pages.path().join("stock"), SECRET).expect("a page");
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(pages.path(), everybody).expect("it is ours");
        let folder = pages.path().display().to_string();
        let port = HTTP.to_string();
        let arguments = ["-u", "-m", "http.server", &port, "--bind", "::", "--directory", &folder];
        let web = server.serve("python3", &arguments, HTTP);
        let greeter = server.serve("python3", &["-c", GREETER], BANNER);
        let issue = |id| authority.issue_svid(id).expect("it is issued");
        let client_sidecar = client.sidecar(&mesh::client(&issue(CLIENT), &bundle));
        let bootstrap = mesh::server(&issue(SERVER), &bundle, inbound);
        let server_sidecar = server.sidecar(&bootstrap);
        client.must_intercept("install");
        server.must_intercept(match inbound {
            Inbound::Redirect => "install",
            Inbound::Tproxy => "install --inbound-mode tproxy",
        });
        Mesh {
            client,
            server,
            _client_sidecar: client_sidecar,
            server_sidecar,
            web,
            _greeter: greeter,
            _pages: pages,
            authority,
        }
    }

    /// What the client's `curl` gets.
    fn curl(&self, url: &str) -> String {
        printed(&self.client.as_nobody("curl", &["-s", "-S", "-m", "20", url]))
    }

    /// Asks the server with TLS and this certificate, past the client's sidecar. Returns the page, if it gets one.
    fn intrude(&self, svid: Option<&Svid>) -> Option<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut arguments = vec!["-s", "-k", "-m", "20", "https://10.77.0.2:8080/stock"];
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let names = [certificate.display().to_string(), key.display().to_string()];
        if let Some(svid) = svid {
            fs::write(&certificate, &svid.certificate_chain).expect("a file");
            fs::write(&key, &svid.private_key).expect("a file");
            let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(folder.path(), everybody).expect("it is ours");
            arguments.extend(["--cert", &names[0], "--key", &names[1]]);
        }
        let output = self.client.as_sidecar("curl", &arguments);
        output.status.success().then(|| printed(&output))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_know_no_tls_talk_in_mutual_tls() {
    if !can_run(&["curl", "python3", "nft"]) {
        return;
    }
    let mesh = Mesh::start(Inbound::Redirect).await;
    let capture = Capture::start(&mesh.server.namespace());
    assert_eq!(mesh.curl("http://10.77.0.2:8080/stock"), SECRET);
    assert_eq!(mesh.curl("http://[fd77::2]:8080/stock"), SECRET);
    let seen = capture.stop();
    assert!(!holds(&seen, "GET /stock") && !holds(&seen, SECRET), "plaintext on the link");
    assert!(holds(&seen, "cluster.local") || seen.len() > 1000, "the capture saw the connection");

    let log = mesh.server_sidecar.log();
    for to in ["10.77.0.2:8080", "[fd77::2]:8080"] {
        assert!(log.contains(&format!("server 200 peer={CLIENT} to={to}")), "{log}");
    }
    // The server sees the sidecar's own address, which is not intercepted again.
    let seen = |web: &Process, from: &str| web.log().contains(&format!("{from} - - "));
    assert!(seen(&mesh.web, "::ffff:127.0.0.6") && seen(&mesh.web, "::6"), "{}", mesh.web.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused() {
    if !can_run(&["curl", "python3", "nft"]) {
        return;
    }
    let mesh = Mesh::start(Inbound::Redirect).await;
    let friend = mesh.authority.issue_svid(CLIENT).expect("it is issued");
    assert_eq!(mesh.intrude(Some(&friend)).as_deref(), Some(SECRET));

    assert_eq!(mesh.intrude(None), None, "without a certificate");
    let elsewhere = authority(IdentityOptions::default()).await;
    let forged = elsewhere.issue_svid(CLIENT).expect("it is issued");
    assert_eq!(mesh.intrude(Some(&forged)), None, "from another authority");
    let foreign = mesh.authority.issue_svid("spiffe://other.example/ns/shop/sa/cart");
    let foreign = foreign.expect("it is issued");
    assert_eq!(mesh.intrude(Some(&foreign)), None, "from another trust domain");

    let plain = ["-s", "-m", "20", "http://10.77.0.2:8080/stock"];
    let plain = mesh.client.as_sidecar("curl", &plain);
    assert!(!plain.status.success(), "in plaintext: {}", printed(&plain));
    let served = mesh.web.log().matches("GET /stock").count();
    assert_eq!(served, 1, "only the friend: {}", mesh.web.log());
    let log = mesh.server_sidecar.log();
    let reasons: Vec<&str> =
        log.lines().filter(|line| line.starts_with("connection TLS")).collect();
    assert_eq!(reasons.len(), 3, "every refusal has its reason: {log}");
    let rules =
        ["PEER_DID_NOT_RETURN_A_CERTIFICATE", "certificate_signature_failure", "SAN_matcher"];
    for (reason, rule) in reasons.iter().zip(rules) {
        assert!(reason.contains(rule), "{rule}: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_has_expired_is_refused() {
    if !can_run(&["curl", "python3", "nft"]) {
        return;
    }
    let mut mesh = Mesh::start(Inbound::Redirect).await;
    // The same authority as the server trusts, for certificates that last a second.
    let folder = tempfile::tempdir().expect("a folder");
    let ca_dir = Some(folder.path().to_owned());
    let lasting = authority(IdentityOptions { ca_dir: ca_dir.clone(), ..Default::default() }).await;
    let brief = std::time::Duration::from_secs(1);
    let brief = authority(IdentityOptions { lifetime: brief, ca_dir, ..Default::default() }).await;
    let svid = lasting.issue_svid(SERVER).expect("it is issued");
    let bootstrap = mesh::server(&svid, &lasting.trust_bundle(), Inbound::Redirect);
    mesh.server_sidecar.terminate().expect("it ends");
    mesh.server_sidecar = mesh.server.sidecar(&bootstrap);

    let friend = lasting.issue_svid(CLIENT).expect("it is issued");
    assert_eq!(mesh.intrude(Some(&friend)).as_deref(), Some(SECRET));
    let short = brief.issue_svid(CLIENT).expect("it is issued");
    until("the certificate to be refused", || mesh.intrude(Some(&short)).is_none()).await;
    assert_eq!(mesh.intrude(Some(&friend)).as_deref(), Some(SECRET));
    let log = mesh.server_sidecar.log().to_lowercase();
    assert!(log.contains("expired"), "the reason is told: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_speak_first_are_heard() {
    if !can_run(&["python3", "nft"]) {
        return;
    }
    let mesh = Mesh::start(Inbound::Redirect).await;
    for ip in ["10.77.0.2", "fd77::2"] {
        let heard = mesh.client.as_nobody("python3", &["-c", GREETED, ip]);
        let (heard, said) = (printed(&heard), String::from_utf8_lossy(&heard.stderr).into_owned());
        assert!(heard.contains("220 at your service"), "{heard}{said}");
        assert!(heard.contains("you said hello"), "{heard}{said}");
    }
    assert_eq!(mesh.client.stat("cluster.passthrough.upstream_cx_total"), 2);
    assert_eq!(mesh.server.stat("cluster.inbound.upstream_cx_total"), 2);
    assert_eq!(mesh.server.stat("listener.0.0.0.0_15006.downstream_pre_cx_timeout"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tproxy_keeps_the_clients_address() {
    if !can_run(&["curl", "python3", "nft"]) {
        return;
    }
    let mesh = Mesh::start(Inbound::Tproxy).await;
    assert_eq!(mesh.curl("http://10.77.0.2:8080/stock"), SECRET);
    assert_eq!(mesh.curl("http://[fd77::2]:8080/stock"), SECRET);
    let log = mesh.web.log();
    assert!(log.contains("::ffff:10.77.0.1 - - "), "{log}");
    assert!(log.contains("fd77::1 - - "), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_is_not_its_own_client() {
    if !can_run(&["curl", "python3", "nft"]) {
        return;
    }
    let mesh = Mesh::start(Inbound::Redirect).await;
    // Somebody who connects to the sidecar's port as such ends in the black hole, and not in a loop.
    let direct = ["-s", "-m", "20", "http://10.77.0.1:15001/"];
    assert!(!mesh.client.as_sidecar("curl", &direct).status.success());
    let stat = |name: &str| mesh.client.stat(name);
    assert!(stat("cluster.black_hole.upstream_cx_none_healthy") <= 1);
    assert!(stat("listener.0.0.0.0_15001.downstream_cx_total") <= 2);
    assert_eq!(stat("cluster.passthrough.upstream_cx_total"), 0);

    // What the rules leave out goes its own way: the server's sidecar refuses plaintext at this port.
    mesh.client.must_intercept("install --exclude-outbound-ports 8080");
    assert_eq!(mesh.curl("http://10.77.0.2:8080/stock"), "");
    mesh.client.must_intercept("install --include-uid 1");
    assert_eq!(mesh.curl("http://10.77.0.2:8080/stock"), "");
    mesh.client
        .must_intercept("install --include-uid 65534 --include-outbound-ranges 10.77.0.0/24");
    assert_eq!(mesh.curl("http://10.77.0.2:8080/stock"), SECRET);
    mesh.client.must_intercept("remove");
    assert_eq!(mesh.curl("http://10.77.0.2:8080/stock"), "");
}
