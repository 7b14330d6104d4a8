//! Private keys stay where they are: nothing that the proxy prints has a piece of one.

use control_plane_mock::{IdentityOptions, Svid};
use pillion_tests::scenario::config::ads_bootstrap;
use pillion_tests::scenario::{PATIENCE, Protocol, Sidecar, Upstream};
use proto::envoy::config::core::v3::{DataSource, data_source::Specifier};
use proto::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};
use proto::type_url;

use super::client::Client;
use super::config::mesh;
use super::control_plane;

/// Everything that the admin interface prints of configuration.
const PAGES: [&str; 8] = [
    "/config_dump",
    "/config_dump?include_eds",
    "/config_dump?resource=dynamic_active_secrets",
    "/certs",
    "/clusters?format=json",
    "/listeners?format=json",
    "/init_dump",
    "/stats?format=json",
];

fn put(svid: &Svid, key: &str) -> control_plane_mock::Resource {
    let inline = |text: &str| {
        let specifier = Some(Specifier::InlineString(text.to_owned()));
        Some(DataSource { specifier, ..DataSource::default() })
    };
    let certificate = TlsCertificate {
        certificate_chain: inline(&svid.certificate_chain),
        private_key: inline(key),
        ..TlsCertificate::default()
    };
    let kind = Some(secret::Type::TlsCertificate(certificate));
    let secret = Secret { name: "default".to_owned(), r#type: kind };
    control_plane_mock::Resource::pack(&secret).expect("it is a resource")
}

/// The lines of a key in PEM that tell something of it.
fn pieces(svid: &Svid) -> impl Iterator<Item = &str> {
    svid.private_key.lines().filter(|line| !line.starts_with("-----") && line.len() >= 16)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_log_or_answer_shows_a_key() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let control_plane = control_plane(IdentityOptions::default()).await;
    let good = control_plane.issue_svid("spiffe://cluster.local/good").expect("it is issued");
    let bad = control_plane.issue_svid("spiffe://cluster.local/bad").expect("it is issued");
    control_plane.put([put(&good, &good.private_key)]);
    let mesh = mesh(&control_plane, upstream.address);
    let bootstrap = ads_bootstrap(control_plane.addr(), "DELTA_GRPC");
    let sidecar = Sidecar::start(&bootstrap, &[]);
    assert_eq!(sidecar.post("/logging?level=trace").status, 200);
    let client = Client::new(&control_plane, "spiffe://cluster.local/test");
    assert!(client.connect(mesh.tls).await.is_ok());

    // A key of another certificate, and one that is cut off.
    let mut told = Vec::new();
    let half = &bad.private_key[..bad.private_key.len() / 2];
    for key in [bad.private_key.as_str(), half] {
        let version = control_plane.put([put(&good, key)]);
        let answer = control_plane.wait_ack(type_url::SECRET, version, None, PATIENCE).await;
        told.push(answer.expect("an answer").error.expect("it is refused"));
    }
    assert_eq!(sidecar.stat("sds.default.update_rejected"), 2);
    assert!(client.connect(mesh.tls).await.is_ok());

    told.extend(PAGES.map(|page| sidecar.get(page).body));
    let dump = &told[2];
    assert!(dump.contains("[redacted]") && dump.contains("error_state"), "{dump}");
    told.push(sidecar.process.log());
    for piece in pieces(&good).chain(pieces(&bad)) {
        for text in &told {
            assert!(!text.contains(piece), "a piece of a key in: {text}");
        }
    }
}
