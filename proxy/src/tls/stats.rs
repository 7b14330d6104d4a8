//! Statistics of TLS, of a listener or a cluster: `<prefix>.ssl.*`.

use crate::stat_group;
use crate::telemetry::seldom::Seldom;
use crate::telemetry::stats::{Counter, Metric, StatGroup};
use crate::telemetry::stream_info::TlsInfo;
use crate::tls::verify::Rule;

stat_group! {
    /// `<prefix>.ssl.`
    pub struct HandshakeStats {
        counter connection_error,
        counter handshake,
        counter session_reused,
        counter no_certificate,
        counter fail_verify_no_cert,
        counter fail_verify_error,
        counter fail_verify_san,
        counter fail_verify_cert_hash,
        counter ocsp_staple_failed,
        counter ocsp_staple_omitted,
        counter ocsp_staple_responses,
        counter ocsp_staple_requests,
        counter was_key_usage_invalid,
    }
}

stat_group! {
    /// `listener.<address>.server_ssl_socket_factory.`, `cluster.<name>.client_ssl_socket_factory.`
    pub struct FactoryStats {
        counter ssl_context_update_by_sds,
        counter downstream_context_secrets_not_ready,
        counter upstream_context_secrets_not_ready,
    }
}

/// What handshakes agreed on, each under the name of its kind. Envoy shows what has happened at least once.
const AGREED: [&str; 15] = [
    "ciphers.TLS_AES_128_GCM_SHA256",
    "ciphers.TLS_AES_256_GCM_SHA384",
    "ciphers.TLS_CHACHA20_POLY1305_SHA256",
    "ciphers.ECDHE-ECDSA-AES128-GCM-SHA256",
    "ciphers.ECDHE-RSA-AES128-GCM-SHA256",
    "ciphers.ECDHE-ECDSA-AES256-GCM-SHA384",
    "ciphers.ECDHE-RSA-AES256-GCM-SHA384",
    "ciphers.ECDHE-ECDSA-CHACHA20-POLY1305",
    "ciphers.ECDHE-RSA-CHACHA20-POLY1305",
    "curves.X25519",
    "curves.P-256",
    "curves.P-384",
    "curves.X25519MLKEM768",
    "versions.TLSv1.2",
    "versions.TLSv1.3",
];

/// The statistics of one listener's or cluster's handshakes.
#[derive(Debug)]
pub struct TlsStats {
    handshakes: HandshakeStats,
    /// Counters of [`AGREED`].
    agreed: [Counter; AGREED.len()],
    /// Which failures stand in the log.
    pub warnings: Seldom,
}

impl std::ops::Deref for TlsStats {
    type Target = HandshakeStats;

    fn deref(&self) -> &HandshakeStats {
        &self.handshakes
    }
}

impl StatGroup for TlsStats {
    fn prefix(&self) -> &str {
        self.handshakes.prefix()
    }

    fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'static str, Metric<'a>)) {
        self.handshakes.visit(visit);
        let used = AGREED.iter().zip(&self.agreed).filter(|(_, counter)| counter.get() > 0);
        used.for_each(|(name, counter)| visit(name, Metric::Counter(counter)));
    }
}

impl TlsStats {
    /// Statistics under `prefix`, which ends in `ssl.`.
    pub fn new(prefix: impl Into<Box<str>>) -> Self {
        TlsStats {
            handshakes: HandshakeStats::new(prefix),
            agreed: [const { Counter::zero() }; AGREED.len()],
            warnings: Seldom::default(),
        }
    }

    /// Counts a certificate that was refused.
    pub(super) fn refused(&self, rule: Rule) {
        match rule {
            Rule::Chain => self.fail_verify_error.inc(),
            Rule::Names => self.fail_verify_san.inc(),
            Rule::Digest => self.fail_verify_cert_hash.inc(),
        }
    }

    /// Counts a handshake that succeeded.
    pub(super) fn done(&self, info: &TlsInfo, resumed: bool) {
        self.handshake.inc();
        if resumed {
            self.session_reused.inc();
        }
        if info.peer_certificates.is_empty() {
            self.no_certificate.inc();
        }
        self.agree("ciphers", &info.cipher);
        self.agree("curves", info.group);
        self.agree("versions", info.version);
    }

    fn agree(&self, kind: &str, name: &str) {
        let is_this = |agreed: &&str| {
            agreed.strip_prefix(kind).and_then(|rest| rest.strip_prefix('.')) == Some(name)
        };
        if let Some(index) = AGREED.iter().position(is_this) {
            self.agreed[index].inc();
        }
    }
}
