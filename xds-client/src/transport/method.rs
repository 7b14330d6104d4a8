//! Which gRPC method serves which type, and which path over REST.

use http::uri::PathAndQuery;

use super::StartError;
use crate::{Mode, Protocol};

const TYPE_PREFIX: &str = "type.googleapis.com/";
const AGGREGATED: Method = Method {
    message: "",
    service: "discovery.v3.AggregatedDiscoveryService",
    sotw: Some("StreamAggregatedResources"),
    delta: "DeltaAggregatedResources",
    rest: None,
};

/// The discovery service of a type; `service` without `envoy.service.`.
struct Method {
    message: &'static str,
    service: &'static str,
    sotw: Option<&'static str>,
    delta: &'static str,
    /// The path that `google.api.http` annotates the service's fetch method with.
    rest: Option<&'static str>,
}

/// The services under `api/envoy/service`.
const METHODS: &[Method] = &[
    Method {
        message: "envoy.config.listener.v3.Listener",
        service: "listener.v3.ListenerDiscoveryService",
        sotw: Some("StreamListeners"),
        delta: "DeltaListeners",
        rest: Some("/v3/discovery:listeners"),
    },
    Method {
        message: "envoy.config.route.v3.RouteConfiguration",
        service: "route.v3.RouteDiscoveryService",
        sotw: Some("StreamRoutes"),
        delta: "DeltaRoutes",
        rest: Some("/v3/discovery:routes"),
    },
    Method {
        message: "envoy.config.route.v3.ScopedRouteConfiguration",
        service: "route.v3.ScopedRoutesDiscoveryService",
        sotw: Some("StreamScopedRoutes"),
        delta: "DeltaScopedRoutes",
        rest: Some("/v3/discovery:scoped-routes"),
    },
    Method {
        message: "envoy.config.route.v3.VirtualHost",
        service: "route.v3.VirtualHostDiscoveryService",
        sotw: None,
        delta: "DeltaVirtualHosts",
        rest: None,
    },
    Method {
        message: "envoy.config.cluster.v3.Cluster",
        service: "cluster.v3.ClusterDiscoveryService",
        sotw: Some("StreamClusters"),
        delta: "DeltaClusters",
        rest: Some("/v3/discovery:clusters"),
    },
    Method {
        message: "envoy.config.endpoint.v3.ClusterLoadAssignment",
        service: "endpoint.v3.EndpointDiscoveryService",
        sotw: Some("StreamEndpoints"),
        delta: "DeltaEndpoints",
        rest: Some("/v3/discovery:endpoints"),
    },
    Method {
        message: "envoy.config.endpoint.v3.LbEndpoint",
        service: "endpoint.v3.LocalityEndpointDiscoveryService",
        sotw: None,
        delta: "DeltaLocalityEndpoints",
        rest: None,
    },
    Method {
        message: "envoy.extensions.transport_sockets.tls.v3.Secret",
        service: "secret.v3.SecretDiscoveryService",
        sotw: Some("StreamSecrets"),
        delta: "DeltaSecrets",
        rest: Some("/v3/discovery:secrets"),
    },
    Method {
        message: "envoy.service.runtime.v3.Runtime",
        service: "runtime.v3.RuntimeDiscoveryService",
        sotw: Some("StreamRuntime"),
        delta: "DeltaRuntime",
        rest: Some("/v3/discovery:runtime"),
    },
    Method {
        message: "envoy.config.core.v3.TypedExtensionConfig",
        service: "extension.v3.ExtensionConfigDiscoveryService",
        sotw: Some("StreamExtensionConfigs"),
        delta: "DeltaExtensionConfigs",
        rest: Some("/v3/discovery:extension_configs"),
    },
];

/// The path of the gRPC method, or of the REST endpoint.
pub(crate) fn path(mode: &Mode, protocol: Protocol) -> Result<PathAndQuery, StartError> {
    let missing = || StartError::NoMethod {
        type_url: match mode {
            Mode::Aggregated => String::new(),
            Mode::SingleType { type_url } => type_url.clone(),
        },
        protocol,
    };
    let method = match mode {
        Mode::Aggregated => &AGGREGATED,
        Mode::SingleType { type_url } => {
            let message = type_url.strip_prefix(TYPE_PREFIX).ok_or_else(missing)?;
            METHODS.iter().find(|method| method.message == message).ok_or_else(missing)?
        }
    };
    let name = match protocol {
        Protocol::Sotw => method.sotw.ok_or_else(missing)?,
        Protocol::Delta => method.delta,
        Protocol::Rest(_) => {
            return method.rest.map(PathAndQuery::from_static).ok_or_else(missing);
        }
    };
    PathAndQuery::try_from(format!("/envoy.service.{}/{name}", method.service))
        .map_err(|_| missing())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn single(message: &str) -> Mode {
        Mode::SingleType { type_url: format!("{TYPE_PREFIX}{message}") }
    }

    #[test]
    fn every_mode_has_its_path() {
        let ads = path(&Mode::Aggregated, Protocol::Delta).expect("ADS");
        assert_eq!(
            ads,
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
        );
        let cds = path(&single("envoy.config.cluster.v3.Cluster"), Protocol::Sotw).expect("CDS");
        assert_eq!(cds, "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters");
    }

    #[test]
    fn polled_types_have_paths_of_their_own() {
        let rest = Protocol::Rest(crate::Polling {
            refresh_delay: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
        });
        let lds = path(&single("envoy.config.listener.v3.Listener"), rest).expect("LDS");
        assert_eq!(lds, "/v3/discovery:listeners");
        assert!(path(&Mode::Aggregated, rest).is_err());
        assert!(path(&single("envoy.config.route.v3.VirtualHost"), rest).is_err());
    }

    #[test]
    fn what_no_service_serves_is_refused() {
        let virtual_host = single("envoy.config.route.v3.VirtualHost");
        assert!(path(&virtual_host, Protocol::Delta).is_ok());
        assert!(matches!(path(&virtual_host, Protocol::Sotw), Err(StartError::NoMethod { .. })));
        assert!(path(&single("google.protobuf.Any"), Protocol::Delta).is_err());
    }
}
