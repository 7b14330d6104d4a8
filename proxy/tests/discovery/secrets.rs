//! Secrets over SDS: who waits for them, and what becomes of bad ones.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use control_plane_mock::{ControlPlane, Fault, FaultKind, Options, Resource};
use proto::type_url::{CLUSTER, LISTENER, SECRET};

use crate::proxy::{Proxy, accepted, ads, refused, run, run_both, versions};
use crate::yaml::*;

/// The names that the control plane's authority issues.
const OWN: &str = "default";
const TRUST: &str = "ROOTCA";

fn is_warming(proxy: &Proxy, what: &str) -> bool {
    proxy.stat(what) == Some(1)
}

#[test]
fn listeners_and_clusters_share_secrets_that_the_control_plane_issues() {
    run_both(Options::default(), |control_plane, proxy| async move {
        control_plane.put([
            listener("in", &tls_chain(LONG, OWN, TRUST), ""),
            tls_cluster(LONG, "a", OWN, TRUST),
            tls_cluster(LONG, "b", OWN, TRUST),
        ]);
        proxy.initialized().await;
        assert!(proxy.client("a").is_some() && proxy.client("b").is_some());
        let before = proxy.server("in").expect("its secrets are there");
        let client = &control_plane.clients()[0];
        let subscribed = client.subscriptions.iter().find(|s| s.type_url == SECRET).unwrap();
        assert_eq!(subscribed.names, [TRUST, OWN]);

        let version = control_plane.rotate_certificates();
        accepted(&control_plane, SECRET, version).await;
        assert!(!Arc::ptr_eq(&before, &proxy.server("in").unwrap()));
        let factory = "listener.127.0.0.1_0.server_ssl_socket_factory.ssl_context_update_by_sds";
        assert!(proxy.stat(factory) >= Some(1));
        assert_eq!(proxy.stat("sds.default.update_success"), Some(2));
        assert!(versions(&proxy.discovery.dump().secrets, OWN).active.is_some());
    });
}

