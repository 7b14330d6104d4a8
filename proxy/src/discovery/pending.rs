//! What the process still waits for.

use std::fmt;
use std::time::{Duration, Instant};

/// Something that waits, for people who ask why the proxy is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Who waits: `cluster "a"`.
    pub who: String,
    /// For what: `endpoints of "a"`.
    pub waits_for: String,
    /// For how long already.
    pub age: Duration,
}

impl Pending {
    /// Something that waits since a moment.
    pub fn new(who: &str, waits_for: &str, since: Instant) -> Self {
        Pending { who: who.to_owned(), waits_for: waits_for.to_owned(), age: since.elapsed() }
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pending { who, waits_for, age } = self;
        write!(f, "{who} waits for {waits_for}, for {} s now", age.as_secs())
    }
}
