//! The services of a single type, by their generated clients.

mod client;

use control_plane_mock::ControlPlane;
use proto::envoy::service::{
    cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient,
    endpoint::v3::endpoint_discovery_service_client::EndpointDiscoveryServiceClient,
    endpoint::v3::locality_endpoint_discovery_service_client::LocalityEndpointDiscoveryServiceClient,
    extension::v3::extension_config_discovery_service_client::ExtensionConfigDiscoveryServiceClient,
    listener::v3::listener_discovery_service_client::ListenerDiscoveryServiceClient,
    load_stats::v3::load_reporting_service_client::LoadReportingServiceClient,
    route::v3::route_discovery_service_client::RouteDiscoveryServiceClient,
    route::v3::scoped_routes_discovery_service_client::ScopedRoutesDiscoveryServiceClient,
    route::v3::virtual_host_discovery_service_client::VirtualHostDiscoveryServiceClient,
    runtime::v3::runtime_discovery_service_client::RuntimeDiscoveryServiceClient,
    secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient,
};

/// Opens the streams of a service with one wildcard request each and checks that they answer with their type.
macro_rules! check {
    ($channel:expr, $client:ident, $type_url:ident, $($method:ident),+) => {$({
        let request = tokio_stream::iter([Default::default()]);
        let mut client = $client::new($channel.clone());
        let response = client.$method(request).await.expect("the method exists");
        let first = response.into_inner().message().await.expect("a response");
        assert_eq!(first.expect("a response").type_url, proto::type_url::$type_url);
    })+};
}

#[tokio::test]
async fn every_type_has_its_services() {
    let control_plane = ControlPlane::start_default().await.expect("it starts");
    let channel = client::channel(control_plane.addr()).await;
    check!(channel, ListenerDiscoveryServiceClient, LISTENER, stream_listeners, delta_listeners);
    check!(channel, RouteDiscoveryServiceClient, ROUTE_CONFIGURATION, stream_routes, delta_routes);
    check!(
        channel,
        ScopedRoutesDiscoveryServiceClient,
        SCOPED_ROUTE_CONFIGURATION,
        stream_scoped_routes,
        delta_scoped_routes
    );
    check!(channel, VirtualHostDiscoveryServiceClient, VIRTUAL_HOST, delta_virtual_hosts);
    check!(channel, ClusterDiscoveryServiceClient, CLUSTER, stream_clusters, delta_clusters);
    check!(
        channel,
        EndpointDiscoveryServiceClient,
        CLUSTER_LOAD_ASSIGNMENT,
        stream_endpoints,
        delta_endpoints
    );
    check!(channel, LocalityEndpointDiscoveryServiceClient, LB_ENDPOINT, delta_locality_endpoints);
    check!(channel, SecretDiscoveryServiceClient, SECRET, stream_secrets, delta_secrets);
    check!(channel, RuntimeDiscoveryServiceClient, RUNTIME, stream_runtime, delta_runtime);
    check!(
        channel,
        ExtensionConfigDiscoveryServiceClient,
        TYPED_EXTENSION_CONFIG,
        stream_extension_configs,
        delta_extension_configs
    );
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let control_plane = ControlPlane::start_default().await.expect("it starts");
    let channel = client::channel(control_plane.addr()).await;
    let mut client = LoadReportingServiceClient::new(channel);
    let error = client.stream_load_stats(tokio_stream::empty()).await.expect_err("unknown");
    assert_eq!(error.code(), tonic::Code::Unimplemented);
}
