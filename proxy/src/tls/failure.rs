//! What a failed handshake is called and counted as.

use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible};

use crate::telemetry::stream_info::TlsInfo;
use crate::tls::stats::TlsStats;
use crate::tls::verify::{Failure, Rule};

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeError {
    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%` or its upstream counterpart; none if the peer just left.
    pub reason: Option<Arc<str>>,
    kind: Kind,
}

/// Which statistic counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Refused(Rule),
    NoCertificate,
    Connection,
    /// The peer closed before it was done.
    Closed,
}

impl HandshakeError {
    /// The failure behind an error of the stream.
    pub fn new(error: &io::Error) -> Self {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let Some(cause) = cause else {
            return HandshakeError { reason: None, kind: Kind::Closed };
        };
        if let Some(failure) = Failure::find(cause) {
            return HandshakeError::refused(failure);
        }
        let kind = match cause {
            Error::NoCertificatesPresented => Kind::NoCertificate,
            _ => Kind::Connection,
        };
        HandshakeError { reason: Some(explain(cause).into()), kind }
    }

    /// A peer whose certificate was refused.
    pub fn refused(failure: &Failure) -> Self {
        let text = tls_error(125, "CERTIFICATE_VERIFY_FAILED", &failure.to_string());
        HandshakeError { reason: Some(text.into()), kind: Kind::Refused(failure.rule) }
    }

    /// Counts it.
    pub fn count(&self, stats: &TlsStats) {
        match self.kind {
            Kind::Refused(rule) => stats.refused(rule),
            Kind::NoCertificate => stats.fail_verify_no_cert.inc(),
            Kind::Connection => stats.connection_error.inc(),
            Kind::Closed => {}
        }
    }
}

/// What the peer ended a session with after its handshake, for `%UPSTREAM_TRANSPORT_FAILURE_REASON%`; counted the first
/// time. In TLS 1.3 a server refuses a client's certificate only then.
pub fn session_failure(tls: &TlsInfo, stats: &TlsStats) -> Option<Arc<str>> {
    let error = tls.fault.error()?;
    if tls.fault.is_news() {
        stats.connection_error.inc();
    }
    Some(explain(error).into())
}

/// BoringSSL's library number for TLS, where its error codes begin.
const LIBRARY: u32 = 16 << 24;
/// Where the codes for alerts of the peer begin.
const ALERTS: u32 = 1000;

/// An error in the form that Envoy gives it.
fn tls_error(code: u32, name: &str, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(":{more}") };
    let code = LIBRARY + code;
    format!("TLS_error:|{code}:SSL routines:OPENSSL_internal:{name}{more}:TLS_error_end")
}

/// An error of rustls under BoringSSL's name, with rustls's words where they say more.
fn explain(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => {
            let more = "peer did not provide required client certificate";
            tls_error(192, "PEER_DID_NOT_RETURN_A_CERTIFICATE", more)
        }
        Error::AlertReceived(alert) => {
            tls_error(ALERTS + u32::from(u8::from(*alert)), alert_name(*alert), "")
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType)
        | Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => {
            tls_error(247, "WRONG_VERSION_NUMBER", "")
        }
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            tls_error(184, "NO_SHARED_CIPHER", "")
        }
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            // An old client does not send it, and this is looked at first.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13,
        ) => tls_error(240, "UNSUPPORTED_PROTOCOL", ""),
        Error::InvalidCertificate(error) => {
            tls_error(125, "CERTIFICATE_VERIFY_FAILED", &error.to_string())
        }
        other => tls_error(0, "HANDSHAKE_FAILURE", &other.to_string()),
    }
}

fn alert_name(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::HandshakeFailure => "SSLV3_ALERT_HANDSHAKE_FAILURE",
        AlertDescription::NoCertificate => "SSLV3_ALERT_NO_CERTIFICATE",
        AlertDescription::BadCertificate => "SSLV3_ALERT_BAD_CERTIFICATE",
        AlertDescription::UnsupportedCertificate => "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        AlertDescription::CertificateRevoked => "SSLV3_ALERT_CERTIFICATE_REVOKED",
        AlertDescription::CertificateExpired => "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        AlertDescription::CertificateUnknown => "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        AlertDescription::IllegalParameter => "SSLV3_ALERT_ILLEGAL_PARAMETER",
        AlertDescription::UnknownCA => "TLSV1_ALERT_UNKNOWN_CA",
        AlertDescription::AccessDenied => "TLSV1_ALERT_ACCESS_DENIED",
        AlertDescription::DecodeError => "TLSV1_ALERT_DECODE_ERROR",
        AlertDescription::DecryptError => "TLSV1_ALERT_DECRYPT_ERROR",
        AlertDescription::ProtocolVersion => "TLSV1_ALERT_PROTOCOL_VERSION",
        AlertDescription::InternalError => "TLSV1_ALERT_INTERNAL_ERROR",
        AlertDescription::UnrecognisedName => "TLSV1_ALERT_UNRECOGNIZED_NAME",
        AlertDescription::CertificateRequired => "TLSV1_ALERT_CERTIFICATE_REQUIRED",
        AlertDescription::NoApplicationProtocol => "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        _ => "ALERT",
    }
}
