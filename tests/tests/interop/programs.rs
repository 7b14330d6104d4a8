//! Programs that people have at hand. One that is not installed is skipped, and the test says so.

use std::process::{Command, Output};

use pillion_tests::programs::needed;
use pillion_tests::scenario::{Protocol, Upstream};
use serde_json::json;
use tokio::task::block_in_place;

/// Runs a program to its end; `None` if it is not installed.
pub fn run(name: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(needed(name)?);
    let output = block_in_place(|| command.args(arguments).output());
    let Output { status, stdout, stderr } = output.unwrap_or_else(|e| panic!("{name}: {e}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{name} {arguments:?}: {status}\n{stdout}\n{stderr}");
    Some(stdout.into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_and_posts_over_both_protocols() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    upstream.gate.open();
    let (_sidecar, listener) = super::sidecar(upstream.address, Protocol::Http1, &json!({}));
    let url = |path: &str| format!("http://{listener}{path}");
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let common = ["-sS", "--fail", "--max-time", "20", protocol];
        let curl = |more: &[&str]| run("curl", &[&common[..], more].concat());
        let Some(got) = curl(&[&url("/")]) else { return };
        assert_eq!(got, "up", "{protocol}");
        let large = "x".repeat(100_000);
        assert_eq!(curl(&["-d", &large, &url("/count")]), Some("100000".to_owned()));
        let chunked = ["-H", "transfer-encoding: chunked", "-d", "hello", &url("/echo")];
        assert_eq!(curl(&chunked), Some("hello".to_owned()));
    }
    // Not over HTTP/2: curl 7.88 fails at that with any server.
    let two = run("curl", &["-sS", &url("/"), &url("/"), "-w", "%{num_connects}"]);
    assert_eq!(two, Some("up1up0".to_owned()), "the connection is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_sees_no_failure() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let (_sidecar, listener) = super::sidecar(upstream.address, Protocol::Http1, &json!({}));
    let url = format!("http://{listener}/");
    for protocol in ["h2c", "http/1.1"] {
        let arguments = ["-n", "2000", "-c", "20", "-m", "10", "-p", protocol, &url];
        let Some(report) = run("h2load", &arguments) else { return };
        assert!(report.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{report}");
        assert!(report.contains("2000 2xx"), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nghttp_multiplexes_and_uploads() {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    upstream.gate.open();
    let (_sidecar, listener) = super::sidecar(upstream.address, Protocol::Http1, &json!({}));
    let url = |path: &str| format!("http://{listener}{path}");
    let Some(got) = run("nghttp", &[&url("/"), &url("/hold"), &url("/bytes/10")]) else { return };
    assert!(["up", "first ", "last"].iter().all(|part| got.contains(part)), "{got}");
}
