//! The client side of TLS.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::config::tls::{SecretRef, UpstreamTls};
use crate::config::{At, ConfigError};
use crate::tls::pem;
use crate::tls::server::versions;

/// The rustls configuration for a cluster's `UpstreamTlsContext`.
///
/// # Errors
/// A certificate, key or CA that cannot be used, or a part that is not supported.
pub fn client_config(context: &UpstreamTls, at: &At<'_>) -> Result<Arc<ClientConfig>, ConfigError> {
    let at = at.field("common_tls_context");
    let common = &context.common;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(common))
        .map_err(|error| at.field("tls_params").error(error))?;
    let builder =
        builder.dangerous().with_custom_certificate_verifier(verifier(context, &provider, &at)?);
    let certificates = at.index("tls_certificates", 0);
    let mut config = match common.certificates.first() {
        None => builder.with_no_client_auth(),
        Some(SecretRef::Sds { .. }) => {
            return Err(at.field("tls_certificate_sds_secret_configs").unsupported());
        }
        Some(SecretRef::Inline(certificate)) => {
            let (chain, key) = pem::identity(certificate, &certificates)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| certificates.error(format!("cannot be used: {error}")))?
        }
    };
    config.alpn_protocols.clone_from(&common.alpn);
    config.enable_sni = !context.sni.is_empty() || context.auto_host_sni;
    Ok(Arc::new(config))
}

fn verifier(
    context: &UpstreamTls,
    provider: &Arc<CryptoProvider>,
    at: &At<'_>,
) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
    let at = at.field("validation_context");
    let validation = context.common.validation.as_ref();
    if validation.is_some_and(|v| v.sds.is_some() || !v.context.is_chain_only())
        || context.auto_sni_san_validation
    {
        return Err(at.unsupported());
    }
    let algorithms = provider.signature_verification_algorithms;
    match validation.and_then(|validation| validation.context.trusted_ca_pem.as_ref()) {
        // As in Envoy: without a CA the chain is not verified. Only the handshake's signature is.
        None => Ok(Arc::new(ChainVerifier { anchors: None, algorithms })),
        Some(ca) => {
            let anchors = pem::anchors(ca, &at.field("trusted_ca"))?;
            Ok(Arc::new(ChainVerifier { anchors: Some(anchors), algorithms }))
        }
    }
}

/// Verifies a server's chain against the trust anchors. The server's name is not compared: Envoy compares only what
/// `match_typed_subject_alt_names` asks for.
#[derive(Debug)]
struct ChainVerifier {
    anchors: Option<rustls::RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(anchors) = &self.anchors {
            let certificate = rustls::server::ParsedCertificate::try_from(end_entity)?;
            rustls::client::verify_server_cert_signed_by_trust_anchor(
                &certificate,
                anchors,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
