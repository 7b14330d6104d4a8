//! The resources of a mesh that a control plane pushes: EDS clusters and their endpoints.

use std::net::SocketAddr;

use control_plane_mock::Resource;
use proto::envoy::config::cluster::v3::Cluster;
use proto::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use proto::envoy::config::core::v3::address::Address as AddressKind;
use proto::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use proto::envoy::config::core::v3::socket_address::PortSpecifier;
use proto::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress,
};
use proto::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use proto::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use proto::google::protobuf::{Duration, UInt32Value};

use crate::Result;
use crate::program::idle_endpoints;

/// Clusters in the mesh, each with ten endpoints.
pub const CLUSTERS: usize = 1_000;

/// All clusters in their state number `generation`: each differs from the one of any other number.
pub fn clusters(generation: u32) -> Result<Vec<Resource>> {
    (0..CLUSTERS).map(|number| cluster(number, generation)).collect()
}

/// The endpoints of all clusters.
pub fn endpoints() -> Result<Vec<Resource>> {
    (0..CLUSTERS).map(|number| assignment(number, 0)).collect()
}

/// The endpoints of one cluster, where the weight of one endpoint is that of state number `generation`.
pub fn one_endpoint_changed(generation: u32) -> Result<Resource> {
    assignment(CLUSTERS / 2, generation)
}

fn cluster(number: usize, generation: u32) -> Result<Resource> {
    let ads = ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        resource_api_version: ApiVersion::V3.into(),
        ..ConfigSource::default()
    };
    Ok(Resource::pack(&Cluster {
        name: name(number),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads),
            service_name: String::new(),
        }),
        connect_timeout: Some(Duration { seconds: 5 + i64::from(generation), nanos: 0 }),
        ..Cluster::default()
    })?)
}

fn assignment(number: usize, generation: u32) -> Result<Resource> {
    let mut endpoints: Vec<LbEndpoint> = idle_endpoints(number).map(endpoint).collect();
    endpoints[0].load_balancing_weight = Some(UInt32Value { value: generation + 1 });
    Ok(Resource::pack(&ClusterLoadAssignment {
        cluster_name: name(number),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: endpoints,
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    })?)
}

fn endpoint(address: SocketAddr) -> LbEndpoint {
    let socket_address = SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
        ..SocketAddress::default()
    };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(Address { address: Some(AddressKind::SocketAddress(socket_address)) }),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    }
}

fn name(number: usize) -> String {
    format!("cluster_{number}")
}
