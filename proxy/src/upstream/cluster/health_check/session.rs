//! The checks of one host: what they found so far, and when the next one is due.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;

use super::event_log::{Event, EventLog};
use super::probe::{Found, Probe};
use super::{Checks, HealthCheckStats};
use crate::config::cluster::{HealthCheck, Pauses, Probe as Asked};
use crate::upstream::cluster::{Cluster, HealthFlags, Host, resolve};

/// A host under check.
pub struct Session {
    cluster: Weak<Cluster>,
    host: Arc<Host>,
    checks: Arc<Checks>,
    stats: Arc<HealthCheckStats>,
    log: Option<Arc<EventLog>>,
    config: Arc<HealthCheck>,
    tally: Tally,
}

/// Results in a row, and what they come to.
pub struct Tally {
    healthy_threshold: u32,
    unhealthy_threshold: u32,
    /// No check has ended yet, and the host has not been healthy under a predecessor's either.
    is_first: bool,
    /// Results in a row that speak against the host's present health.
    against: u32,
}

/// What a result changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The host is as it was.
    None,
    /// It may change with more results of the kind.
    Pending,
    /// It is healthy now and was not, or the other way round.
    Done,
}

impl Tally {
    /// For a host that has not been checked, or (not `is_first`) goes on from a predecessor's checks.
    pub fn new(config: &HealthCheck, is_first: bool) -> Self {
        Tally {
            healthy_threshold: config.healthy_threshold,
            unhealthy_threshold: config.unhealthy_threshold,
            is_first,
            against: 0,
        }
    }

    /// Takes a result for a host whose present health is `is_healthy`. A first success is believed, and so is a host that
    /// says that it is unwell; all else needs its threshold.
    pub fn take(&mut self, is_healthy: bool, found: Found) -> Change {
        let was_first = std::mem::replace(&mut self.is_first, false);
        let is_good = matches!(found, Found::Well { .. });
        if is_good == is_healthy {
            self.against = 0;
            return Change::None;
        }
        self.against += 1;
        let is_believed = match found {
            Found::Well { .. } => was_first || self.against >= self.healthy_threshold,
            Found::Unwell { retriable: false, .. } | Found::OtherService => true,
            _ => self.against >= self.unhealthy_threshold,
        };
        if !is_believed {
            return Change::Pending;
        }
        self.against = 0;
        Change::Done
    }
}

impl Session {
    /// A session that has not begun.
    pub fn new(
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
        stats: &Arc<HealthCheckStats>,
        log: Option<Arc<EventLog>>,
    ) -> Self {
        let config = cluster.config().health_check.clone();
        let config = config.expect("only a cluster with a health check has sessions");
        let is_first = host.health_flags().intersects(HealthFlags::AWAITS_FIRST_CHECK);
        Session {
            cluster: Arc::downgrade(cluster),
            host: Arc::clone(host),
            checks: Arc::clone(cluster.checks.as_ref().expect("made with the health check")),
            stats: Arc::clone(stats),
            log,
            tally: Tally::new(&config, is_first),
            config,
        }
    }

    /// Checks the host until it or the cluster is gone.
    pub async fn run(mut self) {
        sleep(self.config.pauses.initial_jitter.mul_f64(fastrand::f64())).await;
        let mut probe = Probe::new(Arc::clone(&self.config));
        loop {
            let Some(cluster) = resolve::alive(&self.cluster) else { return };
            self.stats.attempt.inc();
            let found = probe.check(&cluster, &self.host).await;
            let was_first = self.tally.is_first;
            let was_healthy = !self.has(HealthFlags::FAILED_ACTIVE_HC);
            let change = self.tally.take(was_healthy, found);
            self.count(found);
            if self.apply(&cluster, found, change) {
                cluster.refresh_hosts();
                self.gauge(&cluster);
            }
            if self.has(HealthFlags::PENDING_DYNAMIC_REMOVAL)
                && self.has(HealthFlags::FAILED_ACTIVE_HC)
            {
                cluster.drop_removed(&self.host);
            }
            self.tell(&cluster, found, change, was_first);
            self.host.set_health_flag(HealthFlags::AWAITS_FIRST_CHECK, false);
            self.checks.checked.notify_waiters();
            let has_traffic = cluster.has_had_connections();
            drop(cluster);
            let is_good = matches!(found, Found::Well { .. });
            sleep(pause(&self.config.pauses, is_good, change == Change::Pending, has_traffic))
                .await;
        }
    }

    fn has(&self, flag: HealthFlags) -> bool {
        self.host.health_flags().intersects(flag)
    }

    fn count(&self, found: Found) {
        let asks_name = matches!(&self.config.probe, Asked::Http(http) if http.service.is_some());
        if asks_name && matches!(found, Found::Well { .. } | Found::OtherService) {
            self.stats.verify_cluster.inc();
        }
        match found {
            Found::Well { .. } => return self.stats.success.inc(),
            Found::Unreachable | Found::Late => self.stats.network_failure.inc(),
            Found::OtherService | Found::Unwell { .. } => {}
        }
        self.stats.failure.inc();
    }

