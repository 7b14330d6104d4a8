//! Endpoints (`envoy.config.endpoint.v3.ClusterLoadAssignment`).

use std::sync::Arc;

use crate::io::Address;

mod translate;

pub use translate::Addresses;

/// A `ClusterLoadAssignment`: endpoints by locality and priority.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// `endpoints`, in order; duplicates of an address after the first are dropped.
    pub localities: Vec<LocalityEndpoints>,
    /// `policy.overprovisioning_factor` in percent; default 140.
    pub overprovisioning_factor: u32,
    /// `policy.weighted_priority_health`: hosts count by their weight for the health of a priority.
    pub weighted_priority_health: bool,
    /// `policy.drop_overloads`: category and parts per million.
    pub drop_overload: Option<(Arc<str>, u32)>,
}

impl Default for Assignment {
    fn default() -> Self {
        Assignment {
            localities: Vec::new(),
            overprovisioning_factor: 140,
            weighted_priority_health: false,
            drop_overload: None,
        }
    }
}

/// `LocalityLbEndpoints`.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalityEndpoints {
    /// `locality`
    pub locality: Arc<Locality>,
    /// `priority`, 0 to 128; 0 is used first.
    pub priority: u32,
    /// `load_balancing_weight`; none means no load when localities are weighted.
    pub weight: Option<u32>,
    /// `lb_endpoints`
    pub endpoints: Vec<Endpoint>,
}

/// `envoy.config.core.v3.Locality`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// `region`
    pub region: Box<str>,
    /// `zone`
    pub zone: Box<str>,
    /// `sub_zone`
    pub sub_zone: Box<str>,
}

/// `LbEndpoint`.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// `endpoint.address`
    pub target: Target,
    /// `endpoint.hostname`
    pub hostname: Option<Arc<str>>,
    /// `load_balancing_weight`, at least 1; default 1.
    pub weight: u32,
    /// `health_status`
    pub health: EdsHealth,
    /// `metadata.filter_metadata`; none if there is none, as for most endpoints.
    pub metadata: Option<Arc<Metadata>>,
    /// `endpoint.health_check_config`; none for most endpoints.
    pub check: Option<Arc<EndpointCheck>>,
}

/// `Endpoint.HealthCheckConfig`: how the health check of one endpoint differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointCheck {
    /// `port_value`
    pub port: Option<u16>,
    /// `address`
    pub address: Option<Address>,
    /// `hostname`: the host header.
    pub hostname: Option<Box<str>>,
    /// `disable_active_health_check`
    pub disabled: bool,
}

/// `envoy.config.core.v3.Metadata.filter_metadata`: by namespace.
pub use crate::telemetry::stream_info::Metadata;

/// An endpoint's address: known, or a name to resolve (DNS clusters only).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An IP address or a pipe.
    Address(Address),
    /// `socket_address` with a DNS name.
    Name {
        /// The name to resolve.
        name: Arc<str>,
        /// The port.
        port: u16,
    },
}

/// `HealthStatus` as EDS tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EdsHealth {
    /// `UNKNOWN` or `HEALTHY`.
    #[default]
    Healthy,
    /// `UNHEALTHY` or `TIMEOUT`.
    Unhealthy,
    /// `DRAINING`: gets no new requests.
    Draining,
    /// `DEGRADED`: used when healthy hosts do not suffice.
    Degraded,
}
