//! One of both processes dies, hangs, or speaks another language.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use pillion_tests::programs::pillion;
use pillion_tests::scenario::{Connection, Protocol, Sidecar, until};

use super::{SOON, Scene};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_process_goes_on_when_the_new_one_dies() {
    let scene = Scene::new().await;
    let mut old = scene.start(0, &["--drain-strategy", "immediate"]).await;
    let mut kept = Connection::must_open(scene.http, Protocol::Http1).await;
    for _ in 0..2 {
        let mut new = scene.start(1, &[]).await;
        new.process.signal("KILL").expect("kill is there");
        new.wait_exit();
        // Whoever connects before the old process knows waits in its queue.
        let mut late = Connection::must_open(scene.http, Protocol::Http1).await;
        assert_eq!(late.get("/").await.expect("an answer").body, "up");
        scene.wait_epoch(&mut old, 0).await;
        assert!(!kept.get("/").await.expect("an answer").closes());
    }
    assert_eq!(old.get("/ready").status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_that_never_serves_leaves_everything_as_it_was() {
    let mut scene = Scene::new().await;
    let mut old = scene.start(0, &[]).await;
    // The listener cannot be made: its cluster is unknown.
    scene.bootstrap["static_resources"]["clusters"] = serde_json::json!([]);
    let mut new = scene.spawn(1, &[]);
    assert!(!new.wait_exit().success());
    scene.wait_epoch(&mut old, 0).await;
    let mut connection = Connection::must_open(scene.http, Protocol::Http2).await;
    assert_eq!(connection.get("/").await.expect("an answer").body, "up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_process_that_hangs_is_ended() {
    let scene = Scene::new().await;
    let mut old = scene.start(0, &[]).await;
    old.process.signal("STOP").expect("kill is there");
    let mut new = scene.spawn(1, &["--parent-shutdown-time-s", "0"]);
    assert!(!old.wait_exit().success());
    scene.wait_epoch(&mut new, 1).await;
    let mut connection = Connection::must_open(scene.http, Protocol::Http1).await;
    assert_eq!(connection.get("/").await.expect("an answer").body, "up");
    assert!(new.process.log().contains("does not answer"), "{}", new.process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_old_process_the_new_one_binds_by_itself() {
    let scene = Scene::new().await;
    let warns = scene.start(3, &SOON).await;
    assert!(warns.process.log().contains("WARN"), "{}", warns.process.log());
    drop(warns);
    let quiet = scene.start(3, &["--skip-hot-restart-on-no-parent"]).await;
    assert!(!quiet.process.log().contains("WARN"), "{}", quiet.process.log());
}

/// A process of another version has the name, and refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_process_of_another_version_is_left_alone() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("meet");
    let listener = UnixListener::bind(folder.path().join(format!("meet_{}_0", scene.base_id)));
    let listener = listener.expect("a socket");
    let old = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a process");
        let mut hello = [0; 4];
        stream.read_exact(&mut hello).expect("a length");
        let mut hello = vec![0; u32::from_be_bytes(hello) as usize];
        stream.read_exact(&mut hello).expect("a message");
        let answer = br#"{"answer": "refused", "reason": "this is version 9"}"#;
        stream.write_all(&(answer.len() as u32).to_be_bytes()).expect("write");
        stream.write_all(answer).expect("write");
        String::from_utf8(hello).expect("text")
    });
    let path = path.to_string_lossy();
    let flags = ["--socket-path", path.as_ref(), "--socket-mode", "660"];
    let new = scene.start(1, &flags).await;
    let hello = old.join().expect("it does not panic");
    assert_eq!(hello, r#"{"ask":"hello","protocol":1,"epoch":1}"#);
    until("the reason", || new.process.log().contains("this is version 9")).await;
    let mut connection = Connection::must_open(scene.http, Protocol::Http1).await;
    assert_eq!(connection.get("/").await.expect("an answer").body, "up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_cannot_have_one_base_id_and_epoch() {
    let scene = Scene::new().await;
    let _first = scene.start(0, &[]).await;
    let mut second = scene.spawn(0, &[]);
    assert!(!second.wait_exit().success());
    assert!(second.process.log().contains("--base-id"), "{}", second.process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dynamic_base_id_is_written_where_the_next_process_finds_it() {
    let mut scene = Scene::new().await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_string_lossy().into_owned();
    let flags = ["--use-dynamic-base-id", "--base-id-path", &path, "-l", "warning"];
    let mut old = Sidecar::spawn_at(scene.admin, &pillion(), &scene.bootstrap, &flags);
    old.wait_live();
    scene.base_id = std::fs::read_to_string(&path).expect("a number");
    let _new = scene.start(1, &SOON).await;
    assert!(old.wait_exit().success());
}
