//! `/certs`: the certificates that are configured, each context with its own chain and its trust anchors.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::Registry;
use proto::google::protobuf::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::Context;
use super::query::Query;
use super::reply::{Answer, Reply};
use crate::tls::{Slot, TlsContext};
use crate::upstream::cluster::Sockets;

/// The certificates of one context.
struct Source {
    anchors: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
}

impl Source {
    /// Of a context with its secrets; none if it has no certificate at all.
    fn of<C: TlsContext>(slot: &Slot<C>) -> Option<Source> {
        let (chain, anchors) = slot.in_use();
        let anchors = CertificateDer::pem_slice_iter(&anchors).filter_map(Result::ok).collect();
        let source = Source { anchors, chain };
        (!source.anchors.is_empty() || !source.chain.is_empty()).then_some(source)
    }
}

pub(super) fn certs(context: &Context, _query: &Query) -> Answer {
    let sources = sources(context);
    Answer::later(move || {
        let registry = Registry::load();
        let now = SystemTime::now();
        let list = |ders: &[CertificateDer<'_>]| -> Vec<Value> {
            ders.iter().filter_map(|der| details(der, now, &registry)).collect()
        };
        let certificates: Vec<Value> = sources
            .iter()
            .map(|source| json!({"ca_cert": list(&source.anchors), "cert_chain": list(&source.chain)}))
            .collect();
        Reply::json(&json!({ "certificates": certificates }))
    })
}

/// Those of clusters, then those of listeners.
fn sources(context: &Context) -> Vec<Source> {
    let mut sources = Vec::new();
    for cluster in context.registry.list() {
        let sockets = cluster.sockets.get().into_iter().flat_map(Sockets::iter);
        sources.extend(sockets.filter_map(|tls| Source::of(tls)));
    }
    for (listener, _) in context.listeners.borrow().list() {
        let state = listener.state.load();
        let contexts = state.chains.iter().filter_map(|chain| chain.tls.as_ref());
        sources.extend(contexts.filter_map(|tls| Source::of(&tls.slot)));
    }
    sources
}

/// `envoy.admin.v3.CertificateDetails`; none for bytes that are no certificate.
fn details(der: &[u8], now: SystemTime, registry: &Registry) -> Option<Value> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let validity = certificate.validity();
    let time = |seconds: i64| registry.to_json(&Timestamp { seconds, nanos: 0 });
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let left = validity.not_after.timestamp().saturating_sub_unsigned(now).max(0);
    Some(json!({
        "serial_number": hex(certificate.raw_serial()),
        "subject_alt_names": subject_alt_names(&certificate),
        // Protobuf's JSON has 64-bit numbers as strings.
        "days_until_expiration": (left / (24 * 60 * 60)).to_string(),
        "valid_from": time(validity.not_before.timestamp()),
        "expiration_time": time(validity.not_after.timestamp()),
    }))
}

fn subject_alt_names(certificate: &X509Certificate<'_>) -> Vec<Value> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(json!({"dns": name})),
        GeneralName::URI(uri) => Some(json!({"uri": uri})),
        GeneralName::IPAddress(bytes) => Some(json!({"ip_address": ip(bytes)?})),
        _ => None,
    });
    names.collect()
}

fn ip(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from);
    v4.or(v6).ok().map(|address| address.to_string())
}

/// A serial number as Envoy prints it: digits without leading zero bytes.
fn hex(bytes: &[u8]) -> String {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    bytes[start..].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_certificate_tells_its_names_and_its_time() {
        let mut params = CertificateParams::new(vec!["a.test".to_string()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://a/b".try_into().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x0a, 0xbc]));
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 11);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let ninth = UNIX_EPOCH + std::time::Duration::from_secs(1_767_916_800);
        let registry = Registry::load();
        let value = details(certificate.der(), ninth, &registry).unwrap();
        let message: proto::envoy::admin::v3::CertificateDetails =
            registry.from_json(&value.to_string()).unwrap();
        assert_eq!((message.serial_number.as_str(), message.days_until_expiration), ("0abc", 2));
        assert_eq!(value["valid_from"], "2026-01-01T00:00:00Z");
        assert_eq!(
            value["subject_alt_names"],
            json!([{"dns": "a.test"}, {"uri": "spiffe://a/b"}, {"ip_address": "127.0.0.1"}])
        );
    }

    #[test]
    fn a_certificate_that_is_over_has_no_days_left() {
        let mut params = CertificateParams::new(vec!["a.test".to_string()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let value = details(certificate.der(), SystemTime::now(), &Registry::load()).unwrap();
        assert_eq!(value["days_until_expiration"], "0");
        assert!(details(b"nothing", SystemTime::now(), &Registry::load()).is_none());
    }
}
