//! `x-forwarded-client-cert`: what the next hop is told of the client's certificate. What a client says of itself is never
//! believed, unless the configuration says to.

use std::fmt::Write;

use http::{HeaderMap, HeaderValue};

use crate::config::hcm::{CertificateDetails, ForwardClientCert, HttpConnectionManager};
use crate::http::present::Present;
use crate::http::sanitize::{append_to_list, join_lines, names};
use crate::telemetry::certificate::url_encoded_pem;
use crate::telemetry::stream_info::{CertificateInfo, ConnectionInfo, TlsInfo};

/// Puts the header into the form that the mode wants.
pub fn settle(
    headers: &mut HeaderMap,
    present: Present,
    config: &HttpConnectionManager,
    connection: &ConnectionInfo,
) {
    let name = &names::X_FORWARDED_CLIENT_CERT;
    let mode = config.forward_client_cert;
    let came = present.has(Present::X_FORWARDED_CLIENT_CERT);
    if came {
        join_lines(headers, name);
    }
    if mode == ForwardClientCert::AlwaysForwardOnly {
        return;
    }
    let session = connection.tls.as_ref();
    let peer = session.and_then(|tls| Some((tls, tls.peer.as_deref()?)));
    let Some((tls, peer)) = peer.filter(|_| mode != ForwardClientCert::Sanitize) else {
        if came {
            headers.remove(name);
        }
        return;
    };
    match mode {
        ForwardClientCert::Sanitize
        | ForwardClientCert::AlwaysForwardOnly
        | ForwardClientCert::ForwardOnly => {}
        ForwardClientCert::AppendForward => {
            let element = element(tls, peer, config.client_cert_details);
            append_to_list(headers, name, &element, ",");
        }
        ForwardClientCert::SanitizeSet => {
            headers.insert(name, element(tls, peer, config.client_cert_details));
        }
    }
}

/// What is told of one client, in Envoy's order whatever the order of the configuration.
fn element(tls: &TlsInfo, peer: &CertificateInfo, details: CertificateDetails) -> HeaderValue {
    let mut out = String::new();
    let mut pair = |key: &str, value: &str, quote: &str| {
        let separator = if out.is_empty() { "" } else { ";" };
        // Writing to a text cannot fail.
        let _ = write!(out, "{separator}{key}={quote}{value}{quote}");
    };
    for uri in tls.local.iter().flat_map(|local| &local.uri_sans) {
        pair("By", uri, "");
    }
    pair("Hash", &peer.sha256, "");
    if details.cert
        && let Some(leaf) = tls.peer_certificates.first()
    {
        pair("Cert", &url_encoded_pem(leaf), "\"");
    }
    if details.chain {
        let chain: String = tls.peer_certificates.iter().map(|der| url_encoded_pem(der)).collect();
        pair("Chain", &chain, "\"");
    }
    if details.subject {
        pair("Subject", &peer.subject, "\"");
    }
    if details.uri {
        if peer.uri_sans.is_empty() {
            pair("URI", "", "");
        }
        peer.uri_sans.iter().for_each(|uri| pair("URI", uri, ""));
    }
    if details.dns {
        peer.dns_sans.iter().for_each(|dns| pair("DNS", dns, ""));
    }
    // A name with a control character could end the header, and so the element tells nothing at all.
    HeaderValue::from_str(&out).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn certificate(uris: &[&str], dns: &[&str]) -> CertificateInfo {
        let list = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect();
        CertificateInfo {
            subject: "CN=a,O=b\\, c".into(),
            issuer: "".into(),
            serial: "".into(),
            sha256: "ab".into(),
            sha1: "".into(),
            uri_sans: list(uris),
            dns_sans: list(dns),
            ip_sans: list(&[]),
            email_sans: list(&[]),
            not_before: UNIX_EPOCH,
            not_after: UNIX_EPOCH,
        }
    }

    #[test]
    fn an_element_has_envoys_order_and_quotes() {
        let tls = TlsInfo {
            local: Some(certificate(&["spiffe://x/1", "spiffe://x/2"], &[]).into()),
            peer_certificates: [vec![0xfb, 0xff]].into(),
            ..TlsInfo::default()
        };
        let all =
            CertificateDetails { subject: true, cert: true, chain: true, dns: true, uri: true };
        let pem = "-----BEGIN%20CERTIFICATE-----%0A%2B%2F8%3D%0A-----END%20CERTIFICATE-----%0A";
        assert_eq!(
            element(&tls, &certificate(&["spiffe://a"], &["d.test", "e.test"]), all),
            format!(
                "By=spiffe://x/1;By=spiffe://x/2;Hash=ab;Cert=\"{pem}\";Chain=\"{pem}\";\
                 Subject=\"CN=a,O=b\\, c\";URI=spiffe://a;DNS=d.test;DNS=e.test"
            )
        );
        let uri = CertificateDetails { uri: true, ..CertificateDetails::default() };
        assert_eq!(element(&TlsInfo::default(), &certificate(&[], &[]), uri), "Hash=ab;URI=");
    }

    #[test]
    fn a_name_that_would_end_the_header_is_not_told() {
        let uri = CertificateDetails { uri: true, ..CertificateDetails::default() };
        let peer = certificate(&["spiffe://a\r\nx-admin: yes"], &[]);
        assert_eq!(element(&TlsInfo::default(), &peer, uri), "");
    }
}
