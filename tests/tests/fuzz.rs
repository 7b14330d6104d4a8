//! Every fuzz target with its first inputs, which are always the same.

use pillion_tests::fuzz::{Until, run, targets};

/// How many inputs each target gets.
const INPUTS: u64 = 2000;

#[test]
fn no_target_breaks() {
    let broken: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> =
            targets().map(|target| scope.spawn(move || run(target, Until::Seed(INPUTS)))).collect();
        runs.into_iter().filter_map(|run| run.join().expect("a run does not panic").err()).collect()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
