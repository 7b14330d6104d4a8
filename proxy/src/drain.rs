//! The drain signal that filter chains hold and their connections follow.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How far a drain has come. Only moves forward, except back from [`Phase::Refusing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Traffic as usual.
    #[default]
    Serving,
    /// Responses close their connections, at once or more and more of them; idle connections stay.
    Refusing,
    /// The listener, its filter chain or the process goes: connections finish what they have and close.
    Draining,
    /// Time is up: connections close now.
    Closing,
}

/// How many of the responses close their connection while the phase is [`Phase::Refusing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// All.
    #[default]
    AtOnce,
    /// A share that grows to all of them over this time, so that clients do not all connect again in the same moment.
    Over {
        /// When it began.
        since: Instant,
        /// How long it takes.
        time: Duration,
    },
}

/// `--drain-strategy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Connections are closed little by little over the drain time.
    #[default]
    Gradual,
    /// Every response closes its connection.
    Immediate,
}

/// How listeners drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `--drain-time-s`
    pub time: Duration,
    /// `--drain-strategy`
    pub strategy: Strategy,
}

impl Settings {
    /// The pace of a drain that begins now.
    pub fn pace(self) -> Pace {
        match self.strategy {
            Strategy::Gradual => Pace::Over { since: Instant::now(), time: self.time },
            Strategy::Immediate => Pace::AtOnce,
        }
    }
}

/// Moves a drain forward.
#[derive(Debug, Default)]
pub struct Drain(watch::Sender<(Phase, Pace)>);

impl Drain {
    /// Moves to `phase`; never back from draining.
    pub fn advance(&self, phase: Phase) {
        self.set(phase, Pace::AtOnce);
    }

    /// Moves to [`Phase::Refusing`] at this pace. A drain that is faster already stays as it is.
    pub fn refuse(&self, pace: Pace) {
        self.set(Phase::Refusing, pace);
    }

    fn set(&self, phase: Phase, pace: Pace) {
        self.0.send_if_modified(|now| {
            let faster = phase == now.0 && pace == Pace::AtOnce && now.1 != Pace::AtOnce;
            let forward = phase > now.0 || faster;
            if forward {
                *now = (phase, pace);
            }
            forward
        });
    }

    /// Takes [`Phase::Refusing`] back (`/healthcheck/ok`).
    pub fn resume(&self) {
        self.0.send_if_modified(|now| {
            let refusing = now.0 == Phase::Refusing;
            if refusing {
                *now = (Phase::Serving, Pace::AtOnce);
            }
            refusing
        });
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        self.0.borrow().0
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
pub struct DrainSignal(watch::Receiver<(Phase, Pace)>);

impl DrainSignal {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        self.0.borrow().0
    }

    /// Whether the response that is about to be sent must be its connection's last. At a gradual pace it is drawn: the
    /// longer the drain lasts, the likelier.
    pub fn closes(&self) -> bool {
        let (phase, pace) = *self.0.borrow();
        match (phase, pace) {
            (Phase::Serving, _) => false,
            (Phase::Refusing, Pace::Over { since, time }) => {
                let share =
                    since.elapsed().as_secs_f64() / time.as_secs_f64().max(f64::MIN_POSITIVE);
                fastrand::f64() < share
            }
            _ => true,
        }
    }

    /// Waits until the phase is another than at the last call, and tells it. A drain that is dropped closes.
    pub async fn changed(&mut self) -> Phase {
        match self.0.changed().await {
            Ok(()) => self.0.borrow_and_update().0,
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

    #[test]
    fn a_gradual_drain_closes_a_growing_share() {
        let drain = Drain::default();
        let signal = drain.signal();
        assert!(!signal.closes());
        let time = Duration::from_secs(1000);
        let halfway = Instant::now().checked_sub(time / 2).expect("the machine runs that long");
        drain.refuse(Pace::Over { since: halfway, time });
        let closed = (0..10_000).filter(|_| signal.closes()).count();
        assert!((4_000..6_000).contains(&closed), "{closed}");
        drain.refuse(Pace::Over { since: halfway, time: Duration::ZERO });
        assert!((0..1_000).any(|_| !signal.closes()), "it began slowly and goes on so");
        drain.advance(Phase::Refusing);
        assert!((0..1_000).all(|_| signal.closes()));
    }
}