#[test]
fn secrets_that_nobody_needs_any_more_are_forgotten() {
    run_both(Options::default(), |control_plane, proxy| async move {
        let other = "spiffe://cluster.local/other";
        control_plane
            .put([tls_cluster(LONG, "a", OWN, TRUST), tls_cluster(LONG, "b", other, TRUST)]);
        proxy.initialized().await;
        let names = || {
            let dump = proxy.discovery.dump().secrets.dynamic;
            dump.iter().map(|secret| secret.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(), [TRUST, OWN, other]);
        let version = control_plane.delete(CLUSTER, ["a"]);
        accepted(&control_plane, CLUSTER, version).await;
        assert_eq!(names(), [TRUST, other]);
        let version = control_plane.delete(CLUSTER, ["b"]);
        accepted(&control_plane, CLUSTER, version).await;
        assert!(names().is_empty());
    });
}

#[test]
fn a_listener_waits_for_its_secrets() {
    run_both(Options::default(), |control_plane, proxy| async move {
        let silence = control_plane.arm(Fault::from(FaultKind::Withhold).on_type(SECRET));
        let version = control_plane.put([listener("in", &tls_chain("0s", OWN, TRUST), "")]);
        accepted(&control_plane, LISTENER, version).await;
        let warming = "listener_manager.total_listeners_warming";
        proxy.until("it warms", |proxy| is_warming(proxy, warming)).await;
        let pending = proxy.discovery.pending()[0].to_string();
        let waits = "listener \"in\" waits for secrets \"default\", \"ROOTCA\", for";
        assert!(pending.starts_with(waits), "{pending}");
        let secret = versions(&proxy.discovery.dump().secrets, OWN);
        assert_eq!(&*secret.warming.unwrap().version, "uninitialized");

        control_plane.disarm(silence);
        proxy.initialized().await;
        assert!(proxy.server("in").is_some());
        assert_eq!(proxy.stat(warming), Some(0));
    });
}

#[test]
fn after_their_initial_fetch_timeout_a_listener_and_a_cluster_go_on_without_secrets() {
    run_both(Options::default(), |control_plane, proxy| async move {
        let silence = control_plane.arm(Fault::from(FaultKind::Withhold).on_type(SECRET));
        control_plane.put([
            listener("in", &tls_chain(SHORT, OWN, TRUST), ""),
            tls_cluster(SHORT, "a", OWN, TRUST),
        ]);
        proxy.initialized().await;
        assert!(proxy.listener("in").is_some() && proxy.server("in").is_none());
        assert!(proxy.cluster("a").is_some() && proxy.client("a").is_none());
        assert_eq!(proxy.stat("sds.default.init_fetch_timeout"), Some(1));

        control_plane.disarm(silence);
        proxy
            .until("late secrets serve", |proxy| {
                proxy.server("in").is_some() && proxy.client("a").is_some()
            })
            .await;
    });
}

#[test]
fn a_changed_cluster_serves_with_its_old_secrets_until_the_new_ones_are_there() {
    run_both(Options::default(), |control_plane, proxy| async move {
        control_plane.put([tls_cluster(LONG, "a", OWN, TRUST)]);
        proxy.initialized().await;
        let before = proxy.cluster("a").unwrap();
        let other = "spiffe://cluster.local/other";
        let silence = control_plane.arm(Fault::from(FaultKind::Withhold).on_type(SECRET));
        control_plane.put([tls_cluster(LONG, "a", other, TRUST)]);
        let warming = "cluster_manager.warming_clusters";
        proxy.until("it warms", |proxy| is_warming(proxy, warming)).await;
        assert!(Arc::ptr_eq(&before, &proxy.cluster("a").unwrap()));
        let pending = proxy.discovery.pending()[0].to_string();
        let waits = format!("cluster \"a\" waits for secrets \"{other}\", for");
        assert!(pending.starts_with(&waits), "{pending}");

        control_plane.disarm(silence);
        proxy
            .until("it takes over", |proxy| {
                !Arc::ptr_eq(&before, &proxy.cluster("a").unwrap()) && proxy.client("a").is_some()
            })
            .await;
    });
}

#[test]
fn a_bad_secret_is_refused_and_the_last_good_one_stays() {
    run_both(Options::default(), |control_plane, proxy| async move {
        control_plane.put([listener("in", &tls_chain(LONG, OWN, TRUST), "")]);
        proxy.initialized().await;
        let before = proxy.server("in").unwrap();
        let one = control_plane.issue_svid("spiffe://cluster.local/one").unwrap();
        let two = control_plane.issue_svid("spiffe://cluster.local/two").unwrap();
        let version =
            control_plane.put([certificate(OWN, &one.certificate_chain, &two.private_key)]);
        let message = refused(&control_plane, SECRET, version).await;
        let reason = "default: secret \"default\": tls_certificate: cannot be used: ";
        assert!(message.starts_with(reason), "{message}");
        assert!(Arc::ptr_eq(&before, &proxy.server("in").unwrap()));
        assert_eq!(proxy.stat("sds.default.update_rejected"), Some(1));
        let known = versions(&proxy.discovery.dump().secrets, OWN);
        assert!(known.active.is_some() && known.refused.is_some());

        let version =
            control_plane.put([certificate(OWN, &one.certificate_chain, &one.private_key)]);
        accepted(&control_plane, SECRET, version).await;
        assert!(!Arc::ptr_eq(&before, &proxy.server("in").unwrap()));
        assert!(versions(&proxy.discovery.dump().secrets, OWN).refused.is_none());
    });
}

#[test]
fn a_secret_that_the_server_removes_stays_in_use() {
    run_both(Options::default(), |control_plane, proxy| async move {
        let svid = control_plane.issue_svid("spiffe://cluster.local/one").unwrap();
        control_plane.put([
            certificate("mine", &svid.certificate_chain, &svid.private_key),
            listener("in", &tls_chain(LONG, "mine", TRUST), ""),
        ]);
        proxy.initialized().await;
        let before = proxy.server("in").unwrap();
        control_plane.delete(SECRET, ["mine"]);
        let version = control_plane.rotate_authority().unwrap();
        accepted(&control_plane, SECRET, version).await;
        let now = proxy.server("in").expect("the secret is still there");
        assert!(!Arc::ptr_eq(&before, &now), "the new trust is in use");
    });
}

#[test]
fn a_secret_that_nobody_defined_is_an_error() {
    run(async {
        let control_plane = ControlPlane::start_default().await.unwrap();
        let proxy = Proxy::start(&ads(&control_plane, "GRPC", LONG));
        let chain = tls_chain(LONG, OWN, TRUST).replace(&sds_source(LONG), "");
        let version = control_plane.put([listener("in", &chain, "")]);
        let message = refused(&control_plane, LISTENER, version).await;
        assert!(message.contains("common_tls_context.tls_certificate_sds_secret_configs[0]: Unknown static secret: default"), "{message}");
        drop(proxy);
    });
}

/// A certificate in files, and a secret that names them.
struct Files<'a> {
    control_plane: &'a ControlPlane,
    folder: &'a Path,
}

