//! A chain to a trust anchor: built by webpki, with what Envoy asks beyond it.

use rustls::DistinguishedName;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, SignatureVerificationAlgorithm, TrustAnchor,
    UnixTime,
};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage,
    RevocationCheckDepth, RevocationOptionsBuilder, VerifiedPath,
};

use super::Peer;
use crate::config::tls::ValidationContext;
use crate::config::{At, ConfigError};
use crate::tls::certificate::{Parsed, Validity};

/// How often another moment is tried for certificates that need not be valid now.
const MOMENTS: usize = 8;

/// Trust anchors, and the conditions under which a chain to them counts.
#[derive(Debug)]
pub(super) struct Chain {
    anchors: Vec<TrustAnchor<'static>>,
    /// The anchors' certificates in the same order. A peer that presents one of them is trusted as such.
    certificates: Vec<CertificateDer<'static>>,
    validity: Vec<Validity>,
    crls: Vec<CertRevocationList<'static>>,
    crl_depth: RevocationCheckDepth,
    allow_expired: bool,
    max_depth: Option<u32>,
    algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
}

impl Chain {
    /// The anchors of a bundle in PEM, which stands at `at`, with the context's conditions.
    ///
    /// # Errors
    /// The bundle is empty or holds something that is no certificate; the revocation lists cannot be read.
    pub fn new(
        bundle: &[u8],
        context: &ValidationContext,
        at: &At<'_>,
        crl_at: &At<'_>,
    ) -> Result<Chain, ConfigError> {
        let mut chain = Chain {
            anchors: Vec::new(),
            certificates: Vec::new(),
            validity: Vec::new(),
            crls: Vec::new(),
            crl_depth: match context.crl_of_leaf_only {
                true => RevocationCheckDepth::EndEntity,
                false => RevocationCheckDepth::Chain,
            },
            allow_expired: context.allow_expired,
            max_depth: context.max_verify_depth,
            algorithms: default_provider().signature_verification_algorithms.all,
        };
        for certificate in CertificateDer::pem_slice_iter(bundle) {
            let certificate =
                certificate.map_err(|error| at.error(format_args!("is not valid PEM: {error}")))?;
            chain.add(certificate, at)?;
        }
        if chain.anchors.is_empty() {
            return Err(at.error("holds no certificate"));
        }
        chain.read_crls(bundle, at)?;
        if let Some(crl) = &context.crl_pem {
            chain.read_crls(crl, crl_at)?;
            if chain.crls.is_empty() {
                return Err(crl_at.error("holds no revocation list"));
            }
        }
        Ok(chain)
    }

    fn add(
        &mut self,
        certificate: CertificateDer<'static>,
        at: &At<'_>,
    ) -> Result<(), ConfigError> {
        let bad = || at.error("holds something that is no X.509 certificate");
        self.validity.push(Parsed::new(&certificate).ok_or_else(bad)?.validity());
        let anchor = webpki::anchor_from_trusted_cert(&certificate)
            .map_err(|error| at.error(format_args!("holds a CA that cannot be used: {error}")))?
            .to_owned();
        self.anchors.push(anchor);
        self.certificates.push(certificate);
        Ok(())
    }

    fn read_crls(&mut self, pem: &[u8], at: &At<'_>) -> Result<(), ConfigError> {
        let bad = |error: &dyn std::fmt::Display| {
            at.error(format_args!("holds a revocation list that cannot be used: {error}"))
        };
        for list in CertificateRevocationListDer::pem_slice_iter(pem) {
            let list = list.map_err(|error| bad(&error))?;
            let list = BorrowedCertRevocationList::from_der(&list).map_err(|error| bad(&error))?;
            let list = list.to_owned().map_err(|error| bad(&error))?;
            self.crls.push(CertRevocationList::Owned(list));
        }
        Ok(())
    }

