//! `envoy.filters.listener.tls_inspector`: reads SNI and ALPN out of the ClientHello, without consuming it.

use rustls::server::Acceptor;

use super::{InspectError, Step};
use crate::downstream::stats::TlsInspectorStats;

/// The longest ClientHello that is read.
const LONGEST: usize = 16 * 1024 + 5;
/// The content type of a TLS handshake record.
const HANDSHAKE: u8 = 22;

/// What a ClientHello tells.
#[derive(Debug, PartialEq, Eq)]
pub struct Hello {
    /// SNI in lower case; empty if there is none.
    pub server_name: String,
    /// The ALPN protocols in the client's order.
    pub alpn: Vec<String>,
}

/// The ClientHello; none if this is not TLS.
pub fn look(bytes: &[u8]) -> Step<Option<Hello>> {
    if bytes.first() != Some(&HANDSHAKE) || bytes.get(1).is_some_and(|major| *major != 3) {
        return Step::Done(None);
    }
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return Step::Done(None);
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let alpn = hello.alpn().into_iter().flatten();
                return Step::Done(Some(Hello {
                    server_name: hello.server_name().unwrap_or_default().to_ascii_lowercase(),
                    alpn: alpn.map(|name| String::from_utf8_lossy(name).into_owned()).collect(),
                }));
            }
            Ok(None) => {}
            Err(_) => return Step::Done(None),
        }
    }
    if bytes.len() > LONGEST {
        return Step::Refuse("tls_inspector: ClientHello too large");
    }
    Step::More
}

/// Counts what came of looking at a connection.
pub(super) fn count(stats: &TlsInspectorStats, outcome: &Result<Option<Hello>, InspectError>) {
    match outcome {
        Ok(Some(hello)) => {
            stats.tls_found.inc();
            match hello.server_name.is_empty() {
                true => stats.sni_not_found.inc(),
                false => stats.sni_found.inc(),
            }
            match hello.alpn.is_empty() {
                true => stats.alpn_not_found.inc(),
                false => stats.alpn_found.inc(),
            }
        }
        Ok(None) => stats.tls_not_found.inc(),
        Err(InspectError::Refused(_)) => stats.client_hello_too_large.inc(),
        Err(InspectError::Closed) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"istio".to_vec(), b"h2".to_vec()];
        let name = name.to_owned().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut out = Vec::new();
        client.write_tls(&mut out).unwrap();
        out
    }

    #[test]
    fn reads_sni_and_alpn_at_any_split() {
        let bytes = hello("a.example.com");
        for split in 1..bytes.len() {
            assert!(matches!(look(&bytes[..split]), Step::More), "{split}");
        }
        let Step::Done(Some(hello)) = look(&bytes) else { panic!("a whole ClientHello") };
        assert_eq!(hello.server_name, "a.example.com");
        assert_eq!(hello.alpn, ["istio", "h2"]);
    }

    #[test]
    fn what_is_not_tls_is_passed_on() {
        assert!(matches!(look(b"GET / HTTP/1.1\r\n"), Step::Done(None)));
        assert!(matches!(look(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"), Step::Done(None)));
    }
}
