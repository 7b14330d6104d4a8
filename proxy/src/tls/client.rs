//! The client side of TLS.

use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use tokio_rustls::TlsConnector;

use crate::config::tls::UpstreamTls;
use crate::config::{At, ConfigError};
use crate::io::{Stream, Tls};
use crate::telemetry::stream_info::{CertificateInfo, TlsInfo};
use crate::tls::failure::HandshakeError;
use crate::tls::provider::{provider, versions};
use crate::tls::secret::Resolved;
use crate::tls::session;
use crate::tls::stats::TlsStats;
use crate::tls::verify::{ServerVerifier, Verifier, check_name};

/// What rustls gets for a name where none is sent; nothing is compared with it.
const NAMELESS: &str = "nameless.invalid";

/// An `UpstreamTlsContext` with its secrets, ready to connect.
pub struct ClientContext {
    named: Arc<ClientConfig>,
    /// For connections that send no name.
    nameless: Arc<ClientConfig>,
    sni: Option<ServerName<'static>>,
    auto_host_sni: bool,
    verifier: Arc<ServerVerifier>,
    has_anchors: bool,
    local: Option<Arc<CertificateInfo>>,
}

/// What one connection asks of its server, beyond its context.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerNames<'a> {
    /// The host's own name (`auto_host_sni`).
    pub hostname: Option<&'a str>,
    /// The name to send, from the request (`auto_sni`): goes before all others.
    pub sni: Option<&'a str>,
    /// The name that the certificate must be for (`auto_san_validation`).
    pub san: Option<&'a str>,
    /// The protocols to offer where the context names none.
    pub alpn: &'a [&'static [u8]],
    /// The protocols to offer instead of the context's, unless it is empty.
    pub instead: &'a [Vec<u8>],
}

impl std::fmt::Debug for ClientContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientContext").field("sni", &self.sni).finish_non_exhaustive()
    }
}

impl ClientContext {
    /// A context, which stands at `at`.
    ///
    /// # Errors
    /// A certificate, key or CA that cannot be used, or a part that is not supported.
    pub fn new(
        context: &UpstreamTls,
        secrets: &Resolved,
        at: &At<'_>,
    ) -> Result<ClientContext, ConfigError> {
        let sni = server_name(&context.sni).map_err(|()| {
            at.field("sni").error(format_args!("{:?} is no host name", context.sni))
        })?;
        let at = at.field("common_tls_context");
        let common = &context.common;
        let crypto = provider(common);
        let own = secrets.certificates.first();
        let validation = secrets.validation.as_deref().cloned().unwrap_or_default();
        let verifier = Verifier::new(&validation, &at.field("validation_context"))?;
        let has_anchors = verifier.has_anchors();
        let by_sni = context.auto_sni_san_validation;
        let verifier = if by_sni { verifier.without_names() } else { verifier };
        let verifier = Arc::new(ServerVerifier::new(Arc::new(verifier), by_sni));
        let builder = ClientConfig::builder_with_provider(crypto)
            .with_protocol_versions(&versions(common))
            .map_err(|error| at.field("tls_params").error(error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _);
        let mut named = match own {
            Some(own) => {
                let key = SingleCertAndKey::from(Arc::clone(&own.key));
                builder.with_client_cert_resolver(Arc::new(key))
            }
            None => builder.with_no_client_auth(),
        };
        named.alpn_protocols.clone_from(&common.alpn);
        named.resumption = match context.max_session_keys {
            0 => Resumption::disabled(),
            // Each name has sessions of its own.
            sessions => Resumption::in_memory_sessions(sessions.max(8) as usize),
        };
        let mut nameless = named.clone();
        nameless.enable_sni = false;
        let (named, nameless) = (Arc::new(named), Arc::new(nameless));
        let (auto_host_sni, local) = (context.auto_host_sni, own.map(|own| Arc::clone(&own.info)));
        Ok(ClientContext { named, nameless, sni, auto_host_sni, verifier, has_anchors, local })
    }

    /// Does a handshake over `stream`; it counts in `stats`.
    ///
    /// # Errors
    /// It failed, or the server is not who it must be.
    pub async fn connect(
        &self,
        stream: Stream,
        names: ServerNames<'_>,
        stats: &TlsStats,
    ) -> Result<(Stream, TlsInfo), HandshakeError> {
        let connected = self.handshake(stream, names, stats).await;
        if let Err(error) = &connected {
            error.count(stats);
        }
        connected
    }

    async fn handshake(
        &self,
        stream: Stream,
        names: ServerNames<'_>,
        stats: &TlsStats,
    ) -> Result<(Stream, TlsInfo), HandshakeError> {
        let begin = Instant::now();
        let name = self.name(names);
        let config = if name.is_some() { &self.named } else { &self.nameless };
        let name = name.unwrap_or_else(nameless);
        let connector = TlsConnector::from(Arc::clone(config));
        let connecting = match (self.named.alpn_protocols.is_empty(), names.alpn) {
            _ if !names.instead.is_empty() => {
                let alpn = names.instead.to_vec();
                connector.with_alpn(alpn).connect(name.clone(), stream).await
            }
            (true, [_, ..]) => {
                let alpn = names.alpn.iter().map(|protocol| protocol.to_vec()).collect();
                connector.with_alpn(alpn).connect(name.clone(), stream).await
            }
            _ => connector.connect(name.clone(), stream).await,
        };
        let tls = connecting.map_err(|error| HandshakeError::new(&error))?;
        let session = tls.get_ref().1;
        let chain = session.peer_certificates().unwrap_or_default();
        let resumed = session::is_resumed(session);
        if resumed {
            let checked = self.verifier.check(chain, &name, UnixTime::now());
            checked.map_err(|failure| HandshakeError::refused(&failure))?;
        }
        if let (Some(wanted), Some(leaf), true) = (names.san, chain.first(), self.has_anchors) {
            check_name(leaf, wanted).map_err(|failure| HandshakeError::refused(&failure))?;
        }
        let info = session::info(session, self.local.clone(), begin.elapsed());
        stats.done(&info, resumed);
        let tls = Tls::new(tls, Arc::clone(&info.fault));
        Ok((Stream::Tls(Box::new(tls)), info))
    }

    /// The name to send: the request's, the host's own or the configured one.
    fn name(&self, names: ServerNames<'_>) -> Option<ServerName<'static>> {
        let valid = |name: Option<&str>| server_name(name?).ok()?;
        valid(names.sni)
            .or_else(|| valid(names.hostname.filter(|_| self.auto_host_sni)))
            .or_else(|| self.sni.clone())
    }
}

/// A name for SNI; none for an empty one.
fn server_name(name: &str) -> Result<Option<ServerName<'static>>, ()> {
    if name.is_empty() {
        return Ok(None);
    }
    ServerName::try_from(name.to_owned()).map(Some).map_err(|_| ())
}

fn nameless() -> ServerName<'static> {
    ServerName::try_from(NAMELESS).expect("the constant is a host name")
}
