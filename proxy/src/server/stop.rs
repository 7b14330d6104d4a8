//! How the process stops.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::downstream::manager::ListenerManager;
use crate::drain::Phase;
use crate::server::ending::Ending;
use crate::server::lifecycle::{Lifecycle, State};

/// How often it is looked whether anything is under way.
const LOOK: Duration = Duration::from_millis(20);
/// A client that connected just before may take so long to send its request.
const SETTLE: Duration = Duration::from_millis(100);
/// How long what is under way gets in a process that another one has taken over from, whose time is up.
const RETIRED: Duration = Duration::from_secs(1);

/// How long a stop takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Connections are taken for so long, while `/ready` fails (`--min-drain-time-s`).
    pub least: Duration,
    /// What is under way then has so long to finish (`--drain-time-s`).
    pub most: Duration,
}

/// Fails `/ready` and goes on accepting for the least time; then stops accepting, and returns once nothing is under way or
/// the time is up. A second signal ends it at once.
pub async fn stop(
    lifecycle: &Lifecycle,
    listeners: &RefCell<ListenerManager>,
    ending: &mut Ending,
    limits: Limits,
) {
    lifecycle.set(State::Draining);
    let is_retired = lifecycle.is_retired();
    let finished = async {
        if !is_retired && !limits.least.is_zero() {
            tracing::info!("draining: still taking connections for {:?}", limits.least);
            listeners.borrow().drain(Phase::Refusing, true);
            sleep(limits.least).await;
        }
        tracing::info!("draining: no new connections, waiting for what is under way");
        listeners.borrow_mut().stop(false);
        listeners.borrow().drain(Phase::Draining, false);
        let most = if is_retired { limits.most.min(RETIRED) } else { limits.most };
        let end = Instant::now() + most;
        sleep_until(end.min(Instant::now() + SETTLE)).await;
        while listeners.borrow().active_streams() > 0 && Instant::now() < end {
            sleep_until(end.min(Instant::now() + LOOK)).await;
        }
    };
    tokio::select! {
        () = finished => {}
        () = ending.asked() => {
            tracing::warn!("asked to end once more: what is under way is cut");
            listeners.borrow_mut().stop(false);
        }
    }
    listeners.borrow().drain(Phase::Closing, false);
}
