//! The server side of TLS.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use crate::config::tls::{CommonTls, DownstreamTls, SecretRef};
use crate::config::{At, ConfigError};
use crate::tls::pem;

/// Makes acceptors from `DownstreamTlsContext`s.
#[derive(Clone)]
pub struct ServerContexts {
    provider: Arc<CryptoProvider>,
}

impl Default for ServerContexts {
    fn default() -> Self {
        ServerContexts { provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()) }
    }
}

impl ServerContexts {
    /// An acceptor for a context.
    ///
    /// # Errors
    /// A certificate, key or CA that cannot be used, or a part that is not supported.
    pub fn acceptor(
        &self,
        context: &DownstreamTls,
        at: &At<'_>,
    ) -> Result<TlsAcceptor, ConfigError> {
        let at = at.field("common_tls_context");
        let common = &context.common;
        let certificates = at.index("tls_certificates", 0);
        let certificate = match common.certificates.first() {
            Some(SecretRef::Inline(certificate)) => certificate,
            Some(SecretRef::Sds { .. }) => {
                return Err(at.field("tls_certificate_sds_secret_configs").unsupported());
            }
            None => return Err(at.error("a server needs a certificate")),
        };
        let (chain, key) = pem::identity(certificate, &certificates)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&versions(common))
            .map_err(|error| at.field("tls_params").error(error))?;
        let builder = match self.client_verifier(context, &at)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| certificates.error(format!("cannot be used: {error}")))?;
        config.alpn_protocols.clone_from(&common.alpn);
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// How clients are verified; none if the context says nothing about it.
    fn client_verifier(
        &self,
        context: &DownstreamTls,
        at: &At<'_>,
    ) -> Result<Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>, ConfigError> {
        let at = at.field("validation_context");
        let Some(validation) = &context.common.validation else {
            return match context.require_client_certificate {
                true => Err(at.error("require_client_certificate needs a trusted_ca")),
                false => Ok(None),
            };
        };
        if validation.sds.is_some() || !validation.context.is_chain_only() {
            return Err(at.unsupported());
        }
        let Some(ca) = &validation.context.trusted_ca_pem else { return Ok(None) };
        let anchors = Arc::new(pem::anchors(ca, &at.field("trusted_ca"))?);
        let builder =
            WebPkiClientVerifier::builder_with_provider(anchors, Arc::clone(&self.provider));
        let builder = match context.require_client_certificate {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        builder.build().map(Some).map_err(|error| at.field("trusted_ca").error(error))
    }
}

/// The protocol versions that a context allows.
pub fn versions(common: &CommonTls) -> Vec<&'static rustls::SupportedProtocolVersion> {
    let both = [
        (common.allow_tls13, &rustls::version::TLS13),
        (common.allow_tls12, &rustls::version::TLS12),
    ];
    both.into_iter().filter(|(allowed, _)| *allowed).map(|(_, version)| version).collect()
}
