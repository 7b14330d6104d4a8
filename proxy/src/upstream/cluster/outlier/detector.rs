//! Ejects outliers of one cluster and lets them come back; a task on the control thread.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval_at};

use super::rates::{self, HostRate};
use super::{Event, Reason, Reports};
use crate::config::cluster::OutlierDetection;
use crate::stat_group;
use crate::telemetry::stats::Counter;
use crate::upstream::cluster::{Cluster, HealthFlags, Host, resolve};

stat_group! {
    /// `cluster.<name>.outlier_detection.`
    pub struct OutlierStats {
        gauge ejections_active,
        counter ejections_overflow,
        counter ejections_enforced_total,
        counter ejections_detected_consecutive_5xx,
        counter ejections_enforced_consecutive_5xx,
        counter ejections_detected_consecutive_gateway_failure,
        counter ejections_enforced_consecutive_gateway_failure,
        counter ejections_detected_consecutive_local_origin_failure,
        counter ejections_enforced_consecutive_local_origin_failure,
        counter ejections_detected_success_rate,
        counter ejections_enforced_success_rate,
        counter ejections_detected_local_origin_success_rate,
        counter ejections_enforced_local_origin_success_rate,
        counter ejections_detected_failure_percentage,
        counter ejections_enforced_failure_percentage,
        counter ejections_detected_local_origin_failure_percentage,
        counter ejections_enforced_local_origin_failure_percentage,
    }
}

/// Starts the cluster's detector on the current runtime, if it is configured to have one. Hosts that a predecessor has
/// ejected come back if this cluster ejects none.
pub fn start(cluster: &Arc<Cluster>) {
    let Some(detector) = Detector::new(cluster) else {
        let hosts = cluster.hosts();
        let mut returned = false;
        for host in hosts.hosts().iter() {
            returned |= host.set_health_flag(HealthFlags::FAILED_OUTLIER_CHECK, false);
        }
        drop(hosts);
        if returned {
            cluster.refresh_hosts();
        }
        return;
    };
    let (sender, events) = unbounded_channel();
    if cluster.reports.set(Reports(sender)).is_err() {
        return;
    }
    tokio::spawn(detector.run(events));
}

pub(super) struct Detector {
    cluster: Weak<Cluster>,
    config: Arc<OutlierDetection>,
    stats: Arc<OutlierStats>,
}

impl Detector {
    /// The cluster's detector, if it is configured to have one.
    pub fn new(cluster: &Arc<Cluster>) -> Option<Detector> {
        let config = Arc::clone(cluster.config().outlier_detection.as_ref()?);
        Some(Detector { cluster: Arc::downgrade(cluster), config, stats: cluster.outlier_stats() })
    }

    /// What it has counted.
    #[cfg(test)]
    pub fn stats(&self) -> &OutlierStats {
        &self.stats
    }

