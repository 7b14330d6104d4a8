//! Protobuf to model: `common_lb_config`.

use proto::envoy::config::cluster::v3::cluster::CommonLbConfig;
use proto::envoy::config::cluster::v3::cluster::common_lb_config::LocalityConfigSpecifier;
use proto::envoy::config::core::v3::{HealthStatus, HealthStatusSet};
use proto::envoy::extensions::load_balancing_policies::common::v3::LocalityLbConfig;
use proto::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config::{
    LocalityConfigSpecifier as ExtensionSpecifier, ZoneAwareLbConfig,
    zone_aware_lb_config::LocalityBasis,
};

use super::hashing::balance_factor;
use super::{Hashing, LocalityPolicy, OverrideStatuses, ZoneAware};
use crate::config::error::{At, ConfigError, Context};
use crate::config::value;
use crate::warn_set;

const DEFAULT_PANIC_THRESHOLD: f64 = 50.0;
const DEFAULT_MIN_CLUSTER_SIZE: u64 = 6;

/// `CommonLbConfig`.
#[derive(Default)]
pub(super) struct Common {
    pub panic_threshold: f64,
    pub locality: LocalityPolicy,
    pub hashing: Hashing,
    pub override_statuses: OverrideStatuses,
    pub drain_on_host_set_change: bool,
}

impl Common {
    pub fn from_proto(
        message: Option<&CommonLbConfig>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Common, ConfigError> {
        let Some(message) = message else {
            return Ok(Common { panic_threshold: DEFAULT_PANIC_THRESHOLD, ..Common::default() });
        };
        warn_set!(context, at, message, [update_merge_window], "every update is applied at once");
        let threshold = message.healthy_panic_threshold.as_ref();
        let panic_threshold = threshold.map_or(Ok(DEFAULT_PANIC_THRESHOLD), |threshold| {
            value::percent(threshold, &at.field("healthy_panic_threshold")).map(f64::round)
        });
        let hashing = message.consistent_hashing_lb_config.as_ref();
        let at_hashing = at.field("consistent_hashing_lb_config");
        let hashing = hashing.map_or(Ok(Hashing::default()), |config| {
            Ok(Hashing {
                by_hostname: config.use_hostname_for_hashing,
                balance_factor: balance_factor(config.hash_balance_factor, &at_hashing)?,
            })
        });
        Ok(Common {
            panic_threshold: panic_threshold?,
            locality: LocalityPolicy::from_cluster(message.locality_config_specifier.as_ref(), at)?,
            hashing: hashing?,
            override_statuses: OverrideStatuses::from_proto(
                message.override_host_status.as_ref(),
                &at.field("override_host_status"),
            )?,
            drain_on_host_set_change: message.close_connections_on_host_set_change,
        })
    }
}

impl LocalityPolicy {
    fn from_cluster(
        message: Option<&LocalityConfigSpecifier>,
        at: &At<'_>,
    ) -> Result<LocalityPolicy, ConfigError> {
        Ok(match message {
            None => LocalityPolicy::default(),
            Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => LocalityPolicy::Weighted,
            Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zone)) => {
                // The same fields by the same names, without the later ones.
                let zone = ZoneAwareLbConfig {
                    routing_enabled: zone.routing_enabled,
                    min_cluster_size: zone.min_cluster_size,
                    fail_traffic_on_panic: zone.fail_traffic_on_panic,
                    ..ZoneAwareLbConfig::default()
                };
                let at = at.field("zone_aware_lb_config");
                LocalityPolicy::ZoneAware(ZoneAware::from_proto(&zone, &at)?)
            }
        })
    }

    /// `locality_lb_config` of a policy extension.
    pub(super) fn from_extension(
        message: Option<&LocalityLbConfig>,
        at: &At<'_>,
    ) -> Result<LocalityPolicy, ConfigError> {
        let specifier = message.and_then(|config| config.locality_config_specifier.as_ref());
        Ok(match specifier {
            None => LocalityPolicy::default(),
            Some(ExtensionSpecifier::LocalityWeightedLbConfig(_)) => LocalityPolicy::Weighted,
            Some(ExtensionSpecifier::ZoneAwareLbConfig(zone)) => {
                let at = at.field("locality_lb_config");
                let at = at.field("zone_aware_lb_config");
                LocalityPolicy::ZoneAware(ZoneAware::from_proto(zone, &at)?)
            }
        })
    }
}

impl ZoneAware {
    fn from_proto(message: &ZoneAwareLbConfig, at: &At<'_>) -> Result<ZoneAware, ConfigError> {
        let enabled = message.routing_enabled.as_ref();
        let enabled = enabled
            .map_or(Ok(100.0), |enabled| value::percent(enabled, &at.field("routing_enabled")))?;
        let basis: LocalityBasis =
            value::enumeration(message.locality_basis, &at.field("locality_basis"))?;
        let force_zone = message.force_local_zone.as_ref();
        let min_size = force_zone.map(|zone| zone.min_size.map_or(1, |size| size.value));
        Ok(ZoneAware {
            routing_enabled: enabled.round() as u32,
            min_cluster_size: message
                .min_cluster_size
                .map_or(DEFAULT_MIN_CLUSTER_SIZE, |size| size.value),
            fail_on_panic: message.fail_traffic_on_panic,
            force_local: min_size.or(message.force_locality_direct_routing.then_some(1)),
            by_weight: basis == LocalityBasis::HealthyHostsWeight,
        })
    }
}

impl OverrideStatuses {
    fn from_proto(
        message: Option<&HealthStatusSet>,
        at: &At<'_>,
    ) -> Result<OverrideStatuses, ConfigError> {
        let Some(message) = message else { return Ok(OverrideStatuses::default()) };
        let mut statuses =
            OverrideStatuses { healthy: false, degraded: false, unhealthy: false, draining: false };
        for (index, status) in message.statuses.iter().enumerate() {
            match value::enumeration(*status, &at.index("statuses", index))? {
                HealthStatus::Unknown | HealthStatus::Healthy => statuses.healthy = true,
                HealthStatus::Degraded => statuses.degraded = true,
                HealthStatus::Unhealthy | HealthStatus::Timeout => statuses.unhealthy = true,
                HealthStatus::Draining => statuses.draining = true,
            }
        }
        Ok(statuses)
    }
}
