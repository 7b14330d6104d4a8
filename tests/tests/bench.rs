//! The benchmark itself: one scenario that needs nothing but the byte relay, which is part of it.

use std::process::Command;

use serde_json::Value;

fn bench(arguments: &[&str]) -> (bool, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().expect("it was built");
    (output.status.success(), String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn figures_come_as_json() {
    let (success, text) = bench(&["--quick", "--json", "--only", "idle", "--programs", "relay"]);
    assert!(success);
    let reports: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(reports[0]["scenario"], "idle");
    let figures = &reports[0]["rows"][0]["figures"];
    assert!(figures["memory"].as_f64().expect("a number") > 0.0, "{text}");
    assert!(figures["ready"].as_f64().expect("a number") > 0.0, "{text}");
}

#[test]
fn what_a_program_cannot_do_is_said() {
    let (success, text) = bench(&["--quick", "--only", "clusters-1000", "--programs", "relay"]);
    assert!(success);
    assert!(text.contains("relay: cannot do this"), "{text}");
}

#[test]
fn a_goal_that_cannot_be_judged_is_not_met_in_a_strict_run() {
    let (success, _) = bench(&["--strict", "--only", "clusters-1000", "--programs", "relay"]);
    assert!(!success);
}
