//! The server side of TLS.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::config::tls::{CommonTls, DownstreamTls};
use crate::config::{At, ConfigError};
use crate::tls::pem;
use crate::tls::secret::Resolved;

/// Makes a `DownstreamTlsContext` ready.
///
/// # Errors
/// A certificate, key or CA that cannot be used, or a part that is not supported.
pub(super) fn build(
    context: &DownstreamTls,
    secrets: &Resolved,
    at: &At<'_>,
) -> Result<ServerConfig, ConfigError> {
    let at = at.field("common_tls_context");
    let certificates = at.index("tls_certificates", 0);
    let certificate = secrets.certificates.first();
    let certificate = certificate.ok_or_else(|| at.error("a server needs a certificate"))?;
    let (chain, key) = pem::identity(certificate, &certificates)?;
    let builder = ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&versions(&context.common))
        .map_err(|error| at.field("tls_params").error(error))?;
    let builder = match client_verifier(context, secrets, &at)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| certificates.error(format!("cannot be used: {error}")))?;
    config.alpn_protocols.clone_from(&context.common.alpn);
    Ok(config)
}

/// How clients are verified; none if the context says nothing about it.
fn client_verifier(
    context: &DownstreamTls,
    secrets: &Resolved,
    at: &At<'_>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, ConfigError> {
    let at = at.field("validation_context");
    let Some(validation) = &secrets.validation else {
        return match context.require_client_certificate {
            true => Err(at.error("require_client_certificate needs a trusted_ca")),
            false => Ok(None),
        };
    };
    if !validation.is_chain_only() {
        return Err(at.unsupported());
    }
    let Some(ca) = &validation.trusted_ca_pem else { return Ok(None) };
    let anchors = Arc::new(pem::anchors(ca, &at.field("trusted_ca"))?);
    let builder = WebPkiClientVerifier::builder_with_provider(anchors, super::provider());
    let builder = match context.require_client_certificate {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    builder.build().map(Some).map_err(|error| at.field("trusted_ca").error(error))
}

/// The protocol versions that a context allows.
pub(super) fn versions(common: &CommonTls) -> Vec<&'static rustls::SupportedProtocolVersion> {
    let both = [
        (common.allow_tls13, &rustls::version::TLS13),
        (common.allow_tls12, &rustls::version::TLS12),
    ];
    both.into_iter().filter(|(allowed, _)| *allowed).map(|(_, version)| version).collect()
}
