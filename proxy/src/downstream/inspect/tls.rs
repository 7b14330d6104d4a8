//! `envoy.filters.listener.tls_inspector`: reads SNI and ALPN out of the ClientHello (RFC 8446, 4.1.2), without consuming
//! it. A library that would answer the ClientHello refuses some that an upstream may accept, so this only reads.

use super::{InspectError, Step};
use crate::downstream::stats::TlsInspectorStats;

/// The longest ClientHello that is read.
const LONGEST: usize = 16 * 1024;
/// The longest record (RFC 5246, 6.2.3).
const LONGEST_RECORD: usize = 16 * 1024 + 2048;
/// The content type of a TLS handshake record.
const HANDSHAKE: u8 = 22;
/// The major version of SSL 3.0 and all of TLS.
const MAJOR: u8 = 3;
/// The type of a ClientHello.
const CLIENT_HELLO: u8 = 1;
/// The extension `server_name` (RFC 6066).
const SERVER_NAME: usize = 0;
/// The extension `application_layer_protocol_negotiation` (RFC 7301).
const ALPN: usize = 16;

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
    match message(bytes) {
        Step::Done(message) => Step::Done(message.as_deref().and_then(hello)),
        Step::More => Step::More,
        Step::Refuse(reason) => Step::Refuse(reason),
    }
}

/// The body of the ClientHello, put together from its records; none if this is not TLS.
fn message(bytes: &[u8]) -> Step<Option<Vec<u8>>> {
    let mut rest = Reader(bytes);
    let mut message = Vec::new();
    loop {
        let is = |index: usize, wanted: u8| rest.0.get(index).is_none_or(|byte| *byte == wanted);
        if !is(0, HANDSHAKE) || !is(1, MAJOR) {
            return Step::Done(None);
        }
        if rest.take(3).is_none() {
            return Step::More;
        }
        let Some(length) = rest.number(2) else { return Step::More };
        if !(1..=LONGEST_RECORD).contains(&length) {
            return Step::Done(None);
        }
        // A record that is still on its way may bring all of the message already.
        let is_whole = rest.0.len() >= length;
        message.extend(rest.take(length.min(rest.0.len())).unwrap_or_default());
        let mut start = Reader(&message);
        if start.take(1).is_some_and(|kind| kind != [CLIENT_HELLO]) {
            return Step::Done(None);
        }
        match start.number(3) {
            Some(needed) if needed > LONGEST => {
                return Step::Refuse("tls_inspector: ClientHello too large");
            }
            Some(needed) if start.0.len() >= needed => {
                return Step::Done(Some(start.0[..needed].to_vec()));
            }
            _ if is_whole => {}
            _ => return Step::More,
        }
    }
}

/// What the body of a ClientHello tells; none if it is malformed.
fn hello(body: &[u8]) -> Option<Hello> {
    let mut hello = Hello { server_name: String::new(), alpn: Vec::new() };
    let mut body = Reader(body);
    let _version_and_random = body.take(2 + 32)?;
    let _session_id = body.vector(1)?;
    let _cipher_suites = body.vector(2)?;
    let _compression_methods = body.vector(1)?;
    if body.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = body.vector(2)?;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut content = extensions.vector(2)?;
        match kind {
            SERVER_NAME => hello.server_name = server_name(&mut content)?,
            ALPN => {
                let mut names = content.vector(2)?;
                while !names.0.is_empty() {
                    let name = names.vector(1)?;
                    hello.alpn.push(String::from_utf8_lossy(name.0).into_owned());
                }
            }
            _ => {}
        }
    }
    Some(hello)
}

/// The one name of a `ServerNameList`, which is a host name.
fn server_name(content: &mut Reader<'_>) -> Option<String> {
    let mut names = content.vector(2)?;
    let _kind = names.take(1)?;
    let name = std::str::from_utf8(names.vector(2)?.0).ok()?;
    Some(name.to_ascii_lowercase())
}

/// Takes what it is asked for off the front; none where the bytes are too few.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of this many bytes, of which there are at most three.
    fn number(&mut self, width: usize) -> Option<usize> {
        Some(self.take(width)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// A vector whose length stands before it in this many bytes.
    fn vector(&mut self, width: usize) -> Option<Reader<'a>> {
        let length = self.number(width)?;
        self.take(length).map(Reader)
    }
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

    /// A ClientHello without any extension, over records of one byte.
    #[test]
    fn reads_what_has_no_extensions_and_comes_in_small_records() {
        let mut message = vec![CLIENT_HELLO, 0, 0, 41];
        message.extend([3, 1].iter().chain(&[0; 32]));
        message.extend([0, 0, 2, 0, 47, 1, 0]);
        let records = message.iter().flat_map(|byte| [HANDSHAKE, MAJOR, 1, 0, 1, *byte]);
        let bytes: Vec<u8> = records.collect();
        let empty = Hello { server_name: String::new(), alpn: Vec::new() };
        assert_eq!(look(&bytes), Step::Done(Some(empty)));
        assert_eq!(look(&bytes[..bytes.len() - 1]), Step::More);
    }

    #[test]
    fn a_message_that_says_it_is_huge_is_refused() {
        let bytes = [HANDSHAKE, MAJOR, 1, 1, 0, CLIENT_HELLO, 0, 0x40, 1];
        assert!(matches!(look(&bytes), Step::Refuse(_)));
    }

    #[test]
    fn what_is_not_tls_is_passed_on() {
        assert!(matches!(look(b"GET / HTTP/1.1\r\n"), Step::Done(None)));
        assert!(matches!(look(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"), Step::Done(None)));
    }
}
