//! Protobuf to model: the transport sockets of a cluster's hosts, and the names that connections take from requests.

use std::sync::Arc;

use http::HeaderName;
use proto::envoy::config::cluster::v3 as pb;
use proto::envoy::config::core::v3 as core;
use serde_json::{Map, Value};

use super::Cluster;
use crate::config::endpoint::Metadata;
use crate::config::error::{At, ConfigError, Context};
use crate::config::tls::UpstreamTls;
use crate::config::value;

/// The namespace of hosts' metadata that chooses among `transport_socket_matches`.
const NAMESPACE: &str = "envoy.transport_socket_match";

/// `Cluster.TransportSocketMatch`: the socket of the hosts whose metadata has these values.
#[derive(Clone, Debug)]
pub struct SocketMatch {
    /// `match`; empty fits every host.
    pub criteria: Map<String, Value>,
    /// `transport_socket`; none means plaintext.
    pub tls: Option<Arc<UpstreamTls>>,
}

/// `UpstreamHttpProtocolOptions`: what a TLS connection takes from the request that it is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoNames {
    /// `auto_sni`: the request's host is the server name that is sent.
    pub sni: bool,
    /// `auto_san_validation`: the server's certificate must be for it.
    pub san: bool,
    /// `override_auto_sni_header`: stands in for the host, if the request has it.
    pub header: Option<HeaderName>,
}

/// The cluster's own socket, and those that its hosts' metadata may choose instead, in order.
type Sockets = (Option<Arc<UpstreamTls>>, Box<[SocketMatch]>);

impl SocketMatch {
    /// `transport_socket` and `transport_socket_matches`
    pub(super) fn sockets_from_proto(
        message: &pb::Cluster,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Sockets, ConfigError> {
        let own = message.transport_socket.as_ref();
        let own = UpstreamTls::from_transport_socket(own, &at.field("transport_socket"), context)?;
        let matches = message.transport_socket_matches.iter().enumerate();
        let translate = |(i, entry): (usize, &pb::cluster::TransportSocketMatch)| {
            let at = at.index("transport_socket_matches", i);
            value::non_empty(&entry.name, &at.field("name"))?;
            let socket = entry.transport_socket.as_ref();
            let tls =
                UpstreamTls::from_transport_socket(socket, &at.field("transport_socket"), context)?;
            let criteria = entry.r#match.as_ref().map(proto::convert::struct_to_json);
            Ok(SocketMatch { criteria: criteria.unwrap_or_default(), tls })
        };
        Ok((own, matches.map(translate).collect::<Result<_, _>>()?))
    }

    /// Whether a host with this metadata gets the socket.
    pub fn fits(&self, metadata: Option<&Metadata>) -> bool {
        let fields = metadata.and_then(|metadata| metadata.get(NAMESPACE)?.as_object());
        self.criteria.iter().all(|(name, wanted)| {
            fields.and_then(|fields| fields.get(name)).is_some_and(|value| value == wanted)
        })
    }
}

impl Cluster {
    /// Which of `socket_matches` a host with this metadata gets; none means `tls`.
    pub fn socket_match(&self, metadata: Option<&Metadata>) -> Option<usize> {
        self.socket_matches.iter().position(|entry| entry.fits(metadata))
    }

    /// Whether a secret of a transport socket comes over SDS.
    pub fn uses_sds(&self) -> bool {
        let matches = self.socket_matches.iter().filter_map(|entry| entry.tls.as_ref());
        self.tls.iter().chain(matches).any(|tls| tls.common.uses_sds())
    }
}

impl AutoNames {
    /// None if nothing is taken from requests.
    pub(super) fn from_proto(
        options: Option<&core::UpstreamHttpProtocolOptions>,
        at: &At<'_>,
    ) -> Result<Option<AutoNames>, ConfigError> {
        let Some(options) =
            options.filter(|options| options.auto_sni || options.auto_san_validation)
        else {
            return Ok(None);
        };
        let at = at.field("override_auto_sni_header");
        let header = match &*options.override_auto_sni_header {
            "" => None,
            name => Some(value::header_name(name, &at)?),
        };
        Ok(Some(AutoNames { sni: options.auto_sni, san: options.auto_san_validation, header }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_host_fits_whose_metadata_has_every_value() {
        let criteria = |value: Value| SocketMatch {
            criteria: value.as_object().cloned().unwrap_or_default(),
            tls: None,
        };
        let metadata = Metadata::from_iter([
            (NAMESPACE.to_owned(), json!({"tlsMode": "istio", "extra": 1})),
            ("envoy.lb".to_owned(), json!({"version": "v1"})),
        ]);
        for (wanted, expected) in [
            (json!({}), true),
            (json!({"tlsMode": "istio"}), true),
            (json!({"tlsMode": "istio", "extra": 1}), true),
            (json!({"tlsMode": "disabled"}), false),
            (json!({"version": "v1"}), false),
        ] {
            assert_eq!(criteria(wanted.clone()).fits(Some(&metadata)), expected, "{wanted}");
        }
        assert!(criteria(json!({})).fits(None));
        assert!(!criteria(json!({"tlsMode": "istio"})).fits(None));
    }
}
