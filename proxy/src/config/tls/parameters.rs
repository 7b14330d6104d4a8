//! Protobuf to model: `TlsParameters`.

use proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use proto::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use rustls::{CipherSuite, NamedGroup};

use crate::config::error::{At, ConfigError, Context};
use crate::config::value;
use crate::{refuse_set, warn_set};

/// Which end of a connection parameters are for: their defaults differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Downstream,
    Upstream,
}

/// `TlsParameters`, with the defaults of a side.
pub(super) struct Parameters {
    pub allow_tls12: bool,
    pub allow_tls13: bool,
    pub tls12_cipher_suites: Option<Vec<CipherSuite>>,
    pub groups: Option<Vec<NamedGroup>>,
}

/// The TLS 1.2 suites that are safe, by the names of OpenSSL, which Envoy uses.
const TLS12_CIPHER_SUITES: [(&str, CipherSuite); 6] = [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Suites that Envoy knows and Pillion does not offer: they encrypt without forward secrecy or without authentication of
/// the ciphertext.
const NOT_OFFERED: [&str; 11] = [
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA256",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// The groups for key agreement, by Envoy's names.
const GROUPS: [(&str, NamedGroup); 4] = [
    ("X25519", NamedGroup::X25519),
    ("P-256", NamedGroup::secp256r1),
    ("P-384", NamedGroup::secp384r1),
    ("X25519MLKEM768", NamedGroup::X25519MLKEM768),
];

impl Parameters {
    pub fn from_proto(
        message: Option<&pb::TlsParameters>,
        side: Side,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Parameters, ConfigError> {
        // Envoy's clients stop at TLS 1.2 unless told otherwise.
        let default_max =
            if side == Side::Upstream { TlsProtocol::TlSv12 } else { TlsProtocol::TlSv13 };
        let Some(message) = message else {
            return Ok(Parameters {
                allow_tls12: true,
                allow_tls13: default_max == TlsProtocol::TlSv13,
                tls12_cipher_suites: None,
                groups: None,
            });
        };
        refuse_set!(at, message, [compliance_policies]);
        let reason = "Pillion's own safe list applies";
        warn_set!(context, at, message, [signature_algorithms], reason);
        let (at_min, at_max) =
            (at.field("tls_minimum_protocol_version"), at.field("tls_maximum_protocol_version"));
        let min = version(message.tls_minimum_protocol_version, TlsProtocol::TlSv12, &at_min)?;
        let max = version(message.tls_maximum_protocol_version, default_max, &at_max)?;
        if min < TlsProtocol::TlSv12 {
            context.warn(&at_min, "TLS 1.2 is the oldest version that is spoken");
        }
        if max < TlsProtocol::TlSv12 {
            return Err(at_max.error("TLS 1.2 is the oldest version that is supported"));
        }
        if max < min {
            return Err(at_max.error("is lower than tls_minimum_protocol_version"));
        }
        Ok(Parameters {
            allow_tls12: min <= TlsProtocol::TlSv12,
            allow_tls13: max == TlsProtocol::TlSv13,
            tls12_cipher_suites: cipher_suites(&message.cipher_suites, at, context)?,
            groups: groups(&message.ecdh_curves, at)?,
        })
    }
}

/// The name of a cipher suite in OpenSSL's spelling; none for one that is never agreed on.
pub fn suite_name(suite: CipherSuite) -> Option<&'static str> {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some("TLS_AES_128_GCM_SHA256"),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some("TLS_AES_256_GCM_SHA384"),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some("TLS_CHACHA20_POLY1305_SHA256"),
        _ => {
            let known = TLS12_CIPHER_SUITES.iter().find(|(_, known)| *known == suite);
            known.map(|(name, _)| *name)
        }
    }
}

/// The name of a group for key agreement; none for one that is never agreed on.
pub fn group_name(group: NamedGroup) -> Option<&'static str> {
    GROUPS.iter().find(|(_, known)| *known == group).map(|(name, _)| *name)
}

fn version(number: i32, default: TlsProtocol, at: &At<'_>) -> Result<TlsProtocol, ConfigError> {
    let version = value::enumeration(number, at)?;
    Ok(if version == TlsProtocol::TlsAuto { default } else { version })
}

/// The suites of the list that are safe, in its order; `[A|B]` is a group of equal preference.
fn cipher_suites(
    names: &[String],
    at: &At<'_>,
    context: &Context,
) -> Result<Option<Vec<CipherSuite>>, ConfigError> {
    if names.is_empty() {
        return Ok(None);
    }
    let mut suites = Vec::new();
    for (i, entry) in names.iter().enumerate() {
        for name in entry.trim_matches(['[', ']']).split('|') {
            match TLS12_CIPHER_SUITES.iter().find(|(known, _)| *known == name) {
                Some((_, suite)) => suites.push(*suite),
                None if NOT_OFFERED.contains(&name) => context
                    .warn(&at.index("cipher_suites", i), format_args!("{name:?} is not offered")),
                None => {
                    let at = at.index("cipher_suites", i);
                    return Err(at.error(format_args!("{name:?} is no cipher suite")));
                }
            }
        }
    }
    if suites.is_empty() {
        return Err(at.field("cipher_suites").error("none of the suites is supported"));
    }
    Ok(Some(suites))
}

fn groups(names: &[String], at: &At<'_>) -> Result<Option<Vec<NamedGroup>>, ConfigError> {
    let found = names.iter().enumerate().map(|(i, name)| {
        let group = GROUPS.iter().find(|(known, _)| known == name).map(|(_, group)| *group);
        group.ok_or_else(|| {
            at.index("ecdh_curves", i).error(format_args!(
                "{name:?} is not supported; X25519, P-256, P-384 and X25519MLKEM768 are"
            ))
        })
    });
    let groups: Vec<NamedGroup> = found.collect::<Result<_, _>>()?;
    Ok((!groups.is_empty()).then_some(groups))
}
