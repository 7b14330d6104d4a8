//! One upstream host: what configuration says of it, its health and its counters.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::outlier::Monitor;
use crate::config::cluster::load_balancing::OverrideStatuses;
use crate::config::endpoint::{EdsHealth, Endpoint, EndpointCheck, Locality, Metadata};
use crate::io::Address;
use crate::telemetry::stats::{Counter, Gauge};
use crate::upstream::balance::report::Measured;

/// How long the process has run, as hosts count it: stamps of 8 bytes in place of instants of 16.
pub fn since_start() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

fn now_in_hundredths() -> u32 {
    (since_start().as_millis() / 10) as u32
}

/// A host, shared by all threads. Endpoint updates keep the object as long as address, locality and hostname stay,
/// so that its counters and health survive.
#[derive(Debug)]
pub struct Host {
    id: u64,
    address: Address,
    hostname: Option<Arc<str>>,
    locality: Arc<Locality>,
    metadata: ArcSwapOption<Metadata>,
    check: Option<Arc<EndpointCheck>>,
    weight: AtomicU32,
    priority: AtomicU32,
    flags: AtomicU32,
    /// Grows when connections made so far shall not be used any more.
    epoch: AtomicU32,
    removed: AtomicBool,
    /// Since when the host is healthy: in 100ths of a second since the start of the process, modulo 497 days.
    healthy_since: AtomicU32,
    drained: Notify,
    measured: OnceLock<Box<Measured>>,
    /// What outlier detection counts; made when it first does.
    monitor: ArcSwapOption<Monitor>,
    /// What happened on this host, over all workers.
    pub stats: HostStats,
}

/// A host's counters, as `/clusters` prints them.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the counter's name is Envoy's and says it")]
pub struct HostStats {
    pub cx_total: Counter,
    pub cx_active: Gauge,
    pub cx_connect_fail: Counter,
    pub rq_total: Counter,
    pub rq_active: Gauge,
    pub rq_success: Counter,
    pub rq_error: Counter,
    pub rq_timeout: Counter,
}

/// A set of reasons against a host; prints as Envoy's `health_flags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthFlags(u32);

/// What a host's flags come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Gets requests.
    Healthy,
    /// Gets requests when healthy hosts do not suffice.
    Degraded,
    /// Gets requests in panic only.
    Unhealthy,
}

impl HealthFlags {
    /// The active health check failed, or none has passed yet.
    pub const FAILED_ACTIVE_HC: HealthFlags = HealthFlags(1);
    /// Outlier detection ejected the host.
    pub const FAILED_OUTLIER_CHECK: HealthFlags = HealthFlags(1 << 1);
    /// EDS says `UNHEALTHY` or `TIMEOUT`.
    pub const FAILED_EDS_HEALTH: HealthFlags = HealthFlags(1 << 2);
    /// The active health check answered `x-envoy-degraded`.
    pub const DEGRADED_ACTIVE_HC: HealthFlags = HealthFlags(1 << 3);
    /// EDS says `DEGRADED`.
    pub const DEGRADED_EDS_HEALTH: HealthFlags = HealthFlags(1 << 4);
    /// EDS removed the host while its active health check passes.
    pub const PENDING_DYNAMIC_REMOVAL: HealthFlags = HealthFlags(1 << 5);
    /// No active health check has ended yet.
    pub const PENDING_ACTIVE_HC: HealthFlags = HealthFlags(1 << 6);
    /// `x-envoy-immediate-health-check-fail` was seen.
    pub const EXCLUDED_VIA_IMMEDIATE_HC_FAIL: HealthFlags = HealthFlags(1 << 7);
    /// The active health check timed out.
    pub const ACTIVE_HC_TIMEOUT: HealthFlags = HealthFlags(1 << 8);
    /// EDS says `DRAINING`.
    pub const EDS_STATUS_DRAINING: HealthFlags = HealthFlags(1 << 9);
    /// The cluster waits for the host's first health check before it serves; says nothing of the host's health.
    pub const AWAITS_FIRST_CHECK: HealthFlags = HealthFlags(1 << 10);

