//! Filesystem subscriptions.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use prost::Message;
use proto::envoy::service::discovery::v3::DiscoveryResponse;
use xds_client::file::{FileConfig, FileError, watch};
use xds_client::{ResourceError, ResourceStatus};

use crate::script::*;

/// A folder that disappears with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("files-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(path.join("moved")).expect("a fresh folder");
        Self(path)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("the folder is writable");
        path
    }

    /// Replaces a file the way that is noticed.
    fn replace(&self, name: &str, content: &[u8]) {
        let new = self.write("new", content);
        std::fs::rename(new, self.0.join(name)).expect("the folder is writable");
    }

    fn config(&self, name: &str) -> FileConfig {
        FileConfig { path: self.0.join(name), watched_directory: None, parse }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind, it does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn parse(path: &Path) -> Result<DiscoveryResponse, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    DiscoveryResponse::decode(bytes.as_slice()).map_err(|error| error.to_string())
}

fn content(type_url: &str, version: &str, names: &[&str]) -> Vec<u8> {
    world(type_url, version, "", names).encode_to_vec()
}

#[tokio::test]
async fn a_file_is_read_at_once_and_whenever_one_is_moved_over_it() {
    let folder = Folder::new();
    folder.write("cds.pb", &content(CDS, "1", &["a", "b"]));
    let mut subscription = watch(folder.config("cds.pb"), clusters()).expect("the file is there");
    let first = update(&mut subscription).await;
    assert_eq!((names(&first), first.version.as_str()), (vec!["a", "b"], "1"));
    first.accept();

    folder.replace("cds.pb", &content(CDS, "2", &["b"]));
    let second = update(&mut subscription).await;
    assert_eq!((names(&second), &second.removed[..]), (vec!["b"], &["a".to_string()][..]));
    second.reject(vec![ResourceError::new("b", "no")]);
    let refused = ResourceStatus::Nacked { error: "no".into(), version: "2".into() };
    assert_eq!(resources(&subscription).await, [("b".into(), refused, "1".into())]);
}

#[tokio::test]
async fn a_bad_file_is_reported_and_what_was_good_stays() {
    let folder = Folder::new();
    folder.write("cds.pb", &content(CDS, "1", &["a"]));
    let mut subscription = watch(folder.config("cds.pb"), clusters()).expect("the file is there");
    update(&mut subscription).await.accept();
    folder.replace("cds.pb", &[0xff; 20]);
    let bad = update(&mut subscription).await;
    assert_eq!((bad.resources.len(), bad.removed.len(), bad.answer.errors().len()), (0, 0, 1));
    bad.accept();
    folder.replace("cds.pb", &content(EDS, "2", &["a"]));
    let mistyped = update(&mut subscription).await;
    assert!(mistyped.answer.errors()[0].message.contains("they must be equal"));
    mistyped.accept();
    assert_eq!(resources(&subscription).await, [("a".into(), ResourceStatus::Acked, "1".into())]);
    let stats = subscription.handle().stats().await.expect("the task runs");
    assert_eq!((stats.update_success, stats.update_failure, stats.update_rejected), (1, 1, 1));
    assert_eq!(stats.version_text, "1");
}

#[tokio::test]
async fn a_write_in_place_or_a_neighbour_is_not_noticed() {
    let folder = Folder::new();
    folder.write("cds.pb", &content(CDS, "1", &["a"]));
    let mut subscription = watch(folder.config("cds.pb"), clusters()).expect("the file is there");
    update(&mut subscription).await.accept();
    folder.write("cds.pb", &content(CDS, "2", &["a"]));
    folder.replace("neighbour.pb", &content(CDS, "3", &["a"]));
    folder.replace("cds.pb", &content(CDS, "4", &["a"]));
    assert_eq!(update(&mut subscription).await.version, "4");
}

#[tokio::test]
async fn a_move_into_the_watched_folder_is_enough() {
    let folder = Folder::new();
    folder.write("v1", &content(CDS, "1", &["a"]));
    folder.write("v2", &content(CDS, "2", &["a"]));
    std::os::unix::fs::symlink("v1", folder.0.join("cds.pb")).expect("a link");
    let mut config = folder.config("cds.pb");
    config.watched_directory = Some(folder.0.join("moved"));
    let mut subscription = watch(config, clusters()).expect("the file is there");
    update(&mut subscription).await.accept();
    folder.replace("cds.pb", &content(CDS, "2", &["a"]));
    folder.replace("moved/data", b"anything");
    assert_eq!(update(&mut subscription).await.version, "2");
}

#[tokio::test]
async fn names_are_picked_from_the_file_when_they_are_asked_for() {
    let folder = Folder::new();
    folder.write("eds.pb", &content(EDS, "1", &["a", "b"]));
    let mut subscription = watch(folder.config("eds.pb"), endpoints()).expect("the file is there");
    subscription.handle().add(["b"]);
    let first = update(&mut subscription).await;
    assert_eq!(names(&first), ["b"]);
    first.accept();
    subscription.handle().add(["a"]);
    assert_eq!(names(&update(&mut subscription).await), ["a", "b"]);
}

#[tokio::test]
async fn a_missing_file_or_folder_is_an_error() {
    let folder = Folder::new();
    let missing = watch(folder.config("cds.pb"), clusters());
    assert!(matches!(missing, Err(FileError::Missing { .. })));
    folder.write("cds.pb", &[]);
    let mut config = folder.config("cds.pb");
    config.watched_directory = Some(folder.0.join("nowhere"));
    assert!(matches!(watch(config, clusters()), Err(FileError::Watch { .. })));
}
