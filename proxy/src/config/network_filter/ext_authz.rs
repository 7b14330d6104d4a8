//! Translating the network filter that asks an authorization server.

use proto::envoy::extensions::filters::network::ext_authz::v3 as pb;

use super::NetworkAuthz;
use crate::config::matcher::MetadataMatcher;
use crate::config::source::{GrpcService, GrpcTarget};
use crate::config::value::{non_empty, required};
use crate::config::{At, ConfigError, Context};
use crate::{refuse_set, warn_set};

impl NetworkAuthz {
    /// An `envoy.extensions.filters.network.ext_authz.v3.ExtAuthz`.
    pub(super) fn from_proto(
        message: &pb::ExtAuthz,
        at: &At<'_>,
        context: &Context,
    ) -> Result<NetworkAuthz, ConfigError> {
        refuse_set!(at, message, [bootstrap_metadata_labels_key, shadow_mode]);
        refuse_set!(at, message, [send_tls_alert_on_denial]);
        let reason = "Pillion keeps no typed metadata";
        warn_set!(context, at, message, [typed_metadata_context_namespaces], reason);
        let at_service = at.field("grpc_service");
        let service = required(&message.grpc_service, &at_service)?;
        let service = GrpcService::from_proto(service, &at_service, context)?;
        if matches!(service.target, GrpcTarget::Uri(_)) {
            return Err(at_service.field("google_grpc").unsupported());
        }
        let at_enabled_by = at.field("filter_enabled_metadata");
        let enabled_by = message.filter_enabled_metadata.as_ref();
        let namespaces = message.metadata_context_namespaces.iter();
        Ok(NetworkAuthz {
            stat_prefix: non_empty(&message.stat_prefix, &at.field("stat_prefix"))?.into(),
            service,
            allows_on_failure: message.failure_mode_allow,
            tells_certificate: message.include_peer_certificate,
            tells_session: message.include_tls_session,
            enabled_by: enabled_by
                .map(|matcher| MetadataMatcher::from_proto(matcher, &at_enabled_by, context))
                .transpose()?,
            metadata: namespaces.map(|name| name.as_str().into()).collect(),
        })
    }
}
