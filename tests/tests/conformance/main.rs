//! Other people's conformance tools, and what passes of them: `tests/conformance.yaml` says which cases do, and why others do not.
//! `.ci/install-tools` builds the tools; a test whose tool is not there says so.

mod grpc;
mod h2spec;

use std::collections::BTreeMap;

use serde::Deserialize;

/// What a tool found.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Results {
    /// How many cases, or which, pass.
    passed: Passed,
    /// The cases that do not, each with the reason.
    #[serde(default)]
    failed: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
enum Passed {
    Count(usize),
    Cases(Vec<String>),
}

/// The entry of a tool.
fn expected(tool: &str) -> Results {
    let text = include_str!("../../conformance.yaml");
    let mut all: BTreeMap<String, Results> = yaml_serde::from_str(text).expect("it is a table");
    all.remove(tool).unwrap_or_else(|| panic!("{tool} is not in conformance.yaml"))
}