    async fn run(self, mut events: UnboundedReceiver<Event>) {
        let first = tokio::time::Instant::now() + self.config.interval;
        let mut sweeps = interval_at(first, self.config.interval);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                _ = sweeps.tick() => None,
            };
            let Some(cluster) = resolve::alive(&self.cluster) else { return };
            let changed = match event {
                Some(Event { host, reason }) => self.on_row(&cluster, &host, reason),
                None => self.sweep(&cluster, Instant::now()),
            };
            if changed {
                cluster.refresh_hosts();
            }
        }
    }

    /// A row of errors is full.
    fn on_row(&self, cluster: &Cluster, host: &Arc<Host>, reason: Reason) -> bool {
        if host.is_removed() || is_ejected(host) {
            return false;
        }
        let ejected = self.detect(cluster, host, reason, Instant::now());
        host.monitor().restart(reason);
        ejected
    }

    /// Lets hosts come back whose time is over, and looks for outliers by the interval's rates.
    pub fn sweep(&self, cluster: &Cluster, now: Instant) -> bool {
        let hosts = Arc::clone(cluster.hosts().hosts());
        let mut changed = false;
        for host in hosts.iter() {
            changed |= self.settle(host, now);
        }
        let active = hosts.iter().filter(|host| is_ejected(host)).count();
        self.stats.ejections_active.set(active as u64);
        let take = |share: fn(&Host) -> (u64, u64)| -> Vec<HostRate> {
            let of = |host: &Arc<Host>| match (share(host), is_ejected(host)) {
                ((all, good), false) => HostRate { all, good },
                (_, true) => HostRate { all: 0, good: 0 },
            };
            hosts.iter().map(of).collect()
        };
        let answers = take(|host| host.monitor().answers.take());
        let local = take(|host| host.monitor().local.take());
        let Detector { config, .. } = self;
        let found = [
            (Reason::SuccessRate, rates::below_mean(&answers, config.success_rate)),
            (Reason::FailurePercentage, rates::failing(&answers, config.failure_percentage)),
            (Reason::LocalOriginSuccessRate, rates::below_mean(&local, config.success_rate)),
            (
                Reason::LocalOriginFailurePercentage,
                rates::failing(&local, config.failure_percentage),
            ),
        ];
        for (reason, places) in found {
            for place in places {
                changed |= self.detect(cluster, &hosts[place], reason, now);
            }
        }
        changed
    }

    /// Lets an ejected host come back when its time is over; after an interval without ejection the next one will be
    /// shorter. True if the host came back.
    fn settle(&self, host: &Host, now: Instant) -> bool {
        let config = &self.config;
        let monitor = host.monitor();
        let mut ejection = monitor.ejection.lock();
        if !is_ejected(host) {
            let calm = ejection.ended.is_some_and(|ended| ended + config.interval <= now);
            if calm && ejection.backoff > 0 {
                ejection.backoff -= 1;
            }
            return false;
        }
        let jitter = config.max_ejection_time_jitter.mul_f64(fastrand::f64());
        let lasts = ejection_time(config, ejection.backoff) + jitter;
        if ejection.since.is_some_and(|since| since + lasts > now) {
            return false;
        }
        ejection.ended = Some(now);
        drop(ejection);
        monitor.restart_rows();
        host.set_health_flag(HealthFlags::FAILED_OUTLIER_CHECK, false)
    }

    /// An outlier was found: ejects it unless too many are ejected, or as rarely as enforcing says. True if it was.
    pub fn detect(&self, cluster: &Cluster, host: &Host, reason: Reason, now: Instant) -> bool {
        if is_ejected(host) {
            return false;
        }
        let Detector { config, stats, .. } = self;
        let (detected, enforced, enforcing) = self.counts(reason);
        detected.inc();
        let hosts = cluster.hosts().hosts().len() as u64;
        let active = stats.ejections_active.get();
        let is_first = active == 0 && config.always_eject_one_host;
        if !is_first && 100 * (active + 1) > u64::from(config.max_ejection_percent) * hosts {
            stats.ejections_overflow.inc();
            return false;
        }
        if fastrand::u32(..100) >= enforcing {
            return false;
        }
        enforced.inc();
        stats.ejections_enforced_total.inc();
        stats.ejections_active.inc();
        let monitor = host.monitor();
        let mut ejection = monitor.ejection.lock();
        let longest = config.max_ejection_time + config.base_ejection_time;
        if config.base_ejection_time * ejection.backoff < longest {
            ejection.backoff += 1;
        }
        ejection.since = Some(now);
        tracing::info!(cluster = %cluster.name(), host = %host.address(), ?reason, "host ejected");
        host.drain_connections();
        host.set_health_flag(HealthFlags::FAILED_OUTLIER_CHECK, true)
    }

    /// The counters of a reason, and how often it is enforced in percent.
    fn counts(&self, reason: Reason) -> (&Counter, &Counter, u32) {
        let Detector { config, stats, .. } = self;
        match reason {
            Reason::Consecutive5xx => (
                &stats.ejections_detected_consecutive_5xx,
                &stats.ejections_enforced_consecutive_5xx,
                config.consecutive_5xx.enforcing,
            ),
            Reason::ConsecutiveGatewayFailure => (
                &stats.ejections_detected_consecutive_gateway_failure,
                &stats.ejections_enforced_consecutive_gateway_failure,
                config.consecutive_gateway_failure.enforcing,
            ),
            Reason::ConsecutiveLocalOriginFailure => (
                &stats.ejections_detected_consecutive_local_origin_failure,
                &stats.ejections_enforced_consecutive_local_origin_failure,
                config.consecutive_local_origin_failure.enforcing,
            ),
            Reason::SuccessRate => (
                &stats.ejections_detected_success_rate,
                &stats.ejections_enforced_success_rate,
                config.success_rate.enforcing,
            ),
            Reason::LocalOriginSuccessRate => (
                &stats.ejections_detected_local_origin_success_rate,
                &stats.ejections_enforced_local_origin_success_rate,
                config.success_rate.enforcing_local_origin,
            ),
            Reason::FailurePercentage => (
                &stats.ejections_detected_failure_percentage,
                &stats.ejections_enforced_failure_percentage,
                config.failure_percentage.enforcing,
            ),
            Reason::LocalOriginFailurePercentage => (
                &stats.ejections_detected_local_origin_failure_percentage,
                &stats.ejections_enforced_local_origin_failure_percentage,
                config.failure_percentage.enforcing_local_origin,
            ),
        }
    }
}

fn is_ejected(host: &Host) -> bool {
    host.health_flags().intersects(HealthFlags::FAILED_OUTLIER_CHECK)
}

/// How long the `backoff`-th ejection in a row lasts.
pub(super) fn ejection_time(config: &OutlierDetection, backoff: u32) -> Duration {
    (config.base_ejection_time * backoff).min(config.max_ejection_time)
}
