//! Which management server to use, and when to try it again.

use std::time::Duration;

use crate::backoff::{Backoff, BackoffConfig};

/// Streams of one server that may end unanswered in a row before the next server is tried.
const FAILURES_BEFORE_FAILOVER: u32 = 2;

/// The servers of a client, by index, best first.
pub(super) struct Servers {
    count: usize,
    current: usize,
    /// Streams of the current server that ended unanswered, in a row.
    failures: u32,
    /// The server that answered last: the versions at hand are its versions.
    versions_from: Option<usize>,
    backoff: Backoff,
}

impl Servers {
    /// `count` is at least 1.
    pub fn new(count: usize, backoff: BackoffConfig) -> Self {
        let backoff = Backoff::new(backoff, fastrand::Rng::new());
        Self { count, current: 0, failures: 0, versions_from: None, backoff }
    }

    pub fn current(&self) -> usize {
        self.current
    }

    /// Whether the current server knows the versions at hand.
    pub fn resumes(&self) -> bool {
        self.versions_from.is_none_or(|server| server == self.current)
    }

    /// The current server answered. Returns whether the versions at hand are another's.
    pub fn heard(&mut self) -> bool {
        let foreign = !self.resumes();
        self.versions_from = Some(self.current);
        self.backoff.reset();
        foreign
    }

    /// A stream ended. Chooses the next server and returns the delay before it is tried: the best
    /// one after a stream that was answered, the next one after two that were not.
    pub fn closed(&mut self, heard: bool) -> Duration {
        if heard {
            self.current = 0;
            self.failures = 0;
        } else {
            self.failures += 1;
            if self.failures >= FAILURES_BEFORE_FAILOVER {
                self.current = (self.current + 1) % self.count;
                self.failures = 0;
            }
        }
        self.backoff.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_failures_move_on_and_an_answer_leads_back() {
        let mut servers = Servers::new(2, BackoffConfig::default());
        servers.closed(false);
        assert_eq!(servers.current(), 0);
        servers.closed(false);
        assert_eq!(servers.current(), 1);
        assert!(servers.resumes(), "nobody's versions are nobody else's");
        assert!(!servers.heard());
        servers.closed(true);
        assert_eq!(servers.current(), 0);
        assert!(!servers.resumes());
        assert!(servers.heard());
        assert!(servers.resumes());
    }

    #[test]
    fn the_last_server_is_followed_by_the_first() {
        let mut servers = Servers::new(2, BackoffConfig::default());
        for _ in 0..4 {
            servers.closed(false);
        }
        assert_eq!(servers.current(), 0);
    }
}
