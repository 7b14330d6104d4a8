//! Why a peer's certificate was refused.

use std::fmt;
use std::sync::Arc;

use rustls::{CertificateError, OtherError};

use crate::tls::certificate::Parsed;

/// The kind of rule that a certificate breaks; each has a statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `fail_verify_error`: its chain leads to no trust anchor, is over, revoked, or made for something else.
    Chain,
    /// `fail_verify_san`: none of its names is expected.
    Names,
    /// `fail_verify_cert_hash`: neither it nor its key is among the expected ones.
    Digest,
}

/// A certificate that was refused: the rule, what was expected, and which names were presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of rule.
    pub rule: Rule,
    why: String,
    presented: String,
}

impl Failure {
    /// A failure of an unknown peer; `why` says rule and expectation.
    pub(super) fn new(rule: Rule, why: impl Into<String>) -> Self {
        Failure { rule, why: why.into(), presented: String::new() }
    }

    /// Adds who the peer says it is.
    pub(super) fn of(self, leaf: &Parsed<'_>) -> Self {
        Failure { presented: leaf.describe(), ..self }
    }

    /// The failure that rustls carries, if it is one of a verifier's.
    pub fn find(error: &rustls::Error) -> Option<&Failure> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(error))) => {
                error.downcast_ref()
            }
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "verify cert failed: {}", self.why)?;
        if !self.presented.is_empty() {
            write!(f, "; the peer presents {}", self.presented)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for rustls::Error {
    fn from(failure: Failure) -> Self {
        CertificateError::Other(OtherError(Arc::new(failure))).into()
    }
}
