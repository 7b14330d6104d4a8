//! Statistics of subscriptions, under Envoy's names.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh64::xxh64;

use crate::stat_group;
use crate::telemetry::stats::{Counter, Store};

stat_group! {
    /// `cluster_manager.cds.`, `listener_manager.lds.`, `cluster.<name>.` (EDS), `http.<prefix>.rds.<route>.`,
    /// `sds.<name>.`
    pub struct SubscriptionStats {
        counter init_fetch_timeout,
        counter update_attempt,
        counter update_empty,
        counter update_failure,
        counter update_rejected,
        counter update_success,
        gauge update_time,
        gauge version,
        text version_text,
    }
}

stat_group! {
    /// Besides [`SubscriptionStats`], for clusters, listeners and routes: how often something really changed.
    pub struct ReloadStats {
        counter config_reload,
        gauge config_reload_time_ms,
    }
}

stat_group! {
    /// `sds.<name>.`, besides [`SubscriptionStats`].
    pub struct RotationStats {
        counter key_rotation_failed,
    }
}

stat_group! {
    /// `control_plane.`: the aggregated stream.
    pub struct ControlPlaneStats {
        gauge connected_state,
        text identifier,
        gauge pending_requests,
        counter rate_limit_enforced,
    }
}

impl SubscriptionStats {
    /// The statistics of a subscription that begins now.
    pub fn start(store: &Store, prefix: String) -> Arc<Self> {
        let stats = store.register(SubscriptionStats::new(prefix));
        stats.update_attempt.inc();
        stats
    }

    /// A response was applied.
    pub fn accepted(&self, version: &str) {
        self.update_attempt.inc();
        self.update_success.inc();
        self.update_time.set(now_ms());
        self.version.set(xxh64(version.as_bytes(), 0));
        let mut text = self.version_text.lock();
        if *text != version {
            version.clone_into(&mut text);
        }
    }

    /// A response was refused, as a whole or in part.
    pub fn rejected(&self) {
        self.update_attempt.inc();
        self.update_rejected.inc();
    }

    /// A response was applied, or parts of it were refused.
    pub fn answered(&self, version: &str, is_good: bool) {
        match is_good {
            true => self.accepted(version),
            false => self.rejected(),
        }
    }

    /// The server says that there is no such resource.
    pub fn empty(&self) {
        self.update_attempt.inc();
        self.update_empty.inc();
    }

    /// The first answer did not come in time.
    pub fn timed_out(&self) {
        self.update_attempt.inc();
        self.init_fetch_timeout.inc();
    }

    /// Takes over how many streams were lost, or files unreadable, in all.
    pub fn set_failures(&self, failures: u64) {
        let new = raise(&self.update_failure, failures);
        self.update_attempt.add(new);
    }
}

impl ReloadStats {
    /// Something changed now.
    pub fn reloaded(&self) {
        self.config_reload.inc();
        self.config_reload_time_ms.set(now_ms());
    }
}

/// Raises a counter to `value`; gives by how much.
pub fn raise(counter: &Counter, value: u64) -> u64 {
    let new = value.saturating_sub(counter.get());
    counter.add(new);
    new
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
