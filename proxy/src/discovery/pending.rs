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
    /// For how long already; none if that is not known.
    pub age: Option<Duration>,
}

impl Pending {
    /// Something that waits since a moment.
    pub fn new(who: &str, waits_for: &str, since: Option<Instant>) -> Self {
        Pending {
            who: who.to_owned(),
            waits_for: waits_for.to_owned(),
            age: since.map(|since| since.elapsed()),
        }
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waits for {}", self.who, self.waits_for)?;
        match self.age {
            Some(age) => write!(f, " since {} s", age.as_secs()),
            None => Ok(()),
        }
    }
}
