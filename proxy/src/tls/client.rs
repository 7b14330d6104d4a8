//! The client side of TLS.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::config::tls::UpstreamTls;
use crate::config::{At, ConfigError};
use crate::tls::pem;
use crate::tls::secret::Resolved;
use crate::tls::server::versions;

/// What a client needs for a handshake.
#[derive(Clone, Debug)]
pub struct Client {
    /// The context, with its ALPN protocols.
    pub config: Arc<ClientConfig>,
    /// The name that is sent as SNI and, if the context verifies names, verified.
    pub server_name: ServerName<'static>,
    /// `auto_host_sni`: the host's hostname stands in for `server_name` when it has one.
    pub auto_host_sni: bool,
}

/// Makes a cluster's `UpstreamTlsContext` ready.
///
/// # Errors
/// A certificate, key or CA that cannot be used, or a part that is not supported.
pub(super) fn build(
    context: &UpstreamTls,
    secrets: &Resolved,
    at: &At<'_>,
) -> Result<Client, ConfigError> {
    let server_name = match &*context.sni {
        // Not sent, and the verifier does not look at it.
        "" => ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()),
        sni => ServerName::try_from(sni.to_owned())
            .map_err(|_| at.field("sni").error(format_args!("{sni:?} is no host name")))?,
    };
    let at = at.field("common_tls_context");
    let provider = super::provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(&context.common))
        .map_err(|error| at.field("tls_params").error(error))?;
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier(context, secrets, &provider, &at)?);
    let certificates = at.index("tls_certificates", 0);
    let mut config = match secrets.certificates.first() {
        None => builder.with_no_client_auth(),
        Some(certificate) => {
            let (chain, key) = pem::identity(certificate, &certificates)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| certificates.error(format!("cannot be used: {error}")))?
        }
    };
    config.alpn_protocols.clone_from(&context.common.alpn);
    config.enable_sni = !context.sni.is_empty() || context.auto_host_sni;
    Ok(Client { config: Arc::new(config), server_name, auto_host_sni: context.auto_host_sni })
}

fn verifier(
    context: &UpstreamTls,
    secrets: &Resolved,
    provider: &Arc<CryptoProvider>,
    at: &At<'_>,
) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
    let at = at.field("validation_context");
    let validation = secrets.validation.as_ref();
    if validation.is_some_and(|validation| !validation.is_chain_only())
        || context.auto_sni_san_validation
    {
        return Err(at.unsupported());
    }
    let algorithms = provider.signature_verification_algorithms;
    match validation.and_then(|validation| validation.trusted_ca_pem.as_ref()) {
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
