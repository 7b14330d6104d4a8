//! The last good resources, kept on disk for a process that starts while its control plane is gone.
//!
//! A [`Keeper`](keeper::Keeper) writes them a moment after they have changed. [`Restore`](restore::Restore) puts those of an earlier
//! process in force when no control plane answers in time, and makes way when one does. Secrets are never among them.

mod file;
pub mod keeper;
pub mod restore;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proto::envoy::config::listener::v3::{FilterChain, Listener};
use proto::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use proto::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::SessionTicketKeysType;
use proto::google::protobuf::Any;
use proto::{any, type_url};

pub use file::owner;

use super::resources::{Version, Versions};
use super::sources::Kind;
use crate::config::source::{ApiConfigSource, GrpcTarget, SourceKind};
use crate::stat_group;

/// How the last good resources are kept.
#[derive(Clone, Debug)]
pub struct StateOptions {
    /// The folder that they are kept in, of this proxy alone.
    pub folder: PathBuf,
    /// How long a control plane may take to answer before the resources of an earlier process are used.
    pub grace: Duration,
}

stat_group! {
    /// `control_plane.`, where the last good resources are kept.
    pub struct StateStats {
        gauge serving_from_state,
        counter state_saved,
        counter state_save_failed,
    }
}

/// A resource that serves, with where it came from.
pub struct Known {
    /// Its type.
    pub kind: Kind,
    /// The [`source_key`] of its source; empty for the types of which there is one source.
    pub source: String,
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub version: Version,
}

impl Known {
    /// The version in use of something that is asked for by name; none if there is none, or it comes from a file.
    pub fn named(
        kind: Kind,
        source: &SourceKind,
        name: &Arc<str>,
        versions: &Versions,
    ) -> Option<Self> {
        let version = versions.active.clone()?;
        Some(Known { kind, source: source_key(source)?, name: Arc::clone(name), version })
    }
}

/// What stands for a source on disk; none for files, which are on disk already.
pub fn source_key(source: &SourceKind) -> Option<String> {
    match source {
        SourceKind::Ads => Some("ads".to_owned()),
        SourceKind::Api(api) => {
            let protocol = if api.polling.is_some() { "rest" } else { "grpc" };
            Some(format!("{protocol}:{}", targets(api).join(",")))
        }
        SourceKind::Path { .. } => None,
    }
}

fn targets(api: &ApiConfigSource) -> Vec<&str> {
    let targets = api.services.iter().map(|service| match &service.target {
        GrpcTarget::Cluster { name, .. } => name.as_str(),
        GrpcTarget::Uri(uri) => uri.as_str(),
    });
    targets.collect()
}

/// What every private key in PEM has in it.
const KEY_MARK: &[u8] = b"PRIVATE KEY-----";

/// Whether a packed resource holds a secret: a private key, or keys of session tickets, inline.
fn holds_secret(body: &Any) -> bool {
    let holds_key = body.value.windows(KEY_MARK.len()).any(|bytes| bytes == KEY_MARK);
    holds_key || (body.type_url == type_url::LISTENER && holds_ticket_keys(body))
}

fn holds_ticket_keys(body: &Any) -> bool {
    // What cannot be read was not put in force.
    let Ok(listener) = any::unpack::<Listener>(body) else { return true };
    let holds = |chain: &FilterChain| {
        let config = chain.transport_socket.as_ref()?.config_type.as_ref()?;
        let proto::envoy::config::core::v3::transport_socket::ConfigType::TypedConfig(config) =
            config;
        any::unpack::<DownstreamTlsContext>(config).ok()?.session_ticket_keys_type
    };
    let mut chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    chains.any(|chain| matches!(holds(chain), Some(SessionTicketKeysType::SessionTicketKeys(_))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::message;

    fn listener(tls: &str) -> Any {
        any::pack(&message::<Listener>(&format!(
            "{{name: a, filter_chains: [{{transport_socket: {{name: tls, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, {tls}}}}}}}]}}"
        )))
    }

    #[test]
    fn keys_are_secrets_wherever_they_stand() {
        let certificate = |key: &str| {
            listener(&format!(
                "common_tls_context: {{tls_certificates: [{{private_key: {{{key}}}}}]}}"
            ))
        };
        assert!(holds_secret(&certificate("inline_string: '-----BEGIN EC PRIVATE KEY-----'")));
        assert!(holds_secret(&listener("session_ticket_keys: {keys: [{inline_string: secret}]}")));
        assert!(!holds_secret(&certificate("filename: /etc/key.pem")));
        assert!(!holds_secret(&listener("")));
    }
}
