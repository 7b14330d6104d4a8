//! What a certificate says: parsed once for the verifier, and printed as Envoy prints it.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use rustls_pki_types::UnixTime;
use x509_parser::asn1_rs::{Any, FromDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::config::tls::SanKind;
use crate::telemetry::certificate::fingerprint;
use crate::telemetry::stream_info::CertificateInfo;
use crate::tls::distinguished_name;
use crate::tls::verify::Peer;

/// How many names of a peer a message tells.
const NAMES_TOLD: usize = 8;

/// A certificate, parsed.
pub struct Parsed<'a> {
    der: &'a [u8],
    certificate: X509Certificate<'a>,
    names: Names,
}

/// The subject alternative names of a certificate, by kind, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    dns: Vec<Box<str>>,
    uri: Vec<Box<str>>,
    email: Vec<Box<str>>,
    ip: Vec<Box<str>>,
    /// Object identifiers, each with its text.
    other: Vec<(String, Box<str>)>,
}

impl Names {
    fn new(certificate: &X509Certificate<'_>) -> Names {
        let mut names = Names::default();
        // An extension that cannot be read has no names.
        let Ok(Some(extension)) = certificate.subject_alternative_name() else { return names };
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.dns.push((*name).into()),
                GeneralName::URI(name) => names.uri.push((*name).into()),
                GeneralName::RFC822Name(name) => names.email.push((*name).into()),
                GeneralName::IPAddress(bytes) => names.ip.extend(address(bytes)),
                GeneralName::OtherName(oid, value) => {
                    names.other.extend(text(value).map(|text| (oid.to_id_string(), text)));
                }
                _ => {}
            }
        }
        names
    }

    /// The texts of other names with this object identifier.
    pub fn other<'a>(&'a self, oid: &'a str) -> impl Iterator<Item = &'a str> {
        self.other.iter().filter(move |(known, _)| known == oid).map(|(_, text)| &**text)
    }

    /// The names of a kind; other names are found by their object identifier only.
    pub fn of(&self, kind: SanKind) -> &[Box<str>] {
        match kind {
            SanKind::Dns => &self.dns,
            SanKind::Uri => &self.uri,
            SanKind::Email => &self.email,
            SanKind::Ip => &self.ip,
            SanKind::OtherName => &[],
        }
    }
}

fn address(bytes: &[u8]) -> Option<Box<str>> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok().map(|address| address.to_string().into())
}

/// The text in the value of another name: an explicitly tagged string of any type that is text in UTF-8.
fn text(value: &[u8]) -> Option<Box<str>> {
    let (_, tagged) = Any::from_der(value).ok()?;
    let (_, inner) = Any::from_der(tagged.data).ok()?;
    std::str::from_utf8(inner.data).ok().map(Into::into)
}

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Validity {
    /// Whether the certificate is valid at a time.
    ///
    /// # Errors
    /// It is over, or has not begun.
    pub fn check(&self, time: UnixTime) -> Result<(), webpki::Error> {
        if time < self.not_before {
            return Err(webpki::Error::CertNotValidYet { time, not_before: self.not_before });
        }
        if time > self.not_after {
            return Err(webpki::Error::CertExpired { time, not_after: self.not_after });
        }
        Ok(())
    }
}

impl<'a> Parsed<'a> {
    /// Parses a certificate in DER; none if it is none.
    pub fn new(der: &'a [u8]) -> Option<Parsed<'a>> {
        let (rest, certificate) = parse_x509_certificate(der).ok()?;
        rest.is_empty().then(|| Parsed { der, names: Names::new(&certificate), certificate })
    }

    /// The whole certificate.
    pub fn der(&self) -> &'a [u8] {
        self.der
    }

    /// The public key with its algorithm (`SubjectPublicKeyInfo`).
    pub fn spki(&self) -> &[u8] {
        self.certificate.public_key().raw
    }

