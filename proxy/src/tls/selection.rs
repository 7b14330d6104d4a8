//! Which of a server's certificates a client gets: by the name that it asks for and the signatures that it knows.

use rustls::server::ClientHello;
use rustls::{CipherSuite, SignatureScheme};

use super::identity::Identity;

/// What a client says that the choice depends on.
pub(super) struct Asked<'a> {
    name: Option<String>,
    schemes: &'a [SignatureScheme],
    takes_ecdsa: bool,
}

impl<'a> Asked<'a> {
    /// Reads a hello.
    pub fn new(hello: &'a ClientHello<'_>) -> Asked<'a> {
        let schemes = hello.signature_schemes();
        let is_ecdsa = |scheme: &SignatureScheme| {
            matches!(
                scheme,
                SignatureScheme::ECDSA_NISTP256_SHA256 | SignatureScheme::ECDSA_NISTP384_SHA384
            )
        };
        let suites = hello.cipher_suites();
        Asked {
            name: hello.server_name().map(str::to_ascii_lowercase),
            schemes,
            takes_ecdsa: schemes.iter().any(is_ecdsa) && suites.iter().any(|s| carries_ecdsa(*s)),
        }
    }

    fn suits(&self, identity: &Identity) -> bool {
        identity.suits(self.schemes) && (self.takes_ecdsa || !identity.is_ecdsa)
    }
}

/// Whether a server may sign with ECDSA under a suite: with every one of TLS 1.3, and those of TLS 1.2 that say so.
fn carries_ecdsa(suite: CipherSuite) -> bool {
    let name = suite.as_str().unwrap_or("");
    name.starts_with("TLS13_") || name.contains("_ECDSA_")
}

/// The certificate's index, by Envoy's rules: for the exact name, else for a wildcard, else (`full_scan`, or without a
/// name) any that the client can check, else the first. Among equals one for ECDSA goes before one for RSA.
pub(super) fn select(identities: &[Identity], asked: &Asked<'_>, full_scan: bool) -> usize {
    let best = |fits: &dyn Fn(&Identity) -> bool| {
        let candidates = identities.iter().enumerate().filter(|(_, i)| fits(i) && asked.suits(i));
        candidates.min_by_key(|(_, identity)| !identity.is_ecdsa).map(|(index, _)| index)
    };
    let Some(name) = &asked.name else {
        return best(&|_| true).unwrap_or(0);
    };
    let exact = best(&|identity| identity.names.iter().any(|known| **known == *name));
    let wildcard = || {
        let (_, parent) = name.split_once('.')?;
        let is_for = |known: &str| known.strip_prefix("*.") == Some(parent);
        best(&|identity| identity.names.iter().any(|known| is_for(known)))
    };
    let any = || if full_scan { best(&|_| true) } else { None };
    exact.or_else(wildcard).or_else(any).unwrap_or(0)
}
