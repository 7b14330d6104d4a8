//! Every case under `tests/cases`, against Envoy where it is installed, else against its recorded answers.

use pillion_tests::differential::{Options, run};
use pillion_tests::programs;

/// `CASES=routes/` runs only the cases whose name contains that.
#[test]
fn pillion_behaves_as_envoy_does() {
    let filter = std::env::var("CASES").unwrap_or_default();
    let options = Options { filter, envoy: programs::envoy(), pillion: Some(programs::pillion()) };
    if let Err(failed) = run(&options) {
        panic!("failed: {failed}");
    }
}