    /// Flags with Envoy's names, in Envoy's order.
    const NAMES: [(HealthFlags, &'static str); 10] = [
        (Self::FAILED_ACTIVE_HC, "/failed_active_hc"),
        (Self::FAILED_OUTLIER_CHECK, "/failed_outlier_check"),
        (Self::FAILED_EDS_HEALTH, "/failed_eds_health"),
        (Self::DEGRADED_ACTIVE_HC, "/degraded_active_hc"),
        (Self::DEGRADED_EDS_HEALTH, "/degraded_eds_health"),
        (Self::PENDING_DYNAMIC_REMOVAL, "/pending_dynamic_removal"),
        (Self::PENDING_ACTIVE_HC, "/pending_active_hc"),
        (Self::EXCLUDED_VIA_IMMEDIATE_HC_FAIL, "/excluded_via_immediate_hc_fail"),
        (Self::ACTIVE_HC_TIMEOUT, "/active_hc_timeout"),
        (Self::EDS_STATUS_DRAINING, "/eds_status_draining"),
    ];
    const UNHEALTHY: u32 = Self::FAILED_ACTIVE_HC.0
        | Self::FAILED_OUTLIER_CHECK.0
        | Self::FAILED_EDS_HEALTH.0
        | Self::EDS_STATUS_DRAINING.0;
    const DEGRADED: u32 = Self::DEGRADED_ACTIVE_HC.0 | Self::DEGRADED_EDS_HEALTH.0;
    const EXCLUDED: u32 = Self::PENDING_ACTIVE_HC.0
        | Self::EXCLUDED_VIA_IMMEDIATE_HC_FAIL.0
        | Self::EDS_STATUS_DRAINING.0;
    const FROM_EDS: u32 =
        Self::FAILED_EDS_HEALTH.0 | Self::DEGRADED_EDS_HEALTH.0 | Self::EDS_STATUS_DRAINING.0;

    fn from_eds(health: EdsHealth) -> HealthFlags {
        match health {
            EdsHealth::Healthy => HealthFlags(0),
            EdsHealth::Unhealthy => Self::FAILED_EDS_HEALTH,
            EdsHealth::Draining => Self::EDS_STATUS_DRAINING,
            EdsHealth::Degraded => Self::DEGRADED_EDS_HEALTH,
        }
    }

    /// Whether any flag of `other` is set.
    pub fn intersects(self, other: HealthFlags) -> bool {
        self.0 & other.0 != 0
    }
}

impl fmt::Display for HealthFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 & !HealthFlags::AWAITS_FIRST_CHECK.0 == 0 {
            return f.write_str("healthy");
        }
        let set = Self::NAMES.iter().filter(|(flag, _)| self.intersects(*flag));
        set.into_iter().try_for_each(|(_, name)| f.write_str(name))
    }
}

