//! `envoy.filters.listener.proxy_protocol`: takes the PROXY header, version 1 or 2, off the front of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use ppp::{HeaderResult, PartialResult, v1, v2};

use super::{InspectError, Step};
use crate::downstream::stats::{ProxyProtocolStats, ProxyVersionStats};

/// The longest version 1 header, with its line break.
const LONGEST_V1: usize = 107;
/// What a version 1 header starts with.
const V1: &[u8] = b"PROXY ";
/// What a version 2 header starts with.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a PROXY header tells.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// How many bytes it takes; 0 if there is none.
    pub length: usize,
    /// Source and destination; none for `LOCAL` and `UNKNOWN`, which keep the socket's addresses.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// The filter, ready to run.
pub struct ProxyProtocol {
    /// Connections without the header may pass.
    pub optional: bool,
    /// Whether versions 1 and 2 are refused.
    pub disallowed: [bool; 2],
    /// `proxy_proto.`
    pub stats: Arc<ProxyProtocolStats>,
    /// `proxy_proto.versions.v1.` and `v2.`
    pub versions: [Arc<ProxyVersionStats>; 2],
}

impl ProxyProtocol {
    /// The header at the front of `bytes`.
    pub(super) fn look(&self, bytes: &[u8]) -> Step<Header> {
        look(bytes, self.optional, self.disallowed)
    }

    /// Counts what came of looking at a connection whose first bytes are these.
    pub(super) fn count(&self, bytes: &[u8], outcome: &Result<Header, InspectError>) {
        let version = versions(bytes).iter().position(|starts| *starts);
        match (version, outcome) {
            (_, Err(InspectError::Closed)) => {}
            (None, Ok(_)) => self.stats.not_found_allowed.inc(),
            (None, Err(_)) => self.stats.not_found_disallowed.inc(),
            (Some(version), Ok(_)) => self.versions[version].found.inc(),
            (Some(version), Err(_)) if self.disallowed[version] => {
                self.versions[version].disallowed.inc();
            }
            (Some(version), Err(_)) => self.versions[version].error.inc(),
        }
    }
}

/// Whether the bytes are, as far as they go, a header of version 1 and of version 2.
fn versions(bytes: &[u8]) -> [bool; 2] {
    [V1, V2].map(|signature| {
        let compared = bytes.len().min(signature.len());
        bytes[..compared] == signature[..compared]
    })
}

/// The PROXY header. `optional` lets connections without one pass; `disallowed` refuses versions 1 and 2.
pub fn look(bytes: &[u8], optional: bool, disallowed: [bool; 2]) -> Step<Header> {
    let versions = versions(bytes);
    let complete = [bytes.len() >= V1.len(), bytes.len() >= V2.len()];
    if versions == [false, false] {
        return match optional {
            true => Step::Done(Header { length: 0, addresses: None }),
            false => Step::Refuse("proxy_protocol: the connection has no PROXY header"),
        };
    }
    if (0..2).any(|version| versions[version] && complete[version] && disallowed[version]) {
        return Step::Refuse("proxy_protocol: this version of the PROXY header is disallowed");
    }
    if versions[0] && !bytes[..bytes.len().min(LONGEST_V1)].windows(2).any(|pair| pair == b"\r\n") {
        return match bytes.len() < LONGEST_V1 {
            true => Step::More,
            false => Step::Refuse("proxy_protocol: the PROXY header is too long"),
        };
    }
    // Version 2 tells its length in 16 bits, so that what is waited for is bounded.
    let result = HeaderResult::parse(bytes);
    if versions[1] && result.is_incomplete() {
        return Step::More;
    }
    match result {
        HeaderResult::V1(Ok(header)) => Step::Done(Header {
            length: header.header.len(),
            addresses: match header.addresses {
                v1::Addresses::Tcp4(a) => Some((
                    (a.source_address, a.source_port).into(),
                    (a.destination_address, a.destination_port).into(),
                )),
                v1::Addresses::Tcp6(a) => Some((
                    (a.source_address, a.source_port).into(),
                    (a.destination_address, a.destination_port).into(),
                )),
                v1::Addresses::Unknown => None,
            },
        }),
        HeaderResult::V2(Ok(header)) => {
            Step::Done(Header { length: header.len(), addresses: addresses_v2(&header) })
        }
        _ => Step::Refuse("proxy_protocol: the PROXY header is malformed"),
    }
}

fn addresses_v2(header: &v2::Header<'_>) -> Option<(SocketAddr, SocketAddr)> {
    if header.command == v2::Command::Local {
        return None;
    }
    match header.addresses {
        v2::Addresses::IPv4(a) => Some((
            (a.source_address, a.source_port).into(),
            (a.destination_address, a.destination_port).into(),
        )),
        v2::Addresses::IPv6(a) => Some((
            (a.source_address, a.source_port).into(),
            (a.destination_address, a.destination_port).into(),
        )),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [bool; 2] = [false, false];

    #[test]
    fn version_1_is_read_at_any_split() {
        let text = b"PROXY TCP4 10.0.0.1 10.0.0.2 111 222\r\nGET /";
        let length = text.len() - 5;
        for split in 1..length {
            assert!(matches!(look(&text[..split], false, BOTH), Step::More), "{split}");
        }
        let Step::Done(header) = look(text, false, BOTH) else { panic!("whole") };
        let wanted = ("10.0.0.1:111".parse().unwrap(), "10.0.0.2:222".parse().unwrap());
        assert_eq!(header, Header { length, addresses: Some(wanted) });
    }

    #[test]
    fn version_2_is_read_and_local_keeps_addresses() {
        let addresses: (SocketAddr, SocketAddr) =
            ("[::1]:1".parse().unwrap(), "[::2]:2".parse().unwrap());
        for (command, wanted) in [(v2::Command::Proxy, Some(addresses)), (v2::Command::Local, None)]
        {
            let bytes = v2::Builder::with_addresses(
                v2::Version::Two | command,
                v2::Protocol::Stream,
                addresses,
            )
            .build()
            .unwrap();
            let Step::Done(header) = look(&bytes, false, BOTH) else { panic!("whole") };
            assert_eq!(header, Header { length: bytes.len(), addresses: wanted });
            assert!(matches!(look(&bytes, false, [false, true]), Step::Refuse(_)));
        }
    }

    #[test]
    fn a_missing_header_is_refused_unless_optional() {
        assert!(matches!(look(b"GET /", false, BOTH), Step::Refuse(_)));
        assert!(matches!(look(b"GET /", true, BOTH), Step::Done(Header { length: 0, .. })));
        assert!(matches!(look(b"PROXY nonsense\r\n", true, BOTH), Step::Refuse(_)));
    }
}
