//! `tests/COMPATIBILITY.md` says what holds, and there is no field that nobody has decided about.

use pillion_tests::compatibility;

#[test]
fn the_page_says_what_becomes_of_every_field() {
    if let Err(error) = compatibility::check() {
        panic!("{error}");
    }
}