impl Host {
    /// A new host as `endpoint` describes it, at its resolved address.
    pub fn new(
        address: Address,
        endpoint: &Endpoint,
        locality: Arc<Locality>,
        priority: u32,
    ) -> Arc<Host> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Arc::new(Host {
            id: NEXT_ID.fetch_add(1, Relaxed),
            address,
            hostname: endpoint.hostname.clone(),
            locality,
            metadata: ArcSwapOption::new(endpoint.metadata.clone()),
            check: endpoint.check.clone(),
            weight: AtomicU32::new(endpoint.weight.max(1)),
            priority: AtomicU32::new(priority),
            flags: AtomicU32::new(HealthFlags::from_eds(endpoint.health).0),
            epoch: AtomicU32::new(0),
            removed: AtomicBool::new(false),
            healthy_since: AtomicU32::new(now_in_hundredths()),
            drained: Notify::new(),
            measured: OnceLock::new(),
            monitor: ArcSwapOption::empty(),
            stats: HostStats::default(),
        })
    }

    /// A number that no other host of the process has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where connections go.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// `endpoint.hostname`, or the DNS name that led here.
    pub fn hostname(&self) -> Option<&Arc<str>> {
        self.hostname.as_ref()
    }

    /// The locality that the host is in.
    pub fn locality(&self) -> &Arc<Locality> {
        &self.locality
    }

    /// The endpoint's metadata, if it has any.
    pub fn metadata(&self) -> Option<Arc<Metadata>> {
        self.metadata.load_full()
    }

    /// `load_balancing_weight`, at least 1.
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// The priority; 0 is used first.
    pub fn priority(&self) -> u32 {
        self.priority.load(Relaxed)
    }

    /// How the host's health check differs from the cluster's.
    pub fn check(&self) -> Option<&EndpointCheck> {
        self.check.as_deref()
    }

    /// Whether the host takes part in the cluster's health checks.
    pub fn is_checked(&self) -> bool {
        self.check().is_none_or(|check| !check.disabled)
    }

    /// What outlier detection counts.
    pub fn monitor(&self) -> Arc<Monitor> {
        if let Some(monitor) = self.monitor.load_full() {
            return monitor;
        }
        // Whoever comes second takes what the first one made.
        self.monitor.compare_and_swap(&None::<Arc<Monitor>>, Some(Arc::default()));
        self.monitor.load_full().expect("it was just made")
    }

    /// Requests that are on the host now, from all workers.
    pub fn active_requests(&self) -> u64 {
        self.stats.rq_active.get()
    }

    /// Every flag that is set.
    pub fn health_flags(&self) -> HealthFlags {
        HealthFlags(self.flags.load(Relaxed))
    }

    /// What the flags come to.
    pub fn health(&self) -> Health {
        match self.flags.load(Relaxed) {
            flags if flags & HealthFlags::UNHEALTHY != 0 => Health::Unhealthy,
            flags if flags & HealthFlags::DEGRADED != 0 => Health::Degraded,
            _ => Health::Healthy,
        }
    }

    /// Whether the host does not count in the denominators of availability.
    pub fn is_excluded(&self) -> bool {
        self.flags.load(Relaxed) & HealthFlags::EXCLUDED != 0
    }

    /// Sets or clears a flag; true if that changed it. The cluster's `refresh_hosts` makes the change count for picks.
    pub fn set_health_flag(&self, flag: HealthFlags, set: bool) -> bool {
        let before = if set {
            self.flags.fetch_or(flag.0, Relaxed)
        } else {
            self.flags.fetch_and(!flag.0, Relaxed)
        };
        let has_changed = (before & flag.0 != 0) != set;
        if has_changed && !set && flag == HealthFlags::FAILED_ACTIVE_HC {
            self.healthy_since.store(now_in_hundredths(), Relaxed);
        }
        has_changed
    }

    /// How long the host has been there or, with active health checks, has passed them: what slow start goes by.
    pub fn healthy_for(&self) -> Duration {
        let elapsed = now_in_hundredths().wrapping_sub(self.healthy_since.load(Relaxed));
        Duration::from_millis(10 * u64::from(elapsed))
    }

    /// Whether a session may stick to the host in this health.
    pub fn may_override(&self, allowed: &OverrideStatuses) -> bool {
        let flags = self.health_flags();
        match flags {
            flags if flags.intersects(HealthFlags::FAILED_ACTIVE_HC) => allowed.unhealthy,
            flags if flags.intersects(HealthFlags::FAILED_OUTLIER_CHECK) => allowed.unhealthy,
            flags if flags.intersects(HealthFlags::FAILED_EDS_HEALTH) => allowed.unhealthy,
            flags if flags.intersects(HealthFlags::EDS_STATUS_DRAINING) => allowed.draining,
            _ if self.health() == Health::Degraded => allowed.degraded,
            _ => allowed.healthy,
        }
    }

    /// What is measured of the host, from now on if nothing was so far.
    pub fn measured(&self) -> &Measured {
        self.measured.get_or_init(Box::default)
    }

    /// What is measured of the host, if anything is.
    pub fn measured_if_any(&self) -> Option<&Measured> {
        self.measured.get().map(|measured| &**measured)
    }

    /// Takes over what an endpoint update may change in place.
    pub(super) fn update(&self, endpoint: &Endpoint, priority: u32) {
        self.weight.store(endpoint.weight.max(1), Relaxed);
        self.priority.store(priority, Relaxed);
        self.metadata.store(endpoint.metadata.clone());
        self.set_health_flag(HealthFlags::PENDING_DYNAMIC_REMOVAL, false);
        let eds = HealthFlags::from_eds(endpoint.health).0;
        let others = |flags| Some(flags & !HealthFlags::FROM_EDS | eds);
        // The closure always gives a value, so the update cannot fail.
        let _ = self.flags.fetch_update(Relaxed, Relaxed, others);
    }

    /// Whether an endpoint update may keep this object.
    pub(super) fn is_same(&self, endpoint: &Endpoint, locality: &Locality) -> bool {
        let where_checked = |check: &Option<Arc<EndpointCheck>>| {
            check.as_ref().map(|check| (check.address.clone(), check.port, check.disabled))
        };
        *self.locality == *locality
            && self.hostname == endpoint.hostname
            && where_checked(&self.check) == where_checked(&endpoint.check)
    }

    /// The generation of connections to the host that may be used.
    pub fn epoch(&self) -> u32 {
        self.epoch.load(SeqCst)
    }

    /// Idle connections close and busy ones close after their requests; new requests make new connections.
    pub fn drain_connections(&self) {
        self.epoch.fetch_add(1, SeqCst);
        self.drained.notify_waiters();
    }

    /// The cluster has given the host up.
    pub(super) fn remove(&self) {
        self.removed.store(true, SeqCst);
        self.drain_connections();
    }

    /// Whether the cluster has given the host up.
    pub fn is_removed(&self) -> bool {
        self.removed.load(SeqCst)
    }

    /// Waits until connections of the generation `epoch` shall not be used any more.
    pub async fn drained(&self, epoch: u32) {
        loop {
            let notified = self.drained.notified();
            if self.epoch() != epoch || self.is_removed() {
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::Target;

    fn host(health: EdsHealth) -> Arc<Host> {
        let address = Address::Ip(([127, 0, 0, 1], 80).into());
        let target = Target::Address(address.clone());
        let endpoint =
            Endpoint { target, hostname: None, weight: 1, health, metadata: None, check: None };
        Host::new(address, &endpoint, Arc::default(), 0)
    }

    #[test]
    fn a_host_costs_at_most_250_bytes() {
        let size = size_of::<Host>() + 2 * size_of::<usize>();
        assert!(size <= 250, "{size}");
    }

    #[test]
    fn flags_come_to_a_health_and_print_as_envoys() {
        let host = host(EdsHealth::Degraded);
        assert_eq!(host.health(), Health::Degraded);
        assert!(host.set_health_flag(HealthFlags::FAILED_OUTLIER_CHECK, true));
        assert!(!host.set_health_flag(HealthFlags::FAILED_OUTLIER_CHECK, true));
        assert_eq!(host.health(), Health::Unhealthy);
        assert_eq!(host.health_flags().to_string(), "/failed_outlier_check/degraded_eds_health");
        assert_eq!(HealthFlags::default().to_string(), "healthy");
    }

    #[tokio::test]
    async fn draining_ends_the_wait_of_older_generations() {
        let host = host(EdsHealth::Healthy);
        let epoch = host.epoch();
        let waiting = tokio::spawn({
            let host = Arc::clone(&host);
            async move { host.drained(epoch).await }
        });
        tokio::task::yield_now().await;
        host.drain_connections();
        waiting.await.unwrap();
        host.drained(epoch).await;
    }
}