    /// The anchors' subjects.
    pub fn subjects(&self) -> impl Iterator<Item = DistinguishedName> + '_ {
        // An anchor has its name without the outermost tag, which a distinguished name on the wire has.
        self.anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject))
    }

    /// Whether the leaf's chain leads to an anchor.
    ///
    /// # Errors
    /// Why not, in OpenSSL's words where it has some.
    pub fn verify(
        &self,
        leaf: &Parsed<'_>,
        intermediates: &[CertificateDer<'_>],
        peer: Peer,
        now: UnixTime,
    ) -> Result<(), String> {
        if self.crls.is_empty() && self.certificates.iter().any(|known| **known == *leaf.der()) {
            return self.verify_known(leaf, peer, now);
        }
        let mut time = now;
        for _ in 0..MOMENTS {
            time = match self.build(leaf, intermediates, peer, time) {
                Ok(()) => return Ok(()),
                Err(webpki::Error::CertExpired { not_after, .. }) if self.allow_expired => {
                    not_after
                }
                Err(webpki::Error::CertNotValidYet { not_before, .. }) if self.allow_expired => {
                    not_before
                }
                Err(error) => return Err(explain(&error)),
            };
        }
        Err("its certificates were never valid at the same time".into())
    }

    /// A certificate that is itself in the bundle needs no chain.
    fn verify_known(&self, leaf: &Parsed<'_>, peer: Peer, now: UnixTime) -> Result<(), String> {
        if !leaf.may_be(peer) {
            return Err("unsupported certificate purpose".into());
        }
        match leaf.validity().check(now) {
            Err(error) if !self.allow_expired => Err(explain(&error)),
            _ => Ok(()),
        }
    }

    fn build(
        &self,
        leaf: &Parsed<'_>,
        intermediates: &[CertificateDer<'_>],
        peer: Peer,
        time: UnixTime,
    ) -> Result<(), webpki::Error> {
        let der = CertificateDer::from(leaf.der());
        let end_entity = EndEntityCert::try_from(&der)?;
        let usage = match peer {
            Peer::Client => KeyUsage::client_auth(),
            Peer::Server => KeyUsage::server_auth(),
        };
        let crls: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|options| {
            options
                .with_depth(self.crl_depth)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let accepts = |path: &VerifiedPath<'_>| self.accepts(path, time);
        end_entity
            .verify_for_usage(
                self.algorithms,
                &self.anchors,
                intermediates,
                time,
                usage,
                revocation,
                Some(&accepts),
            )
            .map(|_| ())
    }

    /// What webpki leaves out: it takes anchors to be valid for ever, and has a limit of its own on the length.
    fn accepts(&self, path: &VerifiedPath<'_>, time: UnixTime) -> Result<(), webpki::Error> {
        let between = path.intermediate_certificates().count();
        // The trust anchor counts, unless it has signed the leaf itself.
        if self.max_depth.is_some_and(|max| between > max.saturating_sub(1) as usize) {
            return Err(webpki::Error::MaximumPathDepthExceeded);
        }
        let is_used = |anchor: &TrustAnchor<'_>| {
            anchor.subject == path.anchor().subject
                && anchor.subject_public_key_info == path.anchor().subject_public_key_info
        };
        // The same key may be there twice, in certificates of different age.
        let mut outcome = Err(webpki::Error::UnknownIssuer);
        for (anchor, validity) in self.anchors.iter().zip(&self.validity) {
            if is_used(anchor) && outcome.is_err() {
                outcome = validity.check(time);
            }
        }
        outcome
    }
}

/// OpenSSL's words for what webpki finds, so that who knows Envoy's logs finds them again.
fn explain(error: &webpki::Error) -> String {
    use webpki::Error;
    match error {
        Error::CertExpired { .. } => "certificate has expired".into(),
        Error::CertNotValidYet { .. } => "certificate is not yet valid".into(),
        Error::UnknownIssuer => "unable to get local issuer certificate".into(),
        Error::CertRevoked => "certificate revoked".into(),
        Error::UnknownRevocationStatus => "unable to get certificate CRL".into(),
        Error::CrlExpired { .. } => "CRL has expired".into(),
        Error::InvalidSignatureForPublicKey => "certificate signature failure".into(),
        Error::MaximumPathDepthExceeded => "certificate chain too long".into(),
        Error::PathLenConstraintViolated => "path length constraint exceeded".into(),
        Error::EndEntityUsedAsCa => "invalid CA certificate".into(),
        Error::RequiredEkuNotFoundContext(_) => "unsupported certificate purpose".into(),
        Error::NameConstraintViolation => "permitted subtree violation".into(),
        other => other.to_string(),
    }
}