impl Files<'_> {
    /// Puts a new pair in a folder of its own and moves the link `..data` there, as Kubernetes does.
    fn replace(&self, generation: usize) {
        let svid = self.control_plane.issue_svid("spiffe://cluster.local/files").unwrap();
        let data = self.folder.join(format!("..{generation}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("cert.pem"), svid.certificate_chain).unwrap();
        fs::write(data.join("key.pem"), svid.private_key).unwrap();
        self.link(generation);
    }

    fn link(&self, generation: usize) {
        let link = self.folder.join("..next");
        std::os::unix::fs::symlink(format!("..{generation}"), &link).unwrap();
        fs::rename(link, self.folder.join("..data")).unwrap();
    }

    fn secret(&self) -> Resource {
        let path = |name: &str| self.folder.join(name).display().to_string();
        secret(&format!(
            "{{name: files, tls_certificate: {{certificate_chain: {{filename: '{}'}}, private_key: {{filename: '{}'}}}}}}",
            path("cert.pem"),
            path("key.pem"),
        ))
    }
}

#[test]
fn files_of_secrets_are_read_again_when_their_folder_is_replaced() {
    run(async {
        let control_plane = ControlPlane::start_default().await.unwrap();
        let proxy = Proxy::start(&ads(&control_plane, "GRPC", LONG));
        let folder = tempfile::tempdir().unwrap();
        let files = Files { control_plane: &control_plane, folder: folder.path() };
        files.replace(1);
        for name in ["cert.pem", "key.pem"] {
            let target = Path::new("..data").join(name);
            std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
        }
        control_plane.put([files.secret(), listener("in", &tls_chain(LONG, "files", TRUST), "")]);
        proxy.initialized().await;
        let first = proxy.server("in").unwrap();

        files.replace(2);
        proxy
            .until("the new files serve", |proxy| {
                !Arc::ptr_eq(&first, &proxy.server("in").unwrap())
            })
            .await;
        let second = proxy.server("in").unwrap();

        // A key that does not belong to the certificate: what served goes on.
        let broken = folder.path().join("..3");
        fs::create_dir(&broken).unwrap();
        fs::copy(folder.path().join("..1/cert.pem"), broken.join("cert.pem")).unwrap();
        fs::copy(folder.path().join("..2/key.pem"), broken.join("key.pem")).unwrap();
        files.link(3);
        let failed = "sds.files.key_rotation_failed";
        proxy.until("the bad files are refused", |proxy| proxy.stat(failed) > Some(0)).await;
        assert!(Arc::ptr_eq(&second, &proxy.server("in").unwrap()));

        files.replace(4);
        proxy
            .until("good files serve", |proxy| !Arc::ptr_eq(&second, &proxy.server("in").unwrap()))
            .await;
    });
}
