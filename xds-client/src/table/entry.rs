//! One resource of a table, and its timers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::time::{DelayQueue, delay_queue::Key};

use crate::state::ResourceStatus;

/// Longest timer. A server's absurd time to live must not overflow the timer wheel.
const LONGEST_TIMER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The timers of one table.
pub(super) type Timers = DelayQueue<Timer>;

/// What a timer is for.
pub(super) enum Timer {
    /// The wildcard's initial fetch timeout.
    FirstFetch,
    /// The initial fetch timeout of a name.
    Fetch(Arc<str>),
    /// The time to live of a resource.
    Ttl(Arc<str>),
}

/// One resource.
pub(super) struct Entry {
    pub requested: bool,
    /// Whether the receiver was given it and it was not removed since.
    pub present: bool,
    pub status: ResourceStatus,
    /// Version in use.
    pub version: Arc<str>,
    /// Version that the server knows to be accepted: it came in a response that was ACKed.
    pub acked: Option<Arc<str>>,
    pub updated_at: SystemTime,
    /// Number of the last response that touched it.
    pub sequence: u64,
    pub fetch: Option<Key>,
    pub ttl: Option<Key>,
}

impl Entry {
    pub fn new() -> Self {
        Self {
            requested: false,
            present: false,
            status: ResourceStatus::Requested,
            version: Arc::from(""),
            acked: None,
            updated_at: SystemTime::now(),
            sequence: 0,
            fetch: None,
            ttl: None,
        }
    }

    pub fn set_status(&mut self, status: ResourceStatus) {
        self.status = status;
        self.updated_at = SystemTime::now();
    }

    pub fn await_fetch(&mut self, timers: &mut Timers, name: &Arc<str>, timeout: Option<Duration>) {
        disarm(timers, &mut self.fetch);
        self.fetch = timeout.map(|timeout| arm(timers, Timer::Fetch(name.clone()), timeout));
    }

    pub fn live_for(&mut self, timers: &mut Timers, name: &Arc<str>, ttl: Option<Duration>) {
        disarm(timers, &mut self.ttl);
        self.ttl = ttl.map(|ttl| arm(timers, Timer::Ttl(name.clone()), ttl));
    }

    pub fn disarm(&mut self, timers: &mut Timers) {
        disarm(timers, &mut self.fetch);
        disarm(timers, &mut self.ttl);
    }

    /// The receiver decided about this version. It is in use unless refused, but the server counts
    /// it as accepted only when the whole response was.
    pub fn settle(&mut self, version: &Arc<str>, refusal: Option<&str>, acked: bool) {
        if let Some(error) = refusal {
            self.set_status(ResourceStatus::Nacked {
                error: error.to_owned(),
                version: version.to_string(),
            });
            return;
        }
        self.set_status(ResourceStatus::Acked);
        self.version = version.clone();
        if acked {
            self.acked = Some(version.clone());
        }
    }

    pub fn vanish(&mut self) {
        self.set_status(ResourceStatus::DoesNotExist);
        self.version = Arc::from("");
        self.acked = None;
    }
}

pub(super) fn arm(timers: &mut Timers, timer: Timer, after: Duration) -> Key {
    timers.insert(timer, after.min(LONGEST_TIMER))
}

pub(super) fn disarm(timers: &mut Timers, key: &mut Option<Key>) {
    if let Some(key) = key.take() {
        timers.try_remove(&key);
    }
}
