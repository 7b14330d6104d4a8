//! The cryptography of a context: versions, cipher suites and groups in Envoy's order.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, ALL_KX_GROUPS, default_provider};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite, NamedGroup, SupportedCipherSuite, SupportedProtocolVersion};

use crate::config::tls::CommonTls;

/// The order of TLS 1.3's suites, which is not configurable.
const TLS13: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// Envoy's default of `cipher_suites`.
const TLS12: [CipherSuite; 6] = [
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

/// Envoy's default of `ecdh_curves`.
const GROUPS: [NamedGroup; 3] =
    [NamedGroup::X25519MLKEM768, NamedGroup::X25519, NamedGroup::secp256r1];

/// The cryptography that a context allows.
pub(super) fn provider(common: &CommonTls) -> Arc<CryptoProvider> {
    let tls12 = common.tls12_cipher_suites.as_deref().unwrap_or(&TLS12);
    let suites = TLS13.iter().chain(tls12).filter_map(|suite| suite_of(*suite));
    let groups = common.groups.as_deref().unwrap_or(&GROUPS);
    Arc::new(CryptoProvider {
        cipher_suites: suites.collect(),
        kx_groups: groups.iter().filter_map(|group| group_of(*group)).collect(),
        ..default_provider()
    })
}

fn suite_of(wanted: CipherSuite) -> Option<SupportedCipherSuite> {
    ALL_CIPHER_SUITES.iter().find(|suite| suite.suite() == wanted).copied()
}

fn group_of(wanted: NamedGroup) -> Option<&'static dyn SupportedKxGroup> {
    ALL_KX_GROUPS.iter().find(|group| group.name() == wanted).copied()
}

/// The protocol versions that a context allows.
pub(super) fn versions(common: &CommonTls) -> Vec<&'static SupportedProtocolVersion> {
    let both = [
        (common.allow_tls13, &rustls::version::TLS13),
        (common.allow_tls12, &rustls::version::TLS12),
    ];
    both.into_iter().filter(|(allowed, _)| *allowed).map(|(_, version)| version).collect()
}