    /// Sets the host's flags; true if that changed any.
    fn apply(&self, cluster: &Cluster, found: Found, change: Change) -> bool {
        let host = &self.host;
        let mut changed = host.set_health_flag(HealthFlags::PENDING_ACTIVE_HC, false);
        let is_good = matches!(found, Found::Well { .. });
        if change == Change::Done {
            changed |= host.set_health_flag(HealthFlags::FAILED_ACTIVE_HC, !is_good);
        }
        let at_once = matches!(found, Found::Unwell { at_once: true, .. });
        if is_good || at_once {
            let excluded = HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL;
            changed |= host.set_health_flag(excluded, at_once);
        }
        let is_late = found == Found::Late && self.has(HealthFlags::FAILED_ACTIVE_HC);
        changed |= host.set_health_flag(HealthFlags::ACTIVE_HC_TIMEOUT, is_late);
        if let Found::Well { degraded } = found {
            if host.set_health_flag(HealthFlags::DEGRADED_ACTIVE_HC, degraded) {
                changed = true;
                self.log(cluster, if degraded { Event::Degraded } else { Event::NoLongerDegraded });
            }
            let outliers = cluster.config().outlier_detection.as_ref();
            let returns = outliers.is_some_and(|outliers| outliers.uneject_on_health_check);
            if returns && !self.has(HealthFlags::FAILED_ACTIVE_HC) {
                changed |= cluster.uneject(host);
            }
        }
        changed
    }

    fn log(&self, cluster: &Cluster, event: Event) {
        if let Some(log) = &self.log {
            log.write(cluster, &self.host, event);
        }
    }

    fn gauge(&self, cluster: &Cluster) {
        let hosts = cluster.hosts();
        let checked = || hosts.hosts().iter().filter(|host| host.is_checked());
        let with =
            |flag| checked().filter(move |host| host.health_flags().intersects(flag)).count();
        let healthy = checked().count() - with(HealthFlags::FAILED_ACTIVE_HC);
        self.stats.healthy.set(healthy as u64);
        self.stats.degraded.set(with(HealthFlags::DEGRADED_ACTIVE_HC) as u64);
    }

    /// Logs the result where it is asked for, and lets connections go where it wants.
    fn tell(&self, cluster: &Cluster, found: Found, change: Change, was_first: bool) {
        let is_good = matches!(found, Found::Well { .. });
        if change == Change::Done {
            let (name, host) = (cluster.name(), self.host.address());
            tracing::info!(cluster = %name, %host, healthy = is_good, ?found, "health check");
            if !is_good {
                // Other connections may do better.
                self.host.drain_connections();
            }
        }
        let failure = match found {
            Found::Unreachable => "NETWORK",
            Found::Late => "NETWORK_TIMEOUT",
            _ => "ACTIVE",
        };
        match (is_good, change) {
            (true, Change::Done) => self.log(cluster, Event::Added(was_first)),
            (true, _) if self.config.logs_successes => self.log(cluster, Event::Passed),
            (false, Change::Done) => self.log(cluster, Event::Ejected(failure)),
            _ => {}
        }
        if !is_good && (self.config.logs_failures || was_first) {
            self.log(cluster, Event::Failed(failure, was_first));
        }
    }
}

/// How long to the next check, after one that was good or not, while a change of health is pending or not.
fn pause(pauses: &Pauses, is_good: bool, is_pending: bool, has_traffic: bool) -> Duration {
    let base = match (has_traffic, is_good, is_pending) {
        (false, true, _) => pauses.no_traffic_healthy,
        (false, false, _) => pauses.no_traffic,
        (true, true, false) => pauses.healthy,
        (true, true, true) => pauses.healthy_edge,
        (true, false, false) => pauses.unhealthy,
        (true, false, true) => pauses.unhealthy_edge,
    };
    let part = base.mul_f64(f64::from(pauses.jitter_percent) / 100.0);
    let more = part.mul_f64(fastrand::f64()) + pauses.jitter.mul_f64(fastrand::f64());
    (base + more).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(is_first: bool) -> Tally {
        Tally { healthy_threshold: 2, unhealthy_threshold: 2, is_first, against: 0 }
    }

    #[test]
    fn the_first_success_is_enough_and_later_ones_need_the_threshold() {
        assert_eq!(tally(true).take(false, Found::WELL), Change::Done);
        let mut later = tally(true);
        assert_eq!(later.take(false, Found::Unreachable), Change::None);
        assert_eq!(later.take(false, Found::WELL), Change::Pending);
        assert_eq!(later.take(false, Found::WELL), Change::Done);
    }

    #[test]
    fn a_host_that_says_so_is_unhealthy_at_once_and_others_by_the_threshold() {
        assert_eq!(tally(false).take(true, Found::UNWELL), Change::Done);
        let retriable = Found::Unwell { retriable: true, at_once: false };
        for found in [Found::Unreachable, Found::Late, retriable] {
            let mut tally = tally(false);
            assert_eq!(tally.take(true, found), Change::Pending);
            assert_eq!(tally.take(true, Found::WELL), Change::None);
            assert_eq!(tally.take(true, found), Change::Pending, "the row has ended");
            assert_eq!(tally.take(true, found), Change::Done);
        }
    }

    #[test]
    fn pauses_depend_on_the_result_on_its_weight_and_on_traffic() {
        let seconds = Duration::from_secs;
        let pauses = Pauses {
            healthy: seconds(1),
            unhealthy: seconds(2),
            healthy_edge: seconds(3),
            unhealthy_edge: seconds(4),
            no_traffic: seconds(5),
            no_traffic_healthy: seconds(6),
            initial_jitter: Duration::ZERO,
            jitter: Duration::ZERO,
            jitter_percent: 0,
        };
        let of = |good, pending, traffic| pause(&pauses, good, pending, traffic).as_secs();
        assert_eq!([of(true, false, true), of(false, false, true)], [1, 2]);
        assert_eq!([of(true, true, true), of(false, true, true)], [3, 4]);
        assert_eq!([of(false, true, false), of(true, false, false)], [5, 6]);
        let jittery = Pauses { jitter_percent: 50, jitter: seconds(1), ..pauses };
        for _ in 0..100 {
            let pause = pause(&jittery, true, false, true);
            assert!((seconds(1)..=Duration::from_millis(2500)).contains(&pause), "{pause:?}");
        }
    }
}
