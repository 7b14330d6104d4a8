//! h2spec against a listener: HTTP/2 and HPACK as clients may abuse them.

use std::collections::BTreeSet;
use std::process::Command;

use pillion_tests::programs::{free_address, tool};
use pillion_tests::scenario::config::{cluster, http_listener, static_bootstrap};
use pillion_tests::scenario::{Protocol, Sidecar, Upstream};
use regex::Regex;
use serde_json::json;
use tokio::task::block_in_place;

use super::Passed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2spec_finds_what_is_known() {
    let Some(h2spec) = tool("peers/h2spec") else {
        eprintln!("did not run: h2spec is not in target/tools/peers, see .ci/install-tools");
        return;
    };
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let listener = free_address();
    let listeners = [http_listener(listener, "up", &json!({}))];
    let clusters = [cluster("up", Protocol::Http1, &[upstream.address])];
    let _sidecar = Sidecar::start(&static_bootstrap(&listeners, &clusters), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report.xml");
    let mut command = Command::new(h2spec);
    // A case needs a body that is longer than a small window.
    command.args(["--path", "/bytes/100"]);
    command.args(["--strict", "--timeout", "5", "--host", "127.0.0.1", "--junit-report"]);
    command.arg(&report).arg("--port").arg(listener.port().to_string());
    // Its status says only whether anything failed.
    let output = block_in_place(|| command.output()).expect("it was built");
    let report = std::fs::read(&report)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)));
    let report = String::from_utf8_lossy(&report);
    let case = Regex::new(r#"<testcase package="([^"]*)" classname="([^"]*)"[^>]*>(</testcase>)?"#);
    let case = case.expect("it is an expression");
    let (mut passed, mut failed) = (0, BTreeSet::new());
    for found in case.captures_iter(&report) {
        match found.get(3) {
            Some(_) => passed += 1,
            None => drop(failed.insert(format!("{}: {}", &found[1], &found[2]))),
        }
    }
    let expected = super::expected("h2spec");
    assert_eq!(failed, expected.failed.into_keys().collect());
    assert_eq!(Passed::Count(passed), expected.passed);
}
