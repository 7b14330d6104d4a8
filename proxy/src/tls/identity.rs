//! Our own certificates, ready to be presented.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::tls::{Certificate, SanKind};
use crate::config::{At, ConfigError};
use crate::telemetry::stream_info::CertificateInfo;
use crate::tls::certificate::Parsed;

/// A certificate chain with its key.
#[derive(Clone)]
pub struct Identity {
    /// What rustls presents.
    pub key: Arc<CertifiedKey>,
    /// What the certificate says.
    pub info: Arc<CertificateInfo>,
    /// The host names that it is for, in lower case; a wildcard starts with `*.`.
    pub names: Vec<Box<str>>,
    /// Whether its key is one for ECDSA, not for RSA.
    pub is_ecdsa: bool,
}

impl Identity {
    /// Reads a certificate that stands at `at`.
    ///
    /// # Errors
    /// What is missing, malformed or does not belong together; never any part of the key.
    pub fn new(certificate: &Certificate, at: &At<'_>) -> Result<Identity, ConfigError> {
        let chain_at = at.field("certificate_chain");
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&certificate.chain_pem).collect();
        let chain = chain.map_err(|error| chain_at.error(format!("is not valid PEM: {error}")))?;
        let leaf = chain.first().ok_or_else(|| chain_at.error("holds no certificate"))?;
        let parsed = Parsed::new(leaf)
            .ok_or_else(|| chain_at.error("holds something that is no X.509 certificate"))?;
        let (info, names) = (Arc::new(parsed.info()), host_names(&parsed));
        let key = PrivateKeyDer::from_pem_slice(&certificate.key_pem)
            .map_err(|_| at.field("private_key").error("holds no private key in PEM"))?;
        let mut key = CertifiedKey::from_der(chain, key, &default_provider())
            .map_err(|error| at.error(format!("cannot be used: {error}")))?;
        key.ocsp = certificate.ocsp_staple.clone();
        let is_ecdsa = key.key.algorithm() == SignatureAlgorithm::ECDSA;
        Ok(Identity { key: Arc::new(key), info, names, is_ecdsa })
    }

    /// Whether a client that knows these signatures can check this one's.
    pub fn suits(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }
}

/// The DNS names of a certificate; its common names if it has none.
fn host_names(certificate: &Parsed<'_>) -> Vec<Box<str>> {
    let names = certificate.names().of(SanKind::Dns);
    if names.is_empty() {
        return certificate.common_names().map(|name| name.to_ascii_lowercase().into()).collect();
    }
    names.iter().map(|name| name.to_ascii_lowercase().into()).collect()
}
