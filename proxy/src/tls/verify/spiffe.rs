//! The SPIFFE validator: who may speak for an identity is decided by the identity's trust domain.

use std::sync::Arc;

use rustls::DistinguishedName;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::Peer;
use super::chain::Chain;
use crate::config::tls::{SanKind, TrustDomain, ValidationContext};
use crate::config::{At, ConfigError};
use crate::tls::certificate::Parsed;

/// Trust domains with their bundles.
#[derive(Debug)]
pub(super) struct TrustDomains(Vec<(Arc<str>, Chain)>);

impl TrustDomains {
    /// The bundles of a context that stands at `at`. Revocation lists and depths do not count here, as in Envoy.
    ///
    /// # Errors
    /// A bundle that cannot be read.
    pub fn new(
        domains: &[TrustDomain],
        context: &ValidationContext,
        at: &At<'_>,
    ) -> Result<TrustDomains, ConfigError> {
        let conditions =
            ValidationContext { allow_expired: context.allow_expired, ..Default::default() };
        let (at, crl) = (at.field("custom_validator_config"), at.field("crl"));
        let at = at.field("typed_config");
        let domain = |(i, domain): (usize, &TrustDomain)| {
            let at = at.index("trust_domains", i);
            let chain =
                Chain::new(&domain.bundle_pem, &conditions, &at.field("trust_bundle"), &crl)?;
            Ok((Arc::clone(&domain.name), chain))
        };
        domains.iter().enumerate().map(domain).collect::<Result<_, _>>().map(TrustDomains)
    }

    /// The subjects of every bundle.
    pub fn subjects(&self) -> Vec<DistinguishedName> {
        self.0.iter().flat_map(|(_, chain)| chain.subjects()).collect()
    }

    /// Whether the leaf is an X.509-SVID of a trust domain that is known.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(
        &self,
        leaf: &Parsed<'_>,
        intermediates: &[CertificateDer<'_>],
        peer: Peer,
        now: UnixTime,
    ) -> Result<(), String> {
        if leaf.is_ca() || !leaf.signs_only_handshakes() {
            return Err(
                "SPIFFE: the leaf is or may sign for a CA, or does not say its key's usage".into(),
            );
        }
        let [id] = leaf.names().of(SanKind::Uri) else {
            return Err("SPIFFE: the leaf must have exactly one URI name".into());
        };
        let name = trust_domain(id).ok_or("SPIFFE: the leaf's URI name is no SPIFFE ID")?;
        match self.0.iter().find(|(known, _)| **known == *name) {
            Some((_, chain)) => chain.verify(leaf, intermediates, peer, now),
            None => {
                let known: Vec<&str> = self.0.iter().map(|(name, _)| &**name).collect();
                Err(format!(
                    "SPIFFE: no trust bundle for trust domain {name:?}, only for {known:?}"
                ))
            }
        }
    }
}

/// The trust domain of a SPIFFE ID: what stands between `spiffe://` and the first slash after it.
fn trust_domain(id: &str) -> Option<&str> {
    let (domain, _path) = id.strip_prefix("spiffe://")?.split_once('/')?;
    (!domain.is_empty() && !id.contains('\0')).then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_domain_ends_at_the_first_slash() {
        assert_eq!(trust_domain("spiffe://a.b/ns/c"), Some("a.b"));
        assert_eq!(trust_domain("spiffe://a.b/"), Some("a.b"));
        for other in
            ["spiffe://a.b", "SPIFFE://a.b/c", "spiffe:///c", "https://a.b/c", "spiffe://a\0/c"]
        {
            assert_eq!(trust_domain(other), None, "{other:?}");
        }
    }
}
