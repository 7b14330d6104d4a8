//! What outlier detection counts of one host. The data path writes, the detector reads.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;

use super::{Outcome, Reason};
use crate::config::cluster::{Consecutive, OutlierDetection};

/// A host's counts.
#[derive(Debug, Default)]
pub struct Monitor {
    row_of_5xx: Row,
    row_of_gateway_failures: Row,
    row_of_local_failures: Row,
    /// Answers, and local errors where they are not told apart.
    pub(super) answers: Share,
    /// Connections, where local errors are told apart.
    pub(super) local: Share,
    /// The detector's own.
    pub(super) ejection: Mutex<Ejection>,
}

/// When a host was ejected, and how often.
#[derive(Debug, Default)]
pub(super) struct Ejection {
    pub since: Option<Instant>,
    pub ended: Option<Instant>,
    /// How many times the base the ejection lasts.
    pub backoff: u32,
}

/// Errors in a row.
#[derive(Debug, Default)]
struct Row(AtomicU32);

impl Row {
    /// One more; whether just now it is as many as make an outlier.
    fn grows_to(&self, limit: Consecutive) -> bool {
        self.0.fetch_add(1, Relaxed) + 1 == limit.threshold
    }

    fn ends(&self) {
        // A look costs less than a write to memory that other workers read.
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }
}

/// How many there were since the last sweep, and how many of them were good.
#[derive(Debug, Default)]
pub(super) struct Share {
    all: AtomicU64,
    good: AtomicU64,
}

impl Share {
    fn add(&self, is_good: bool) {
        self.all.fetch_add(1, Relaxed);
        if is_good {
            self.good.fetch_add(1, Relaxed);
        }
    }

    /// All and the good ones; starts anew.
    pub fn take(&self) -> (u64, u64) {
        (self.all.swap(0, Relaxed), self.good.swap(0, Relaxed))
    }
}

impl Monitor {
    /// Counts an outcome; tells the thresholds that it has just reached.
    pub(super) fn count(&self, outcome: Outcome, config: &OutlierDetection) -> [Option<Reason>; 2] {
        match outcome {
            Outcome::Answered(status) => self.count_answer(status, config),
            Outcome::Connected | Outcome::SessionConnected if config.split_local_origin => {
                self.local.add(true);
                self.row_of_local_failures.ends();
                [None, None]
            }
            Outcome::Broken | Outcome::TimedOut if config.split_local_origin => {
                self.local.add(false);
                let limit = config.consecutive_local_origin_failure;
                let is_full = self.row_of_local_failures.grows_to(limit);
                [is_full.then_some(Reason::ConsecutiveLocalOriginFailure), None]
            }
            // Told as the answer that the client gets.
            Outcome::Connected => [None, None],
            Outcome::SessionConnected => self.count_answer(200, config),
            Outcome::Broken => self.count_answer(503, config),
            Outcome::TimedOut => self.count_answer(504, config),
        }
    }

    fn count_answer(&self, status: u16, config: &OutlierDetection) -> [Option<Reason>; 2] {
        self.answers.add(status < 500);
        if status < 500 {
            self.row_of_5xx.ends();
            self.row_of_gateway_failures.ends();
            return [None, None];
        }
        let mut gateway = None;
        if (502..=504).contains(&status) {
            let is_full = self.row_of_gateway_failures.grows_to(config.consecutive_gateway_failure);
            gateway = is_full.then_some(Reason::ConsecutiveGatewayFailure);
        } else {
            self.row_of_gateway_failures.ends();
        }
        let is_full = self.row_of_5xx.grows_to(config.consecutive_5xx);
        [gateway, is_full.then_some(Reason::Consecutive5xx)]
    }

    /// Starts the row that made the host an outlier anew.
    pub(super) fn restart(&self, reason: Reason) {
        match reason {
            Reason::Consecutive5xx => self.row_of_5xx.ends(),
            Reason::ConsecutiveGatewayFailure => self.row_of_gateway_failures.ends(),
            Reason::ConsecutiveLocalOriginFailure => self.row_of_local_failures.ends(),
            _ => {}
        }
    }

    /// The host is back: every row starts anew.
    pub(super) fn came_back(&self) {
        self.ejection.lock().ended = Some(Instant::now());
        self.restart_rows();
    }

    pub(super) fn restart_rows(&self) {
        self.row_of_5xx.ends();
        self.row_of_gateway_failures.ends();
        self.row_of_local_failures.ends();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::cluster::outlier::tests::config;

    fn reasons(config: &str, outcomes: &[Outcome]) -> Vec<Reason> {
        let (monitor, config) = (Monitor::default(), super::super::tests::config(config));
        outcomes.iter().flat_map(|outcome| monitor.count(*outcome, &config)).flatten().collect()
    }

    #[test]
    fn a_success_ends_the_row_and_a_plain_500_that_of_gateway_failures() {
        use Outcome::Answered;
        let three = "{consecutive_5xx: 3, consecutive_gateway_failure: 2}";
        let row = [Answered(500), Answered(502), Answered(200), Answered(500), Answered(500)];
        assert_eq!(reasons(three, &row), []);
        let row = [Answered(502), Answered(500), Answered(503)];
        assert_eq!(reasons(three, &row), [Reason::Consecutive5xx]);
        let row = [Answered(500), Answered(502), Answered(503)];
        let both = [Reason::ConsecutiveGatewayFailure, Reason::Consecutive5xx];
        assert_eq!(reasons(three, &row), both);
        // Each threshold tells once.
        assert_eq!(reasons(three, &[Answered(500); 7]), [Reason::Consecutive5xx]);
    }

    #[test]
    fn local_errors_count_as_answers_unless_they_are_split_off() {
        use Outcome::{Answered, Broken, Connected, SessionConnected, TimedOut};
        let joined = "{consecutive_5xx: 2, consecutive_gateway_failure: 9}";
        assert_eq!(reasons(joined, &[Broken, Connected, TimedOut]), [Reason::Consecutive5xx]);
        assert_eq!(reasons(joined, &[Broken, SessionConnected, TimedOut]), []);
        let split =
            "{split_external_local_origin_errors: true, consecutive_local_origin_failure: 2}";
        let local = [Reason::ConsecutiveLocalOriginFailure];
        assert_eq!(reasons(split, &[Broken, Answered(500), TimedOut]), local);
        assert_eq!(reasons(split, &[Broken, Connected, TimedOut]), []);
        let monitor = Monitor::default();
        monitor.count(Broken, &config(split));
        assert_eq!((monitor.answers.take(), monitor.local.take()), ((0, 0), (1, 0)));
    }
}
