//! Timeouts that overload shortens (`envoy.overload_actions.reduce_timeouts`).

use std::future::pending;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;

/// A timer that may be shortened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// `HTTP_DOWNSTREAM_CONNECTION_IDLE`
    ConnectionIdle,
    /// `HTTP_DOWNSTREAM_STREAM_IDLE`
    StreamIdle,
    /// `TRANSPORT_SOCKET_CONNECT`
    TransportSocketConnect,
    /// `HTTP_DOWNSTREAM_CONNECTION_MAX`
    ConnectionMax,
}

const TIMERS: usize = 4;

/// What a timer is shortened to at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Least {
    /// `min_timeout`
    Timeout(Duration),
    /// `min_scale`: this share of the timeout, from 0 to 1.
    Scale(f64),
}

/// How much timers are shortened now.
#[derive(Debug, Default)]
pub struct ScaledTimers {
    /// Of each timer that is shortened at all.
    least: OnceLock<[Option<Least>; TIMERS]>,
    /// The action's value from 0 to 1, as the bits of an `f64`.
    value: AtomicU64,
    changes: watch::Sender<()>,
}

impl ScaledTimers {
    /// These timers will be shortened, once.
    pub fn configure(&self, timers: &[(Timer, Least)]) {
        let mut least = [None; TIMERS];
        for (timer, minimum) in timers {
            least[*timer as usize] = Some(*minimum);
        }
        // There is one manager, and it says so once.
        let _ = self.least.set(least);
    }

    /// From now on, by this value: 0 not at all, 1 to the least.
    pub fn set(&self, value: f64) {
        if self.value.swap(value.to_bits(), Relaxed) != value.to_bits() {
            self.changes.send_replace(());
        }
    }

    /// How long a timer takes now that takes `timeout` by itself.
    pub fn scale(&self, timer: Timer, timeout: Duration) -> Duration {
        let value = f64::from_bits(self.value.load(Relaxed));
        let least = self.least.get().and_then(|least| least[timer as usize]);
        let (Some(least), true) = (least, value > 0.0) else { return timeout };
        let least = match least {
            Least::Timeout(least) => least.min(timeout),
            Least::Scale(scale) => timeout.mul_f64(scale),
        };
        least + (timeout - least).mul_f64((1.0 - value).clamp(0.0, 1.0))
    }

    /// Tells whoever waits for such a timer when it takes another time.
    pub fn follow(&self) -> TimerChanges {
        TimerChanges(self.least.get().map(|_| self.changes.subscribe()))
    }
}

/// Follows changes; without a configuration there are none.
#[derive(Debug)]
pub struct TimerChanges(Option<watch::Receiver<()>>);

impl TimerChanges {
    /// Waits for the next change.
    pub async fn changed(&mut self) {
        let Some(changes) = &mut self.0 else { return pending().await };
        if changes.changed().await.is_err() {
            pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn timers_shrink_with_the_value_down_to_their_least() {
        let timers = ScaledTimers::default();
        assert_eq!(timers.scale(Timer::StreamIdle, SECOND), SECOND);
        timers.configure(&[
            (Timer::ConnectionIdle, Least::Timeout(2 * SECOND)),
            (Timer::StreamIdle, Least::Scale(0.1)),
        ]);
        assert_eq!(timers.scale(Timer::ConnectionIdle, 10 * SECOND), 10 * SECOND);
        timers.set(0.5);
        assert_eq!(timers.scale(Timer::ConnectionIdle, 10 * SECOND), 6 * SECOND);
        assert_eq!(timers.scale(Timer::ConnectionIdle, SECOND), SECOND);
        assert_eq!(timers.scale(Timer::ConnectionMax, SECOND), SECOND);
        timers.set(1.0);
        assert_eq!(timers.scale(Timer::StreamIdle, 10 * SECOND), SECOND);
    }

    #[tokio::test]
    async fn changes_are_told_where_timers_are_configured() {
        let timers = ScaledTimers::default();
        assert!(futures_util::poll!(Box::pin(timers.follow().changed())).is_pending());
        timers.configure(&[(Timer::ConnectionIdle, Least::Scale(0.5))]);
        let mut changes = timers.follow();
        timers.set(0.3);
        changes.changed().await;
        timers.set(0.3);
        assert!(futures_util::poll!(Box::pin(changes.changed())).is_pending());
    }
}
