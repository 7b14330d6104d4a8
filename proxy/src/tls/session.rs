//! What a finished handshake has agreed on.

use std::sync::Arc;
use std::time::Duration;

use rustls::{CommonState, HandshakeKind, ProtocolVersion};

use crate::config::tls::{group_name, suite_name};
use crate::telemetry::stream_info::{CertificateInfo, TlsInfo};
use crate::tls::certificate::Parsed;

/// The facts of a session.
pub(super) fn info(
    session: &CommonState,
    local: Option<Arc<CertificateInfo>>,
    handshake: Duration,
) -> TlsInfo {
    let chain = session.peer_certificates().unwrap_or_default();
    let peer = chain.first().and_then(|leaf| Parsed::new(leaf)).map(|leaf| Arc::new(leaf.info()));
    let suite = session.negotiated_cipher_suite().and_then(|suite| suite_name(suite.suite()));
    let group = session.negotiated_key_exchange_group().and_then(|group| group_name(group.name()));
    TlsInfo {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
        cipher: suite.unwrap_or("").into(),
        group: group.unwrap_or(""),
        alpn: String::from_utf8_lossy(session.alpn_protocol().unwrap_or_default()).into(),
        peer_certificates: chain.iter().map(|certificate| certificate.to_vec()).collect(),
        peer,
        local,
        handshake: Some(handshake),
        ..TlsInfo::default()
    }
}

/// Whether the session is an earlier one's, whose certificates were not verified in this handshake.
pub(super) fn is_resumed(session: &CommonState) -> bool {
    session.handshake_kind() == Some(HandshakeKind::Resumed)
}
