//! A sidecar that restarts while its control plane is gone serves what it had, and follows the control plane when it is back.

use std::net::SocketAddr;
use std::path::Path;

use control_plane_mock::{ControlPlane, Options};
use pillion_tests::programs::{free_address, pillion};
use pillion_tests::scenario::config::{
    ads_bootstrap, cluster, eds_cluster, endpoints_of, http_listener, merge, rds_listener,
    resource, routes,
};
use pillion_tests::scenario::{Connection, Load, PATIENCE, Protocol, Sidecar, Upstream};
use proto::type_url;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A sidecar's surroundings, in which it can be started again and again.
struct Place {
    upstreams: [Upstream; 2],
    listener: SocketAddr,
    control_plane: SocketAddr,
    folder: TempDir,
    bootstrap: Value,
}

impl Place {
    async fn new(api_type: &str) -> Place {
        let upstreams = [
            Upstream::start("one", Protocol::Http1).await,
            Upstream::start("two", Protocol::Http1).await,
        ];
        let control_plane = free_address();
        Place {
            upstreams,
            listener: free_address(),
            control_plane,
            folder: TempDir::new().expect("a folder"),
            bootstrap: ads_bootstrap(control_plane, api_type),
        }
    }

    /// A control plane whose routes lead to a cluster with the upstream of this index.
    async fn control_plane(&self, cluster: &str, upstream: usize) -> ControlPlane {
        let options = Options { listen: self.control_plane, ..Options::default() };
        let control_plane = ControlPlane::start(options).await.expect("the port is free");
        let endpoints = [self.upstreams[upstream].address];
        let resources = [
            eds_cluster("both"),
            eds_cluster(cluster),
            endpoints_of("both", &endpoints),
            endpoints_of(cluster, &endpoints),
            rds_listener(self.listener),
            routes(cluster),
        ];
        control_plane.put(resources.iter().map(resource));
        control_plane
    }

    fn spawn(&self, grace: &str, arguments: &[&str]) -> Sidecar {
        let folder = self.folder.path().to_str().expect("a plain path");
        let all = [&["--state-dir", folder, "--state-grace-s", grace], arguments].concat();
        Sidecar::spawn(&pillion(), &self.bootstrap, &all)
    }

    fn start(&self) -> Sidecar {
        let mut sidecar = self.spawn("1", &[]);
        sidecar.wait_live();
        sidecar
    }

    /// A sidecar has run, and both it and its control plane are gone.
    async fn was_there(&self) {
        let control_plane = self.control_plane("old", 0).await;
        let sidecar = self.start();
        sidecar.wait_stat("control_plane.state_saved", 1).await;
        assert_eq!(sidecar.stat("control_plane.serving_from_state"), 0);
        drop(sidecar);
        control_plane.stop().await;
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("last-good")
    }
}

async fn assert_served(listener: SocketAddr, by: &str) {
    let mut connection = Connection::must_open(listener, Protocol::Http1).await;
    assert_eq!(connection.get("/").await.expect("an answer").body, by);
}

