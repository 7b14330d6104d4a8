//! Who is who in a mesh of two: certificates of one authority.

use std::sync::Arc;

use control_plane_mock::{ControlPlane, Svid};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::Result;

/// Two certificates and whom both sides trust.
pub struct Identities {
    /// The authority's certificate in PEM.
    pub authority: String,
    /// Of the proxy beside the client.
    pub client: Svid,
    /// Of the proxy beside the server.
    pub server: Svid,
}

impl Identities {
    /// New ones.
    pub fn new() -> Result<Identities> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Identities::of(&runtime.block_on(ControlPlane::start_default())?)
    }

    /// New ones of a control plane's authority.
    pub fn of(issuer: &ControlPlane) -> Result<Identities> {
        Ok(Identities {
            authority: issuer.trust_bundle(),
            client: issuer.issue_svid("spiffe://cluster.local/client")?,
            server: issuer.issue_svid("spiffe://cluster.local/server")?,
        })
    }

    /// A client that shows the client's certificate.
    pub fn client_config(&self) -> Result<rustls::ClientConfig> {
        let chain = CertificateDer::pem_slice_iter(self.client.certificate_chain.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.client.private_key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let anyone = Arc::new(Anyone(Arc::clone(&provider)));
        Ok(rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(anyone)
            .with_client_auth_cert(chain.collect::<Result<_, _>>()?, key)?)
    }
}

/// Takes any server for the right one: the load generator's part costs as little as it can.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
