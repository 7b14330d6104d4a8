//! TLS contexts (`envoy.extensions.transport_sockets.tls.v3`).

use std::sync::Arc;

use crate::config::source::ConfigSource;

mod context;
mod files;
mod parameters;
mod secret;
mod ticket_keys;
mod trust_domains;
mod validation;

pub use files::SecretFiles;
pub use parameters::{group_name, suite_name};
pub use ticket_keys::TicketKeys;

/// `DownstreamTlsContext`.
#[derive(Clone, Debug)]
pub struct DownstreamTls {
    /// `common_tls_context`
    pub common: CommonTls,
    /// `require_client_certificate`
    pub require_client_certificate: bool,
    /// `session_ticket_keys` or their SDS form: what tickets are sealed with; none means keys of this process.
    pub ticket_keys: Option<SecretRef<TicketKeys>>,
    /// Sessions may be resumed from tickets: not `disable_stateless_session_resumption`.
    pub stateless_resumption: bool,
    /// Sessions may be resumed from the server's memory: not `disable_stateful_session_resumption`.
    pub stateful_resumption: bool,
    /// `full_scan_certs_on_sni_mismatch`: without a certificate for the name, the first that the client can check is
    /// taken, not just the first.
    pub full_scan_on_sni_mismatch: bool,
    /// `prefer_client_ciphers`: the client's order of cipher suites decides, not the server's.
    pub prefer_client_ciphers: bool,
}

/// `UpstreamTlsContext`.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// `common_tls_context`
    pub common: CommonTls,
    /// `sni`; empty means none is sent.
    pub sni: Arc<str>,
    /// `auto_host_sni`: the endpoint's hostname is sent.
    pub auto_host_sni: bool,
    /// `auto_sni_san_validation`: the server's certificate must be for the name that was sent, whatever else the
    /// validation context says of names.
    pub auto_sni_san_validation: bool,
    /// `max_session_keys`: how many sessions are kept for resumption; default 1, 0 resumes none.
    pub max_session_keys: u32,
}

/// `CommonTlsContext`.
#[derive(Clone, Debug)]
pub struct CommonTls {
    /// `tls_certificates` or `tls_certificate_sds_secret_configs`.
    pub certificates: Vec<SecretRef<Certificate>>,
    /// `validation_context`, its SDS form, or both combined.
    pub validation: Option<Validation>,
    /// `alpn_protocols`, in order of preference.
    pub alpn: Vec<Vec<u8>>,
    /// `tls_params.tls_minimum_protocol_version` allows TLS 1.2; the default.
    pub allow_tls12: bool,
    /// `tls_params.tls_maximum_protocol_version` allows TLS 1.3; the default of servers, not of clients.
    pub allow_tls13: bool,
    /// `tls_params.cipher_suites`: what TLS 1.2 may use, in order of preference; none means every suite there is.
    pub tls12_cipher_suites: Option<Vec<rustls::CipherSuite>>,
    /// `tls_params.ecdh_curves`: what keys may be agreed with, in order of preference; none means the default.
    pub groups: Option<Vec<rustls::NamedGroup>>,
}

impl CommonTls {
    /// Whether a secret comes over SDS.
    pub fn uses_sds(&self) -> bool {
        let over_sds = |secret: &SecretRef<Certificate>| matches!(secret, SecretRef::Named(named) if named.is_over_sds());
        let validation = self.validation.as_ref().and_then(|validation| validation.named.as_ref());
        self.certificates.iter().any(over_sds) || validation.is_some_and(NamedSecret::is_over_sds)
    }
}

/// `Secret`: what SDS delivers under a name, or the bootstrap holds.
#[derive(Clone, Debug)]
pub struct Secret {
    /// `name`
    pub name: Arc<str>,
    /// What it is.
    pub kind: SecretKind,
    /// Its files, if it is the bootstrap's and they are to be read again.
    pub files: Option<SecretFiles>,
}

/// What a [`Secret`] is.
#[derive(Clone, Debug)]
pub enum SecretKind {
    /// `tls_certificate`
    Certificate(Arc<Certificate>),
    /// `validation_context`
    Validation(Arc<ValidationContext>),
    /// `session_ticket_keys`
    TicketKeys(Arc<TicketKeys>),
}

