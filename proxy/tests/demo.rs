//! The demo, as the README's first command runs it.

use std::process::Command;

#[test]
fn the_demo_tells_its_story_without_an_unannounced_failure() {
    let demo = Command::new(env!("CARGO_BIN_EXE_pillion")).arg("demo").output();
    let output = demo.expect("it was built");
    let (told, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{error}");
    for expected in [
        "1. Configuration arrives over ADS",
        "2. Requests spread by P2C",
        "3. Every hop proves who it is",
        "The client side is spiffe://cluster.local/shop",
        "the server side hung up",
        "4. A replica is killed and its load moves",
        "5. A route change is pushed",
        "6. An endpoint is removed and drained",
        "All 3 came whole",
        "7. A zone fails, and its load goes to another one and back",
        "Zone east is healthy again and has its load back",
        "0 at any other time",
        "Both sidecars drained and ended with exit code 0",
    ] {
        assert!(told.contains(expected), "{expected:?} is not in:\n{told}");
    }
}
