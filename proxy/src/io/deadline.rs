//! A timer that is armed only when somebody has to wait.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

/// A deadline that may move. The timer behind it is made at the first wait and reused when the deadline moves later,
/// so a stream that never waits costs no timer.
#[derive(Default)]
pub struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Ready once `at` has passed; otherwise the task is woken then. `None` never passes.
    pub fn poll(&mut self, cx: &mut Context<'_>, at: Option<Instant>) -> Poll<()> {
        let Some(at) = at else { return Poll::Pending };
        let at = tokio::time::Instant::from_std(at);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        // A timer that is due earlier than asked only wakes the task once too often.
        if sleep.deadline() > at || sleep.is_elapsed() {
            sleep.as_mut().reset(at);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_a_deadline_that_moves() {
        let start = tokio::time::Instant::now();
        let mut deadline = Deadline::default();
        let first = (start + Duration::from_secs(1)).into_std();
        let second = (start + Duration::from_secs(5)).into_std();
        assert!(futures_util::poll!(poll_fn(|cx| deadline.poll(cx, Some(first)))).is_pending());
        poll_fn(|cx| deadline.poll(cx, Some(second))).await;
        assert_eq!(tokio::time::Instant::now() - start, Duration::from_secs(5));
        poll_fn(|cx| deadline.poll(cx, Some(first))).await;
        assert_eq!(tokio::time::Instant::now() - start, Duration::from_secs(5));
    }
}
