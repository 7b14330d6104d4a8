//! Active health checks: every host of a cluster is asked again and again; what it answers sets its health flags.
//!
//! One task per cluster follows the hosts that come and go and gives each a `Session`, a task of its own, all on the
//! control thread. They end when the cluster retires.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use super::{Cluster, HealthFlags, Host, resolve};
use crate::config::cluster::Discovery;
use crate::stat_group;

mod event_log;
mod grpc;
mod http;
mod probe;
mod session;
mod tcp;

use event_log::EventLog;
use session::Session;

stat_group! {
    /// `cluster.<name>.health_check.`
    pub struct HealthCheckStats {
        counter attempt,
        counter success,
        counter failure,
        counter passive_failure,
        counter network_failure,
        counter verify_cluster,
        gauge healthy,
        gauge degraded,
    }
}

/// What a cluster with a health check keeps for it.
#[derive(Debug, Default)]
pub struct Checks {
    /// Hosts came or went, or one was failed by the data path.
    changed: Notify,
    /// A host has had its first check.
    checked: Notify,
}

/// The flags that only health checks set.
const OWN_FLAGS: [HealthFlags; 6] = [
    HealthFlags::FAILED_ACTIVE_HC,
    HealthFlags::DEGRADED_ACTIVE_HC,
    HealthFlags::PENDING_ACTIVE_HC,
    HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL,
    HealthFlags::ACTIVE_HC_TIMEOUT,
    HealthFlags::AWAITS_FIRST_CHECK,
];

/// Starts the cluster's health checks on the current runtime, if it has any. Flags that a predecessor's checks have left
/// are cleared if it has none.
pub fn start(cluster: &Arc<Cluster>) {
    let Some(config) = cluster.config().health_check.clone() else {
        let mut changed = false;
        for host in cluster.hosts().hosts().iter() {
            for flag in OWN_FLAGS {
                changed |= host.set_health_flag(flag, false);
            }
        }
        if changed {
            cluster.refresh_hosts();
        }
        return;
    };
    let log = config.event_log.as_ref().map(|path| EventLog::open(path, cluster.name()));
    let supervisor = Supervisor {
        cluster: Arc::downgrade(cluster),
        checks: Arc::clone(cluster.checks.as_ref().expect("it was made with the health check")),
        stats: cluster.health_check_stats(),
        log: log.map(Arc::new),
        sessions: JoinSet::new(),
        running: HashMap::new(),
    };
    tokio::spawn(supervisor.run());
}

/// Waits until every host of the cluster has been checked once. At once without health checks.
pub async fn first_round(cluster: Weak<Cluster>) {
    loop {
        let Some(alive) = resolve::alive(&cluster) else { return };
        let Some(checks) = alive.checks.clone() else { return };
        let mut checked = std::pin::pin!(checks.checked.notified());
        checked.as_mut().enable();
        let awaited =
            |host: &Arc<Host>| host.health_flags().intersects(HealthFlags::AWAITS_FIRST_CHECK);
        if !alive.hosts().hosts().iter().any(awaited) {
            return;
        }
        drop(alive);
        checked.await;
    }
}

struct Supervisor {
    cluster: Weak<Cluster>,
    checks: Arc<Checks>,
    stats: Arc<HealthCheckStats>,
    log: Option<Arc<EventLog>>,
    sessions: JoinSet<()>,
    /// By the host's id.
    running: HashMap<u64, AbortHandle>,
}

impl Supervisor {
    async fn run(mut self) {
        loop {
            let Some(cluster) = resolve::alive(&self.cluster) else { return };
            self.follow(&cluster);
            drop(cluster);
            self.checks.changed.notified().await;
        }
    }

    /// Starts sessions for hosts that came, ends those of hosts that went.
    fn follow(&mut self, cluster: &Arc<Cluster>) {
        let hosts = Arc::clone(cluster.hosts().hosts());
        let mut gone = std::mem::take(&mut self.running);
        for host in hosts.iter().filter(|host| host.is_checked()) {
            let session = gone.remove(&host.id()).unwrap_or_else(|| {
                let session = Session::new(cluster, host, &self.stats, self.log.clone());
                self.sessions.spawn(session.run())
            });
            self.running.insert(host.id(), session);
        }
        gone.values().for_each(AbortHandle::abort);
        while self.sessions.try_join_next().is_some() {}
    }
}

impl Cluster {
    /// `cluster.<name>.health_check.*`; made at the first call, kept through updates of the cluster.
    fn health_check_stats(&self) -> Arc<HealthCheckStats> {
        let stats = self.health_check_stats.get_or_init(|| {
            let prefix = format!("cluster.{}.health_check.", self.config().stat_name);
            self.store.register(HealthCheckStats::new(prefix))
        });
        Arc::clone(stats)
    }

    /// A new host gets no requests before a check has passed.
    pub(super) fn await_check(&self, host: &Host) {
        if self.checks.is_none() || !host.is_checked() {
            return;
        }
        host.set_health_flag(HealthFlags::AWAITS_FIRST_CHECK, true);
        host.set_health_flag(HealthFlags::FAILED_ACTIVE_HC, true);
        if self.config().ignore_new_hosts_until_first_check {
            host.set_health_flag(HealthFlags::PENDING_ACTIVE_HC, true);
        }
    }

    /// Whether a host stays although the control plane has removed it: its health check passes, which is believed more.
    pub(super) fn outlives_removal(&self, host: &Host) -> bool {
        let is_believed = self.checks.is_some()
            && !self.config().ignore_health_on_removal
            && !matches!(self.config().discovery, Discovery::Static(_))
            && host.is_checked()
            && !host.health_flags().intersects(HealthFlags::FAILED_ACTIVE_HC);
        if is_believed {
            host.set_health_flag(HealthFlags::PENDING_DYNAMIC_REMOVAL, true);
        }
        is_believed
    }

    /// Lets a removed host go whose health check does not pass any more.
    fn drop_removed(&self, host: &Arc<Host>) {
        let _updating = self.updating.lock();
        if self.is_retired() {
            return;
        }
        let mut membership = self.hosts.load().membership().clone();
        membership.hosts =
            membership.hosts.iter().filter(|kept| kept.id() != host.id()).cloned().collect();
        self.publish(membership);
        self.endpoint_stats.membership_change.inc();
        host.remove();
        self.hosts_changed();
    }

    /// Whether a connection was ever made for a request.
    fn has_had_connections(&self) -> bool {
        self.traffic.get().is_some_and(|traffic| traffic.stats.upstream_cx_total.get() > 0)
    }

    /// Tells the health checks that hosts came or went.
    pub(super) fn hosts_changed(&self) {
        if let Some(checks) = &self.checks {
            checks.changed.notify_one();
        }
    }

    /// The host says on the data path that it is not well (`x-envoy-immediate-health-check-fail`): it gets no requests and
    /// does not count until a check passes.
    pub fn fail_at_once(&self, host: &Host) {
        if self.checks.is_none() || !host.is_checked() {
            return;
        }
        let stats = self.health_check_stats();
        stats.passive_failure.inc();
        host.set_health_flag(HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL, true);
        if host.set_health_flag(HealthFlags::FAILED_ACTIVE_HC, true) {
            stats.failure.inc();
            self.refresh_hosts();
        }
    }
}

#[cfg(test)]
mod tests;