/// A secret given here, or one that may change.
#[derive(Clone, Debug)]
pub enum SecretRef<T> {
    /// Given in the configuration.
    Inline(Arc<T>),
    /// To be found by its name and source.
    Named(NamedSecret),
}

/// A secret that may change.
#[derive(Clone, Debug)]
pub struct NamedSecret {
    /// `name`; of files, the place in the configuration.
    pub name: Arc<str>,
    /// Where it is.
    pub source: SecretSource,
}

impl NamedSecret {
    fn is_over_sds(&self) -> bool {
        matches!(self.source, SecretSource::Sds(_))
    }
}

/// Where a secret is.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// An `SdsSecretConfig` without a source: `static_resources.secrets` of the bootstrap.
    Bootstrap,
    /// `sds_config`
    Sds(ConfigSource),
    /// It stands where it is used, and its files are read again when something is moved into its `watched_directory`.
    Files(SecretFiles),
}

/// `TlsCertificate`: a chain with its key, in PEM. Prints without the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// `certificate_chain`
    pub chain_pem: Vec<u8>,
    /// `private_key`
    pub key_pem: Vec<u8>,
    /// `ocsp_staple` in DER: what is sent with the chain.
    pub ocsp_staple: Option<Vec<u8>>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("chain_bytes", &self.chain_pem.len())
            .finish_non_exhaustive()
    }
}

/// How a peer is verified: the default context and, for `combined_validation_context`, an SDS one merged over it.
#[derive(Clone, Debug)]
pub struct Validation {
    /// `validation_context`, or the default of the combined one.
    pub context: Arc<ValidationContext>,
    /// What is merged over it, if the trust anchors may change.
    pub named: Option<NamedSecret>,
}

/// `CertificateValidationContext`.
#[derive(Clone, Debug, Default)]
pub struct ValidationContext {
    /// `trusted_ca` in PEM; none means that the peer's chain is not verified, unless `spiffe` is there.
    pub trusted_ca_pem: Option<Vec<u8>>,
    /// `match_typed_subject_alt_names`: one must match; empty accepts every name.
    pub subject_alt_names: Vec<SanMatcher>,
    /// `verify_certificate_hash`: SHA-256 digests of the leaf. If this list or the next has any, one must match.
    pub certificate_hashes: Vec<[u8; 32]>,
    /// `verify_certificate_spki`: SHA-256 digests of the leaf's public key.
    pub spki_hashes: Vec<[u8; 32]>,
    /// `crl` in PEM: every certificate of a chain must be covered by a list, and not be on it.
    pub crl_pem: Option<Vec<u8>>,
    /// `only_verify_leaf_cert_crl`
    pub crl_of_leaf_only: bool,
    /// `allow_expired_certificate`
    pub allow_expired: bool,
    /// `trust_chain_verification` is `ACCEPT_UNTRUSTED`: what fails is noted and let in.
    pub accept_untrusted: bool,
    /// `max_verify_depth`: how many certificates may follow the leaf, the trust anchor included.
    pub max_verify_depth: Option<u32>,
    /// The trust domains of `custom_validator_config`, if it is the SPIFFE validator.
    pub spiffe: Option<Vec<TrustDomain>>,
}

/// `SPIFFECertValidatorConfig.TrustDomain`: who may speak for the identities of a trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomain {
    /// `name`, without `spiffe://`.
    pub name: Arc<str>,
    /// `trust_bundle`: trust anchors in PEM.
    pub bundle_pem: Vec<u8>,
}

/// `SubjectAltNameMatcher`.
#[derive(Clone, Debug)]
pub struct SanMatcher {
    /// `san_type`
    pub kind: SanKind,
    /// `oid`, of an `OTHER_NAME`.
    pub oid: Arc<str>,
    /// `matcher`
    pub matcher: crate::config::matcher::StringMatcher,
}

/// The kind of a subject alternative name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanKind {
    /// `DNS`
    Dns,
    /// `URI`
    Uri,
    /// `EMAIL`
    Email,
    /// `IP_ADDRESS`
    Ip,
    /// `OTHER_NAME`: a text under an object identifier.
    OtherName,
}

impl SanKind {
    /// The kind as messages call it.
    pub fn as_str(self) -> &'static str {
        match self {
            SanKind::Dns => "DNS",
            SanKind::Uri => "URI",
            SanKind::Email => "EMAIL",
            SanKind::Ip => "IP",
            SanKind::OtherName => "OTHER",
        }
    }
}
