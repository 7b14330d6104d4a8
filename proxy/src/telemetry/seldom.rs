//! Warnings that a peer can cause as often as it likes: one a second is written, and tells how many were left out.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How far apart warnings are at least.
const APART: Duration = Duration::from_secs(1);

/// Decides which warnings of a kind are written.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// Whether a warning at `now` is written: with how many before it were left out.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < APART) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_is_written_and_the_others_are_counted() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let at = |millis| seldom.pass(start + Duration::from_millis(millis));
        assert_eq!(
            [0, 1, 999, 1000, 1500, 2001].map(at),
            [Some(0), None, None, Some(2), None, Some(1)]
        );
    }
}
