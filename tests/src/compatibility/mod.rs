//! What Pillion does with every field that a control plane may send, found out by trying.
//!
//! For each field of each message, a resource with this field is translated as the process translates it. What comes of it
//! shows in the result: an error that names the field, a warning that names it, or a model that differs. A field that is
//! taken, and neither changes the model nor gives a warning, must be decided about in `tests/compatibility.yaml`.

mod decisions;
mod judge;
mod page;
mod place;
mod probe;
mod roots;
mod values;
mod walk;

use std::fs;
use std::path::{Path, PathBuf};

use proto::Registry;

use crate::differential;
use decisions::Decisions;
use judge::Judge;

/// The page in the repository.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("COMPATIBILITY.md")
}

/// The page as it must be now, and everything that nobody has decided about.
pub fn page() -> Result<(String, Vec<String>), String> {
    let decisions = Decisions::read()?;
    let findings = walk::walk(&Registry::load(), &decisions)?;
    let mut judge = Judge::new(&decisions);
    let page = page::page(&findings, &mut judge, &differential::tally()?);
    Ok((page, judge.open_questions()))
}

/// Compares the committed page with what holds.
///
/// # Errors
/// It is out of date, or a field is undecided.
pub fn check() -> Result<(), String> {
    let (page, open) = page()?;
    if !open.is_empty() {
        return Err(format!(
            "not decided, or decided and no longer true (tests/compatibility.yaml):\n  {}",
            open.join("\n  ")
        ));
    }
    match fs::read_to_string(path()) {
        Ok(committed) if committed == page => Ok(()),
        _ => Err("tests/COMPATIBILITY.md is out of date; \
                  `cargo run -p pillion-tests --bin compatibility` writes it anew"
            .into()),
    }
}