async fn what_served_serves_again_until_the_control_plane_is_back(api_type: &str) {
    let place = Place::new(api_type).await;
    place.was_there().await;
    let sidecar = place.start();
    assert_served(place.listener, "one").await;
    assert_eq!(sidecar.stat("control_plane.serving_from_state"), 1);
    assert_eq!(sidecar.stat("control_plane.connected_state"), 0);
    assert!(sidecar.process.log().contains("SERVING THE LAST GOOD RESOURCES"));
    assert!(sidecar.get("/init_dump").body.contains("those of an earlier process serve"));

    let load = Load::start(place.listener, 4).await;
    let _control_plane = place.control_plane("new", 1).await;
    sidecar.wait_stat("control_plane.serving_from_state", 0).await;
    load.serve_more(100).await;
    let report = load.stop().await;
    assert!(report.failures.is_empty() && report.connections == 8, "{report:?}");
    assert_served(place.listener, "two").await;
    assert_eq!(sidecar.stat("cluster_manager.cluster_removed"), 1);
    assert_eq!(sidecar.stat("listener_manager.listener_modified"), 0);
    assert!(!sidecar.get("/config_dump").body.contains("\"old\""));
    // What came now is kept, too.
    sidecar.wait_stat("control_plane.state_saved", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_served_serves_again_over_state_of_the_world() {
    what_served_serves_again_until_the_control_plane_is_back("GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_served_serves_again_over_delta() {
    what_served_serves_again_until_the_control_plane_is_back("DELTA_GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_in_parts_is_not_lost_meanwhile() {
    let place = Place::new("DELTA_GRPC").await;
    place.was_there().await;
    let sidecar = place.start();
    let load = Load::start(place.listener, 4).await;
    let options = Options { listen: place.control_plane, ..Options::default() };
    let control_plane = ControlPlane::start(options).await.expect("the port is free");
    let endpoints = [place.upstreams[1].address];
    let version = control_plane
        .put([eds_cluster("both"), endpoints_of("both", &endpoints)].iter().map(resource));
    let first = control_plane.wait_ack(type_url::CLUSTER, version, None, PATIENCE).await;
    assert_eq!(first.expect("it is answered").error, None);
    load.serve_more(100).await;
    let rest = [
        eds_cluster("old"),
        endpoints_of("old", &endpoints),
        rds_listener(place.listener),
        routes("old"),
    ];
    control_plane.put(rest.iter().map(resource));
    sidecar.wait_stat("control_plane.serving_from_state", 0).await;
    load.serve_more(100).await;
    let report = load.stop().await;
    assert!(report.failures.is_empty() && report.connections == 8, "{report:?}");
    assert_served(place.listener, "two").await;
    assert_eq!(sidecar.stat("cluster_manager.cluster_removed"), 0);
    assert_eq!(sidecar.stat("listener_manager.listener_removed"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_answers_in_time_is_all_that_counts() {
    let place = Place::new("DELTA_GRPC").await;
    place.was_there().await;
    let _control_plane = place.control_plane("new", 1).await;
    let sidecar = place.start();
    assert_served(place.listener, "two").await;
    assert!(!sidecar.process.log().contains("SERVING THE LAST GOOD RESOURCES"));
}

/// Restarts without a control plane. The sidecar gets live without anything; gives its log.
async fn log_of_a_restart(place: &mut Place, arguments: &[&str]) -> String {
    let soon = json!({"initial_fetch_timeout": "0.5s"});
    let source = json!({"cds_config": soon, "lds_config": soon});
    merge(&mut place.bootstrap["dynamic_resources"], &source);
    let mut sidecar = place.spawn("1", arguments);
    sidecar.wait_live();
    assert_eq!(sidecar.stat("control_plane.serving_from_state"), 0);
    assert!(std::net::TcpStream::connect(place.listener).is_err());
    sidecar.process.log()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_trusted_is_left_alone_and_the_log_says_why() {
    let mut place = Place::new("DELTA_GRPC").await;
    place.was_there().await;
    let log = log_of_a_restart(&mut place, &["--service-node", "other"]).await;
    assert!(
        log.contains("it is of node \\\"scenario/sidecar\\\"")
            || log.contains("it is of node \"scenario/sidecar\""),
        "{log}"
    );

    let whole = std::fs::read(place.file()).expect("it was written");
    let middle = whole.len() / 2;
    let mut flipped = whole.clone();
    flipped[middle] ^= 1;
    for (bytes, reason) in [
        (&flipped[..], "its checksum is wrong"),
        (&whole[..middle], "its checksum is wrong"),
        (&b"something else"[..], "it does not begin as such a file does"),
    ] {
        std::fs::write(place.file(), bytes).expect("it is ours");
        let log = log_of_a_restart(&mut place, &[]).await;
        assert!(log.contains("it is damaged") && log.contains(reason), "{log}");
    }
    std::fs::remove_file(place.file()).expect("it is ours");
    let log = log_of_a_restart(&mut place, &[]).await;
    assert!(log.contains("no earlier process has kept its resources"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_initial_fetch_timeout_within_the_grace_period_ends_it() {
    let mut place = Place::new("GRPC").await;
    place.was_there().await;
    let source = json!({"cds_config": {"initial_fetch_timeout": "0.1s"}});
    merge(&mut place.bootstrap["dynamic_resources"], &source);
    let mut sidecar = place.spawn("3600", &[]);
    sidecar.wait_live();
    assert_served(place.listener, "one").await;
}

/// Whether any file in the folder has these bytes in it.
fn holds(folder: &Path, wanted: &str) -> bool {
    let files = std::fs::read_dir(folder).expect("a folder");
    files
        .map(|file| std::fs::read(file.expect("an entry").path()).expect("a file"))
        .any(|content| content.windows(wanted.len()).any(|bytes| bytes == wanted.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_keys_are_never_on_disk() {
    let place = Place::new("DELTA_GRPC").await;
    let control_plane = place.control_plane("old", 0).await;
    let svid = control_plane.issue_svid("spiffe://cluster.local/a").expect("a certificate");
    let secured = free_address();
    let mut listener = http_listener(secured, "old", &json!({}));
    listener["filter_chains"][0]["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [{
                "certificate_chain": {"inline_string": svid.certificate_chain},
                "private_key": {"inline_string": svid.private_key},
            }]},
        },
    });
    control_plane.put([resource(&listener), resource(&cluster("plain", Protocol::Http1, &[]))]);
    let sidecar = place.start();
    assert_eq!(sidecar.stat("listener_manager.total_listeners_active"), 2);
    sidecar.wait_stat("control_plane.state_saved", 1).await;
    assert!(sidecar.process.log().contains("holds a private key and is not kept on disk"));
    drop(sidecar);
    control_plane.stop().await;
    assert!(!holds(place.folder.path(), "PRIVATE KEY"));
    assert!(holds(place.folder.path(), "plain"));

    let sidecar = place.start();
    assert_served(place.listener, "one").await;
    assert_eq!(sidecar.stat("listener_manager.total_listeners_active"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_whose_certificate_is_the_control_planes_stays_closed_until_it_comes() {
    let place = Place::new("DELTA_GRPC").await;
    let secured = free_address();
    let mut listener = http_listener(secured, "old", &json!({}));
    listener["filter_chains"][0]["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificate_sds_secret_configs": [{
                "name": "own",
                "sds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0.2s"},
            }]},
        },
    });
    let control_plane = place.control_plane("old", 0).await;
    control_plane.put([resource(&listener)]);
    let sidecar = place.start();
    assert_eq!(sidecar.stat("listener_manager.total_listeners_active"), 2);
    sidecar.wait_stat("control_plane.state_saved", 1).await;
    drop(sidecar);
    control_plane.stop().await;

    let sidecar = place.start();
    assert_served(place.listener, "one").await;
    assert!(Connection::open(secured, Protocol::Http1).await.is_err());
    assert!(sidecar.process.log().contains("it stays closed"), "{}", sidecar.process.log());
    let control_plane = place.control_plane("old", 0).await;
    control_plane.put([resource(&listener)]);
    sidecar.wait_stat("listener_manager.total_listeners_active", 2).await;
}
