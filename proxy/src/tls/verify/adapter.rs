//! The verifier as rustls asks for it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};

use super::{Peer, Verifier, check_name};

/// Verifies clients.
#[derive(Debug)]
pub struct ClientVerifier {
    verifier: Arc<Verifier>,
    mandatory: bool,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    /// Verifies clients by `verifier`; `required` is `require_client_certificate`.
    pub fn new(verifier: Arc<Verifier>, required: bool) -> Self {
        ClientVerifier {
            mandatory: required || verifier.needs_certificate(),
            hints: verifier.hints(),
            verifier,
            algorithms: default_provider().signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if !self.verifier.accepts_untrusted() {
            self.verifier.verify(&chain(leaf, intermediates), Peer::Client, now)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Verifies servers.
#[derive(Debug)]
pub struct ServerVerifier {
    verifier: Arc<Verifier>,
    by_sni: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    /// Verifies servers by `verifier`; with `by_sni` their certificate must also be for the name that was sent.
    pub fn new(verifier: Arc<Verifier>, by_sni: bool) -> Self {
        let algorithms = default_provider().signature_verification_algorithms;
        ServerVerifier { verifier, by_sni, algorithms }
    }

    /// Verifies a chain, leaf first, of a server that was asked for as `name`.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn check(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), super::Failure> {
        let verified = self.verifier.verify(chain, Peer::Server, now).and_then(|()| {
            match chain.first().filter(|_| self.by_sni) {
                Some(leaf) => check_name(leaf, &name.to_str()),
                None => Ok(()),
            }
        });
        match self.verifier.accepts_untrusted() {
            true => Ok(()),
            false => verified,
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(&chain(leaf, intermediates), name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The chain in one piece, without copying its certificates.
fn chain<'a>(
    leaf: &'a CertificateDer<'_>,
    intermediates: &'a [CertificateDer<'_>],
) -> Vec<CertificateDer<'a>> {
    let all = std::iter::once(leaf).chain(intermediates);
    all.map(|certificate| CertificateDer::from(certificate.as_ref())).collect()
}
