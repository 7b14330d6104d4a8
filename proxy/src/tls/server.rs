//! The server side of TLS.

use std::sync::Arc;
use std::time::Instant;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ServerSessionMemoryCache};
use rustls::sign::SingleCertAndKey;
use tokio_rustls::LazyConfigAcceptor;

use crate::config::tls::DownstreamTls;
use crate::config::{At, ConfigError};
use crate::io::{Stream, Tls};
use crate::telemetry::stream_info::TlsInfo;
use crate::tls::failure::HandshakeError;
use crate::tls::identity::Identity;
use crate::tls::provider::{provider, versions};
use crate::tls::secret::Resolved;
use crate::tls::selection::{Asked, select};
use crate::tls::session;
use crate::tls::stats::TlsStats;
use crate::tls::tickets::SharedTickets;
use crate::tls::verify::{ClientVerifier, Peer, Verifier};

/// How many sessions are kept for clients that resume without tickets.
const SESSIONS: usize = 1024;

/// A `DownstreamTlsContext` with its secrets, ready to accept. What replaces it has keys for tickets of its own, so that
/// nobody resumes what was agreed under older rules, unless keys are configured: then sessions go on, and their certificates
/// are verified again by the rules of the day.
pub struct ServerContext {
    identities: Vec<Identity>,
    /// One for each identity.
    configs: Vec<Offer>,
    full_scan: bool,
    verifier: Option<Arc<Verifier>>,
}

/// The configuration for a certificate. rustls refuses clients that want none of our protocols, where Envoy goes on
/// without one: for them there is a second configuration.
struct Offer {
    with_alpn: Arc<ServerConfig>,
    without_alpn: Arc<ServerConfig>,
}

impl ServerContext {
    /// A context, which stands at `at`.
    ///
    /// # Errors
    /// A certificate, key or CA that cannot be used, or a part that is not supported.
    pub fn new(
        context: &DownstreamTls,
        secrets: &Resolved,
        at: &At<'_>,
    ) -> Result<ServerContext, ConfigError> {
        let at = at.field("common_tls_context");
        let common = &context.common;
        let crypto = provider(common);
        let identities = secrets.certificates.clone();
        if identities.is_empty() {
            return Err(at.error("a server needs a certificate"));
        }
        let verifier = verifier(context, secrets, &at)?;
        let builder = ServerConfig::builder_with_provider(crypto)
            .with_protocol_versions(&versions(common))
            .map_err(|error| at.field("tls_params").error(error))?;
        let builder = match &verifier {
            Some(verifier) => {
                let required = context.require_client_certificate;
                let verifier = ClientVerifier::new(Arc::clone(verifier), required);
                builder.with_client_cert_verifier(Arc::new(verifier))
            }
            None => builder.with_no_client_auth(),
        };
        let first = Arc::new(SingleCertAndKey::from(Arc::clone(&identities[0].key)));
        let mut config = builder.with_cert_resolver(first);
        config.ignore_client_order = !context.prefer_client_ciphers;
        resume(&mut config, context, secrets, &at)?;
        let configs = identities.iter().map(|own| Offer::new(&config, own, &common.alpn)).collect();
        let full_scan = context.full_scan_on_sni_mismatch;
        Ok(ServerContext { identities, configs, full_scan, verifier })
    }

    /// Does a handshake, which counts in `stats`. Dropping the future ends the connection.
    ///
    /// # Errors
    /// It failed.
    pub async fn accept(
        &self,
        stream: Stream,
        stats: &TlsStats,
    ) -> Result<(Stream, TlsInfo), HandshakeError> {
        let accepted = self.handshake(stream, stats).await;
        if let Err(error) = &accepted {
            error.count(stats);
        }
        accepted
    }

    async fn handshake(
        &self,
        stream: Stream,
        stats: &TlsStats,
    ) -> Result<(Stream, TlsInfo), HandshakeError> {
        let begin = Instant::now();
        let failed = |error| HandshakeError::new(&error);
        let started = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(failed)?;
        let (index, config) = self.choose(&started.client_hello());
        let tls = started.into_stream(Arc::clone(config)).await.map_err(failed)?;
        let session = tls.get_ref().1;
        let local = Arc::clone(&self.identities[index].info);
        let mut info = session::info(session, Some(local), begin.elapsed());
        let resumed = session::is_resumed(session);
        info.validated = self.validate(session.peer_certificates(), resumed, stats)?;
        stats.done(&info, resumed);
        let tls = Tls::new(tls, Arc::clone(&info.fault));
        Ok((Stream::Tls(Box::new(tls)), info))
    }

