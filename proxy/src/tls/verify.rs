//! Whether a peer is who it must be: one verifier for the certificates of clients and of servers.
//!
//! Envoy's order: the chain, then the names, then the digests. A chain is built by webpki, within its budgets.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::DistinguishedName;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::config::tls::{SanMatcher, ValidationContext};
use crate::config::{At, ConfigError};
use crate::tls::certificate::Parsed;

mod adapter;
mod chain;
mod failure;
mod names;
mod spiffe;

pub use adapter::{ClientVerifier, ServerVerifier};
pub use failure::{Failure, Rule};
pub use names::{check_name, dns_matches};

use chain::Chain;
use spiffe::TrustDomains;

/// Which end of the connection the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It connected to us.
    Client,
    /// We connected to it.
    Server,
}

/// What a `CertificateValidationContext` asks of peers.
#[derive(Debug)]
pub struct Verifier {
    trust: Trust,
    names: Vec<SanMatcher>,
    certificate_hashes: Vec<[u8; 32]>,
    spki_hashes: Vec<[u8; 32]>,
    accept_untrusted: bool,
}

/// Whose signatures count.
#[derive(Debug)]
enum Trust {
    /// Chains are not looked at.
    Anyones,
    /// Those of a CA bundle.
    Anchors(Box<Chain>),
    /// Those of the trust domain that the peer says it is of.
    Domains(TrustDomains),
}

impl Verifier {
    /// A verifier for a context that is complete: `at` is where it stands.
    ///
    /// # Errors
    /// A CA, bundle or revocation list that cannot be read, or names without anybody to trust.
    pub fn new(context: &ValidationContext, at: &At<'_>) -> Result<Verifier, ConfigError> {
        context.check_complete(at)?;
        let trust = match (&context.spiffe, &context.trusted_ca_pem) {
            (Some(domains), _) => Trust::Domains(TrustDomains::new(domains, context, at)?),
            (None, Some(ca)) => {
                let ca_at = at.field("trusted_ca");
                Trust::Anchors(Box::new(Chain::new(ca, context, &ca_at, &at.field("crl"))?))
            }
            (None, None) => Trust::Anyones,
        };
        Ok(Verifier {
            trust,
            names: context.subject_alt_names.clone(),
            certificate_hashes: context.certificate_hashes.clone(),
            spki_hashes: context.spki_hashes.clone(),
            accept_untrusted: context.accept_untrusted,
        })
    }

    /// Whether a client is asked for its certificate.
    pub fn asks_clients(&self) -> bool {
        self.verifies() || self.accept_untrusted
    }

    /// Whether a client has to have a certificate, though the context does not require one: its name or digest is asked.
    pub fn needs_certificate(&self) -> bool {
        (!self.names.is_empty() || self.asks_digest()) && !self.accept_untrusted
    }

    /// Whether a certificate that passes is known to be good, and not just let through.
    pub fn verifies(&self) -> bool {
        !matches!(self.trust, Trust::Anyones) || self.asks_digest()
    }

    /// Whether chains are built to a trust anchor.
    pub fn has_anchors(&self) -> bool {
        !matches!(self.trust, Trust::Anyones)
    }

    /// `ACCEPT_UNTRUSTED`: handshakes do not fail for what [`Verifier::verify`] finds.
    pub fn accepts_untrusted(&self) -> bool {
        self.accept_untrusted
    }

    /// The subjects of the trust anchors, as a hint for clients which certificate to present.
    pub fn hints(&self) -> Vec<DistinguishedName> {
        match &self.trust {
            Trust::Anyones => Vec::new(),
            Trust::Anchors(chain) => chain.subjects().collect(),
            Trust::Domains(domains) => domains.subjects(),
        }
    }

    /// Leaves out the names: another rule stands in their place.
    #[must_use]
    pub fn without_names(self) -> Verifier {
        Verifier { names: Vec::new(), ..self }
    }

    /// Verifies a peer's chain, leaf first, at a time.
    ///
    /// # Errors
    /// The first rule that it breaks. `ACCEPT_UNTRUSTED` is for the caller to heed.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        peer: Peer,
        now: UnixTime,
    ) -> Result<(), Failure> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(Failure::new(Rule::Chain, "there is no certificate"));
        };
        let parsed = Parsed::new(leaf)
            .ok_or_else(|| Failure::new(Rule::Chain, "the leaf is no X.509 certificate"))?;
        let built = match &self.trust {
            Trust::Anyones => Ok(()),
            Trust::Anchors(chain) => chain.verify(&parsed, intermediates, peer, now),
            Trust::Domains(domains) => domains.verify(&parsed, intermediates, peer, now),
        };
        built.map_err(|why| {
            let why = format!("X509_verify_cert: certificate verification error: {why}");
            Failure::new(Rule::Chain, why).of(&parsed)
        })?;
        if !self.names.is_empty() && !names::any_matches(&self.names, parsed.names()) {
            let mut why = "SAN matcher: expected ".to_owned();
            names::describe(&self.names, &mut why);
            return Err(Failure::new(Rule::Names, why).of(&parsed));
        }
        self.verify_digest(&parsed)
    }

    fn asks_digest(&self) -> bool {
        !self.certificate_hashes.is_empty() || !self.spki_hashes.is_empty()
    }

    fn verify_digest(&self, leaf: &Parsed<'_>) -> Result<(), Failure> {
        if !self.asks_digest() {
            return Ok(());
        }
        let has = |list: &[[u8; 32]], bytes: &[u8]| {
            let digest = digest(&SHA256, bytes);
            list.iter().any(|wanted| wanted == digest.as_ref())
        };
        if has(&self.certificate_hashes, leaf.der()) || has(&self.spki_hashes, leaf.spki()) {
            return Ok(());
        }
        let mut why = "cert hash and spki: the leaf has the digest ".to_owned();
        for byte in digest(&SHA256, leaf.der()).as_ref() {
            // Writing to a text cannot fail.
            let _ = write!(why, "{byte:02x}");
        }
        Err(Failure::new(Rule::Digest, why).of(leaf))
    }
}

#[cfg(test)]
mod tests;
