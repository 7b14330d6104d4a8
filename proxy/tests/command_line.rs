//! The command line as agents use it, on the real program.

use std::process::{Command, Output};

fn pillion(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_pillion");
    Command::new(program).args(arguments).output().expect("it was built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_version_has_the_form_that_agents_parse() {
    let output = pillion(&["--version"]);
    assert!(output.status.success());
    let printed = text(&output.stdout);
    let version = printed.trim().strip_prefix("pillion  version: ").expect("as Envoy prints it");
    assert_eq!(version.split('/').count(), 5, "{version}");
}

#[test]
fn a_bootstrap_can_be_checked_without_serving() {
    let output = pillion(&["--mode", "validate", "--config-yaml", "node: {id: a, cluster: b}"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_broken_bootstrap_is_refused_with_its_field() {
    let broken = "static_resources: {clusters: [{name: a, connect_timeout: soon}]}";
    let output = pillion(&["--mode", "validate", "--config-yaml", broken]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("connect_timeout"), "{error}");
}

#[test]
fn a_flag_that_envoy_does_not_have_is_refused() {
    assert!(!pillion(&["--no-such-flag"]).status.success());
}
