//! A bounded run of the generator where Envoy is installed.

use pillion_tests::differential::{Options, generate};
use pillion_tests::programs;

/// Random cases of each kind.
const ROUNDS: u64 = 4;

#[test]
fn envoy_and_pillion_agree_on_random_configurations() {
    let Some(envoy) = programs::envoy() else {
        println!("did not run: there is no Envoy");
        return;
    };
    let seed = fastrand::u64(..1_000_000);
    println!("seed {seed}");
    let options =
        Options { filter: String::new(), envoy: Some(envoy), pillion: Some(programs::pillion()) };
    if let Err(found) = generate(&options, seed, ROUNDS) {
        panic!("{found}");
    }
}
