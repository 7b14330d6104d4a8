//! Certificates and keys out of PEM.

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::tls::Certificate;
use crate::config::{At, ConfigError};

/// A certificate chain with its key.
///
/// # Errors
/// What is missing or malformed; never any part of the key.
pub fn identity(
    certificate: &Certificate,
    at: &At<'_>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
    let chain_at = at.field("certificate_chain");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate.chain_pem).collect();
    let chain = chain.map_err(|error| chain_at.error(format!("is not valid PEM: {error}")))?;
    if chain.is_empty() {
        return Err(chain_at.error("holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(&certificate.key_pem)
        .map_err(|_| at.field("private_key").error("holds no private key in PEM"))?;
    Ok((chain, key))
}

/// The trust anchors of a CA bundle.
///
/// # Errors
/// The bundle is malformed or empty.
pub fn anchors(pem: &[u8], at: &At<'_>) -> Result<RootCertStore, ConfigError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|error| at.error(format!("is not valid PEM: {error}")))?;
        store.add(certificate).map_err(|error| at.error(format!("holds a bad CA: {error}")))?;
    }
    match store.is_empty() {
        true => Err(at.error("holds no certificate")),
        false => Ok(store),
    }
}
