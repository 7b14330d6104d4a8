//! Where the programs are.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Debian keeps daemons here, and a plain user's PATH often lacks these folders.
const DAEMON_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The real Envoy: `PILLION_ENVOY`, else what `.ci/install-tools` unpacked into `target/tools/envoy`, else the PATH.
///
/// # Panics
/// When `PILLION_ENVOY` names a file that does not exist: running without Envoy would hide the mistake.
pub fn envoy() -> Option<PathBuf> {
    if let Some(path) = env::var_os("PILLION_ENVOY") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "PILLION_ENVOY={} is not a file", path.display());
        return Some(path);
    }
    tool("envoy").or_else(|| in_path("envoy"))
}

/// What `.ci/install-tools` put at `name` in `target/tools`.
pub fn tool(name: &str) -> Option<PathBuf> {
    above_current_exe(&format!("tools/{name}"))
}

/// The Pillion that was built into the same folder as the running program (`target/debug` or `target/release`).
///
/// # Panics
/// When it has not been built.
pub fn pillion() -> PathBuf {
    find_pillion().unwrap_or_else(|| {
        panic!(
            "no `pillion` beside {}: run `cargo build` first, with --release if this program was built with it",
            env::current_exe().unwrap_or_default().display()
        )
    })
}

/// As [`pillion()`], for callers that can do without.
pub fn find_pillion() -> Option<PathBuf> {
    let exe = env::current_exe().ok()?;
    // A binary lies in `target/PROFILE`, a test in `target/PROFILE/deps`.
    exe.ancestors().skip(1).take(2).map(|folder| folder.join("pillion")).find(|path| path.is_file())
}

/// The program `name` in the PATH or in the folders of daemons.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(DAEMON_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Says that the running test did nothing, past the capture of tests' output: it must not pass for one that ran.
pub fn did_not_run(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    // A standard error that is closed leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "did not run: {name}: {why}");
}

/// As [`in_path`], for a test that cannot run without the program; says so if it is not there.
pub fn needed(name: &str) -> Option<PathBuf> {
    let path = in_path(name);
    if path.is_none() {
        did_not_run(&format!("`{name}` is not installed"));
    }
    path
}

/// `relative` in the nearest folder above the running program: finds the target folder under any name.
fn above_current_exe(relative: &str) -> Option<PathBuf> {
    let exe = env::current_exe().ok()?;
    exe.ancestors().skip(1).map(|folder: &Path| folder.join(relative)).find(|path| path.is_file())
}
