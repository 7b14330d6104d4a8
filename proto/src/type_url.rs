//! Type URLs of the resources that xDS delivers, and their short names for logs and statistics.

/// What every type URL starts with; the full name of the message follows.
pub const PREFIX: &str = "type.googleapis.com/";

/// LDS: `envoy.config.listener.v3.Listener`.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// RDS: `envoy.config.route.v3.RouteConfiguration`.
pub const ROUTE_CONFIGURATION: &str =
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// SRDS: `envoy.config.route.v3.ScopedRouteConfiguration`.
pub const SCOPED_ROUTE_CONFIGURATION: &str =
    "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration";
/// VHDS: `envoy.config.route.v3.VirtualHost`.
pub const VIRTUAL_HOST: &str = "type.googleapis.com/envoy.config.route.v3.VirtualHost";
/// CDS: `envoy.config.cluster.v3.Cluster`.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// EDS: `envoy.config.endpoint.v3.ClusterLoadAssignment`.
pub const CLUSTER_LOAD_ASSIGNMENT: &str =
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// LEDS: `envoy.config.endpoint.v3.LbEndpoint`.
pub const LB_ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.LbEndpoint";
/// SDS: `envoy.extensions.transport_sockets.tls.v3.Secret`.
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// RTDS: `envoy.service.runtime.v3.Runtime`.
pub const RUNTIME: &str = "type.googleapis.com/envoy.service.runtime.v3.Runtime";
/// ECDS: `envoy.config.core.v3.TypedExtensionConfig`.
pub const TYPED_EXTENSION_CONFIG: &str =
    "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
/// The wrapper a resource may come in, with its name, version and time to live: `envoy.service.discovery.v3.Resource`.
pub const RESOURCE: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// Each discovery service's short name with the type URL it delivers.
const SHORT_NAMES: [(&str, &str); 10] = [
    ("lds", LISTENER),
    ("rds", ROUTE_CONFIGURATION),
    ("srds", SCOPED_ROUTE_CONFIGURATION),
    ("vhds", VIRTUAL_HOST),
    ("cds", CLUSTER),
    ("eds", CLUSTER_LOAD_ASSIGNMENT),
    ("leds", LB_ENDPOINT),
    ("sds", SECRET),
    ("rtds", RUNTIME),
    ("ecds", TYPED_EXTENSION_CONFIG),
];

/// The short name of the discovery service that delivers `type_url`, such as `cds`.
///
/// A type that no discovery service delivers is returned as it is, so that logs always have something to print.
pub fn short_name(type_url: &str) -> &str {
    let known = SHORT_NAMES.iter().find(|(_, url)| *url == type_url);
    known.map_or(type_url, |(short, _)| short)
}

/// The type URL that the discovery service with this short name (`cds`, `eds`, ...) delivers.
pub fn from_short_name(short: &str) -> Option<&'static str> {
    let known = SHORT_NAMES.iter().find(|(name, _)| *name == short);
    known.map(|(_, url)| *url)
}

/// The full name of the message in a type URL: what follows the last slash.
///
/// Protobuf compares this part only, so that any prefix is accepted.
pub fn message_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_and_urls_are_inverse() {
        for (short, url) in SHORT_NAMES {
            assert_eq!(short_name(url), short);
            assert_eq!(from_short_name(short), Some(url));
        }
        assert_eq!(short_name("type.googleapis.com/my.Own"), "type.googleapis.com/my.Own");
        assert_eq!(from_short_name("xyz"), None);
    }

    #[test]
    fn urls_are_those_of_the_messages() {
        use crate::{any::type_url_of, envoy};
        assert_eq!(type_url_of::<envoy::config::listener::v3::Listener>(), LISTENER);
        assert_eq!(
            type_url_of::<envoy::config::route::v3::RouteConfiguration>(),
            ROUTE_CONFIGURATION
        );
        assert_eq!(
            type_url_of::<envoy::config::route::v3::ScopedRouteConfiguration>(),
            SCOPED_ROUTE_CONFIGURATION
        );
        assert_eq!(type_url_of::<envoy::config::route::v3::VirtualHost>(), VIRTUAL_HOST);
        assert_eq!(type_url_of::<envoy::config::cluster::v3::Cluster>(), CLUSTER);
        assert_eq!(
            type_url_of::<envoy::config::endpoint::v3::ClusterLoadAssignment>(),
            CLUSTER_LOAD_ASSIGNMENT
        );
        assert_eq!(type_url_of::<envoy::config::endpoint::v3::LbEndpoint>(), LB_ENDPOINT);
        assert_eq!(type_url_of::<envoy::extensions::transport_sockets::tls::v3::Secret>(), SECRET);
        assert_eq!(type_url_of::<envoy::service::runtime::v3::Runtime>(), RUNTIME);
        assert_eq!(
            type_url_of::<envoy::config::core::v3::TypedExtensionConfig>(),
            TYPED_EXTENSION_CONFIG
        );
        assert_eq!(type_url_of::<envoy::service::discovery::v3::Resource>(), RESOURCE);
    }

    #[test]
    fn message_name_is_what_follows_the_last_slash() {
        assert_eq!(message_name("type.googleapis.com/a.B"), "a.B");
        assert_eq!(message_name("example.com/x/a.B"), "a.B");
        assert_eq!(message_name("a.B"), "a.B");
    }
}