    /// The certificate for a client and the configuration that has it.
    fn choose(&self, hello: &ClientHello<'_>) -> (usize, &Arc<ServerConfig>) {
        let index = match self.identities.len() {
            1 => 0,
            _ => select(&self.identities, &Asked::new(hello), self.full_scan),
        };
        let Offer { with_alpn, without_alpn } = &self.configs[index];
        let ours = &with_alpn.alpn_protocols;
        let agrees = match hello.alpn() {
            Some(mut theirs) => theirs.any(|theirs| ours.iter().any(|ours| ours == theirs)),
            None => true,
        };
        (index, if agrees { with_alpn } else { without_alpn })
    }

    /// Whether the client's certificate is known to be good. The handshake has verified it, unless it belongs to an earlier
    /// session, or is let in whatever it is.
    fn validate(
        &self,
        chain: Option<&[CertificateDer<'_>]>,
        resumed: bool,
        stats: &TlsStats,
    ) -> Result<bool, HandshakeError> {
        let (Some(verifier), Some(chain)) = (&self.verifier, chain) else { return Ok(false) };
        if !resumed && !verifier.accepts_untrusted() {
            return Ok(verifier.verifies());
        }
        match verifier.verify(chain, Peer::Client, UnixTime::now()) {
            Ok(()) => Ok(verifier.verifies()),
            Err(failure) if verifier.accepts_untrusted() => {
                stats.refused(failure.rule);
                Ok(false)
            }
            Err(failure) => Err(HandshakeError::refused(&failure)),
        }
    }
}

impl Offer {
    fn new(config: &ServerConfig, own: &Identity, alpn: &[Vec<u8>]) -> Offer {
        let mut config = config.clone();
        config.cert_resolver = Arc::new(SingleCertAndKey::from(Arc::clone(&own.key)));
        let without_alpn = Arc::new(config.clone());
        if alpn.is_empty() {
            return Offer { with_alpn: Arc::clone(&without_alpn), without_alpn };
        }
        config.alpn_protocols = alpn.to_vec();
        Offer { with_alpn: Arc::new(config), without_alpn }
    }
}

/// How clients are verified; none if they are not asked for a certificate.
fn verifier(
    context: &DownstreamTls,
    secrets: &Resolved,
    at: &At<'_>,
) -> Result<Option<Arc<Verifier>>, ConfigError> {
    let at = at.field("validation_context");
    let verifier = secrets.validation.as_ref();
    let verifier = verifier.map(|validation| Verifier::new(validation, &at)).transpose()?;
    let verifier = verifier.filter(Verifier::asks_clients);
    if verifier.is_none() && context.require_client_certificate {
        return Err(at.error(
            "require_client_certificate needs something to verify certificates by: a trusted_ca",
        ));
    }
    Ok(verifier.map(Arc::new))
}

/// Lets clients resume sessions as the context says.
fn resume(
    config: &mut ServerConfig,
    context: &DownstreamTls,
    secrets: &Resolved,
    at: &At<'_>,
) -> Result<(), ConfigError> {
    config.session_storage = match context.stateful_resumption {
        true => ServerSessionMemoryCache::new(SESSIONS),
        false => Arc::new(NoServerSessionStorage {}),
    };
    if context.stateless_resumption {
        let unusable = |error: &dyn std::fmt::Display| {
            at.error(format!("cannot make keys for tickets: {error}"))
        };
        config.ticketer = match &secrets.ticket_keys {
            Some(keys) => Arc::new(SharedTickets::new(keys).map_err(|error| unusable(&error))?),
            None => Ticketer::new().map_err(|error| unusable(&error))?,
        };
    } else {
        // As in Envoy, TLS 1.3 resumes from tickets only.
        config.send_tls13_tickets = 0;
    }
    Ok(())
}
