//! What a connection is made for, where that makes it different from others to the same host.

use std::sync::Arc;

use http::HeaderMap;
use http::header::HOST;

use crate::config::cluster::{AutoNames, UpstreamProtocol};
use crate::telemetry::stream_info::Protocol;

/// Names that a TLS connection takes from the request that it is made for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestNames {
    /// The server name to send.
    pub sni: Option<Box<str>>,
    /// The name that the server's certificate must be for.
    pub san: Option<Box<str>>,
    /// The protocols that ALPN offers instead of the TLS context's; empty for those.
    pub alpn: Arc<[Vec<u8>]>,
}

/// Protocols that ALPN offers instead of the TLS context's, by the protocol of the request to the host.
#[derive(Clone, Debug, Default)]
pub struct AlpnOverrides {
    http10: Option<Arc<RequestNames>>,
    http11: Option<Arc<RequestNames>>,
    http2: Option<Arc<RequestNames>>,
}

impl AlpnOverrides {
    /// Offers these for a protocol, by its number in Istio's `FilterConfig.Protocol`; none if there is no such number.
    pub fn set(&mut self, protocol: i32, offered: Vec<Vec<u8>>) -> Option<()> {
        let place = match protocol {
            0 => &mut self.http10,
            1 => &mut self.http11,
            2 => &mut self.http2,
            _ => return None,
        };
        let names = RequestNames { alpn: offered.into(), ..RequestNames::default() };
        *place = Some(Arc::new(names));
        Some(())
    }

    /// What is offered for a request to a cluster that speaks `upstream`, with nothing else taken from the request.
    pub fn get(
        &self,
        upstream: UpstreamProtocol,
        downstream: Protocol,
    ) -> Option<&Arc<RequestNames>> {
        let names = match (upstream, downstream) {
            (UpstreamProtocol::Http2, _) | (UpstreamProtocol::UseDownstream, Protocol::Http2) => {
                &self.http2
            }
            (UpstreamProtocol::UseDownstream, Protocol::Http10) => &self.http10,
            _ => &self.http11,
        };
        names.as_ref()
    }
}

impl RequestNames {
    /// The names for a request with these headers. An address is no server name, but may be verified.
    pub fn of(auto: &AutoNames, headers: &HeaderMap) -> RequestNames {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let named = auto.header.as_ref().and_then(text).filter(|name| !name.is_empty());
        let (host, is_address) = host_of(named.or_else(|| text(&HOST)).unwrap_or_default());
        let name = (!host.is_empty()).then(|| Box::<str>::from(host));
        RequestNames {
            sni: name.clone().filter(|_| auto.sni && !is_address),
            san: name.filter(|_| auto.san),
            alpn: Arc::default(),
        }
    }
}

/// The host of an authority, and whether it is an address.
fn host_of(authority: &str) -> (&str, bool) {
    if let Some((address, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, true);
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    (host, host.parse::<std::net::Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_port_and_addresses_are_no_server_names() {
        let auto = AutoNames { sni: true, san: true, header: Some("x-name".parse().unwrap()) };
        for (host, header, sni, san) in [
            ("a.test", "", Some("a.test"), Some("a.test")),
            ("a.test:8443", "", Some("a.test"), Some("a.test")),
            ("a.test", "b.test:1", Some("b.test"), Some("b.test")),
            ("127.0.0.1:80", "", None, Some("127.0.0.1")),
            ("[::1]:80", "", None, Some("::1")),
            ("", "", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            headers.insert("x-name", header.parse().unwrap());
            let names = RequestNames::of(&auto, &headers);
            assert_eq!((names.sni.as_deref(), names.san.as_deref()), (sni, san), "{host}");
        }
    }
}
