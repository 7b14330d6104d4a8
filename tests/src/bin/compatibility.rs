//! Writes `tests/COMPATIBILITY.md` anew: `cargo run -p pillion-tests --bin compatibility`.

use std::fs;
use std::process::ExitCode;

use pillion_tests::compatibility::{page, path};

fn main() -> ExitCode {
    let written = page().and_then(|(page, open)| {
        fs::write(path(), page).map_err(|error| format!("{}: {error}", path().display()))?;
        Ok(open)
    });
    match written {
        Ok(open) if open.is_empty() => ExitCode::SUCCESS,
        Ok(open) => {
            eprintln!("not decided, or decided and no longer true:");
            open.iter().for_each(|question| eprintln!("  {question}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
