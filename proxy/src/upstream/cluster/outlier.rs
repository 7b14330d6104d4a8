//! Outlier detection: hosts whose answers are bad, or far worse than the others', get no requests for a while.
//!
//! The data path only counts, in a host's [`Monitor`]; whoever counts a threshold full tells the cluster's detector, which
//! runs on the control thread, ejects, and looks at rates and ejection times once an interval.

mod detector;
mod monitor;
mod rates;

pub use detector::{OutlierStats, start};
pub use monitor::Monitor;

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Cluster, HealthFlags, Host};

/// How an exchange with a host went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The host answered with this HTTP status, or its gRPC equivalent.
    Answered(u16),
    /// A connection was made. It tells something only where local errors are told apart.
    Connected,
    /// A TCP session has its connection: all the success that such a session can show.
    SessionConnected,
    /// No connection could be made, or it broke before the answer.
    Broken,
    /// The answer did not come in time.
    TimedOut,
}

/// What made a host an outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
    SuccessRate,
    LocalOriginSuccessRate,
    FailurePercentage,
    LocalOriginFailurePercentage,
}

/// A host that has reached a threshold of errors in a row.
struct Event {
    host: Arc<Host>,
    reason: Reason,
}

/// The way to a cluster's detector.
#[derive(Debug)]
pub struct Reports(mpsc::UnboundedSender<Event>);

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {}", self.reason, self.host.address())
    }
}

impl Cluster {
    /// `cluster.<name>.outlier_detection.*`; made at the first call, kept through updates of the cluster.
    fn outlier_stats(&self) -> Arc<OutlierStats> {
        let stats = self.outlier_stats.get_or_init(|| {
            let prefix = format!("cluster.{}.outlier_detection.", self.config().stat_name);
            self.store.register(OutlierStats::new(prefix))
        });
        Arc::clone(stats)
    }

    /// Lets an ejected host come back before its time; true if it was ejected.
    pub(super) fn uneject(&self, host: &Host) -> bool {
        if !host.set_health_flag(HealthFlags::FAILED_OUTLIER_CHECK, false) {
            return false;
        }
        host.monitor().came_back();
        self.outlier_stats().ejections_active.dec();
        true
    }

    /// Takes in how an exchange with one of the cluster's hosts went.
    pub fn report(&self, host: &Arc<Host>, outcome: Outcome) {
        let Some(config) = &self.config().outlier_detection else { return };
        let reasons = host.monitor().count(outcome, config);
        let Some(reports) = self.reports.get() else { return };
        for reason in reasons.into_iter().flatten() {
            // The detector ends with the cluster, and nobody is ejected then.
            let _ = reports.0.send(Event { host: Arc::clone(host), reason });
        }
    }
}

#[cfg(test)]
mod tests;
