//! What the README shows must work.

use std::fs;
use std::process::Command;

#[test]
fn every_bootstrap_of_the_readme_is_valid() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let text = fs::read_to_string(readme).expect("there is a README");
    let blocks: Vec<&str> = text.split("```yaml\n").skip(1).collect();
    assert_eq!(blocks.len(), 2, "one without and one with a control plane");
    for block in blocks {
        let (bootstrap, _) = block.split_once("```").expect("the block ends");
        let output = Command::new(env!("CARGO_BIN_EXE_pillion"))
            .args(["--mode", "validate", "--config-yaml", bootstrap])
            .output()
            .expect("it was built");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}\n{bootstrap}");
        assert!(!error.contains("WARN"), "it warns of fields without effect: {error}");
    }
}