    /// The subject alternative names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The common names of the subject.
    pub fn common_names(&self) -> impl Iterator<Item = &str> {
        self.certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok())
    }

    /// From when to when it is valid; times before 1970 count as 1970.
    pub fn validity(&self) -> Validity {
        let validity = self.certificate.validity();
        let time = |seconds: i64| {
            UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
        };
        Validity {
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
        }
    }

    /// Whether it is a CA's.
    pub fn is_ca(&self) -> bool {
        self.certificate.is_ca()
    }

    /// Whether it says what its key is for, and signing certificates or revocation lists is not among it.
    pub fn signs_only_handshakes(&self) -> bool {
        let usage = self.certificate.key_usage();
        usage
            .ok()
            .flatten()
            .is_some_and(|usage| !usage.value.key_cert_sign() && !usage.value.crl_sign())
    }

    /// Whether its extended key usage, if it has one, allows to be this end of a connection.
    pub fn may_be(&self, peer: Peer) -> bool {
        match self.certificate.extended_key_usage() {
            Ok(None) => true,
            Ok(Some(usage)) => match peer {
                Peer::Client => usage.value.client_auth || usage.value.any,
                Peer::Server => usage.value.server_auth || usage.value.any,
            },
            Err(_) => false,
        }
    }

    /// Subject and names for a message; bounded, and without control characters.
    pub fn describe(&self) -> String {
        let mut out =
            format!("subject {:?}", distinguished_name::print(self.certificate.subject()));
        let kinds = [SanKind::Uri, SanKind::Dns, SanKind::Ip, SanKind::Email];
        let all = kinds
            .iter()
            .flat_map(|kind| self.names.of(*kind).iter().map(move |name| (kind.as_str(), name)));
        let total = kinds.iter().map(|kind| self.names.of(*kind).len()).sum::<usize>();
        for (kind, name) in all.take(NAMES_TOLD) {
            let name: String = name.chars().take(256).collect();
            // Writing to a text cannot fail.
            let _ = write!(out, ", {kind} {name:?}");
        }
        match total {
            0 => out.push_str(" and no alternative name"),
            _ if total > NAMES_TOLD => {
                let _ = write!(out, " and {} more", total - NAMES_TOLD);
            }
            _ => {}
        }
        out
    }

    /// Everything that access logs and `x-forwarded-client-cert` may tell.
    pub fn info(&self) -> CertificateInfo {
        let certificate = &self.certificate;
        let time =
            |time: UnixTime| -> SystemTime { UNIX_EPOCH + Duration::from_secs(time.as_secs()) };
        let validity = self.validity();
        let names = self.names.clone();
        CertificateInfo {
            subject: distinguished_name::print(certificate.subject()).into(),
            issuer: distinguished_name::print(certificate.issuer()).into(),
            serial: serial(certificate.raw_serial()).into(),
            sha256: fingerprint(&SHA256, self.der).into(),
            sha1: fingerprint(&SHA1_FOR_LEGACY_USE_ONLY, self.der).into(),
            uri_sans: names.uri.into(),
            dns_sans: names.dns.into(),
            ip_sans: names.ip.into(),
            email_sans: names.email.into(),
            not_before: time(validity.not_before),
            not_after: time(validity.not_after),
        }
    }
}

/// A serial number as Envoy prints it: digits without leading zero bytes.
fn serial(bytes: &[u8]) -> String {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    hex(&bytes[start..])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_certificate_tells_what_envoy_prints() {
        let mut params = CertificateParams::new(vec!["a.test".to_string()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Acme, Inc");
        params.distinguished_name.push(DnType::CommonName, "web");
        params.subject_alt_names.push(SanType::URI("spiffe://a/b".try_into().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x0a, 0xbc]));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let parsed = Parsed::new(certificate.der()).unwrap();
        let info = parsed.info();
        assert_eq!(&*info.subject, "CN=web,O=Acme\\, Inc");
        assert_eq!((&*info.serial, info.sha256.len(), info.sha1.len()), ("0abc", 64, 40));
        assert_eq!(&*info.uri_sans[0], "spiffe://a/b");
        assert_eq!(&*info.ip_sans[0], "127.0.0.1");
        assert_eq!(
            parsed.describe(),
            "subject \"CN=web,O=Acme\\\\, Inc\", URI \"spiffe://a/b\", DNS \"a.test\", IP \"127.0.0.1\""
        );
        assert!(Parsed::new(b"nothing").is_none());
    }

    #[test]
    fn only_the_first_names_are_told() {
        let names: Vec<String> = (0..20).map(|i| format!("n{i}.test")).collect();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let told = Parsed::new(certificate.der()).unwrap().describe();
        assert!(told.ends_with("DNS \"n7.test\" and 12 more"), "{told}");
    }
}
