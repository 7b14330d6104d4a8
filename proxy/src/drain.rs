//! The drain signal that filter chains hold and their connections follow.

use tokio::sync::watch;

/// How far a drain has come. Only moves forward, except back from [`Phase::Refusing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Traffic as usual.
    #[default]
    Serving,
    /// `/healthcheck/fail` is in effect: each response closes its connection, idle connections stay.
    Refusing,
    /// The listener, its filter chain or the process goes: connections finish what they have and close.
    Draining,
    /// Time is up: connections close now.
    Closing,
}

/// Moves a drain forward.
#[derive(Debug, Default)]
pub struct Drain(watch::Sender<Phase>);

impl Drain {
    /// Moves to `phase`; never back from draining.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let forward = phase > *now;
            if forward {
                *now = phase;
            }
            forward
        });
    }

    /// Takes [`Phase::Refusing`] back (`/healthcheck/ok`).
    pub fn resume(&self) {
        self.0.send_if_modified(|now| {
            let refusing = *now == Phase::Refusing;
            if refusing {
                *now = Phase::Serving;
            }
            refusing
        });
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until no connection follows this drain any more.
    pub async fn idle(&self) {
        self.0.closed().await;
    }

    /// A signal that follows this drain.
    pub fn signal(&self) -> DrainSignal {
        DrainSignal(self.0.subscribe())
    }
}

/// Follows a [`Drain`].
#[derive(Clone, Debug)]
pub struct DrainSignal(watch::Receiver<Phase>);

impl DrainSignal {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until the phase is another than at the last call, and tells it. A drain that is dropped closes.
    pub async fn changed(&mut self) -> Phase {
        match self.0.changed().await {
            Ok(()) => *self.0.borrow_and_update(),
            Err(_) => Phase::Closing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_moves_forward_only() {
        let drain = Drain::default();
        let mut signal = drain.signal();
        drain.advance(Phase::Refusing);
        assert_eq!(signal.changed().await, Phase::Refusing);
        drain.resume();
        assert_eq!(signal.changed().await, Phase::Serving);
        drain.advance(Phase::Draining);
        drain.advance(Phase::Refusing);
        drain.resume();
        assert_eq!(signal.changed().await, Phase::Draining);
        drop(drain);
        assert_eq!(signal.changed().await, Phase::Closing);
    }
}
