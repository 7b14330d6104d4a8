//! The requests of the last seconds, and how many of them succeeded.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many requests, and successes among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub successes: u64,
}

/// Requests by the second in which they ended, as far as the window goes back.
#[derive(Debug)]
pub struct History {
    window: Duration,
    /// When each second began, oldest first.
    seconds: VecDeque<(Instant, Counts)>,
    sum: Counts,
}

const GRANULARITY: Duration = Duration::from_secs(1);

impl History {
    /// Nothing yet. `window` is at least a second.
    pub fn new(window: Duration) -> Self {
        History { window, seconds: VecDeque::new(), sum: Counts::default() }
    }

    /// A request has ended.
    pub fn record(&mut self, now: Instant, success: bool) {
        self.forget(now);
        if self.seconds.back().is_none_or(|(start, _)| now - *start >= GRANULARITY) {
            self.seconds.push_back((now, Counts::default()));
        }
        let newest = self.seconds.back_mut().map(|(_, counts)| counts);
        for counts in newest.into_iter().chain([&mut self.sum]) {
            counts.requests += 1;
            counts.successes += u64::from(success);
        }
    }

    /// The requests within the window.
    pub fn counts(&mut self, now: Instant) -> Counts {
        self.forget(now);
        self.sum
    }

    /// Requests a second, over the window or what is left of an older one.
    pub fn average_rps(&self, now: Instant) -> u64 {
        let age = self.seconds.front().map_or(Duration::ZERO, |(start, _)| now - *start);
        self.sum.requests / self.window.max(age).as_secs()
    }

    fn forget(&mut self, now: Instant) {
        while let Some((start, counts)) = self.seconds.front().copied()
            && now - start >= self.window
        {
            self.seconds.pop_front();
            self.sum.requests -= counts.requests;
            self.sum.successes -= counts.successes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_go_one_by_one_when_they_leave_the_window() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut history = History::new(Duration::from_secs(2));
        history.record(at(0), true);
        history.record(at(999), false);
        history.record(at(1000), true);
        assert_eq!(history.counts(at(1999)), Counts { requests: 3, successes: 2 });
        assert_eq!(history.average_rps(at(1999)), 1);
        assert_eq!(history.counts(at(2000)), Counts { requests: 1, successes: 1 });
        assert_eq!(history.counts(at(3000)), Counts::default());
        assert_eq!(history.average_rps(at(9000)), 0);
    }
}
