//! Who the client is and which of its headers are believed: Envoy's `mutateRequestHeaders`, in its order.

pub mod names;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{
    CONNECTION, HeaderName, REFERER, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT, VIA,
};
use http::{HeaderMap, HeaderValue};

use crate::config::hcm::{HttpConnectionManager, InternalAddresses};
use crate::http::client_certificate;
use crate::http::connection::Connection;
use crate::http::present::Present;
use crate::http::request_id;
use crate::io::Address;

/// Headers that only an internal client may set.
static INTERNAL_ONLY: [&HeaderName; 14] = [
    &names::X_ENVOY_RETRIABLE_STATUS_CODES,
    &names::X_ENVOY_RETRIABLE_HEADER_NAMES,
    &names::X_ENVOY_RETRY_ON,
    &names::X_ENVOY_RETRY_GRPC_ON,
    &names::X_ENVOY_MAX_RETRIES,
    &names::X_ENVOY_UPSTREAM_ALT_STAT_NAME,
    &names::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
    &names::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
    &names::X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE,
    &names::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
    &names::X_ENVOY_FORCE_TRACE,
    &names::X_ENVOY_IP_TAGS,
    &names::X_ENVOY_ORIGINAL_URL,
    &names::X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT,
];

/// Headers that no client at the edge of the mesh may set.
static EDGE_ONLY: [&HeaderName; 5] = [
    &names::X_ENVOY_DECORATOR_OPERATION,
    &names::X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER,
    &names::X_ENVOY_DOWNSTREAM_SERVICE_NODE,
    &names::X_ENVOY_ORIGINAL_PATH,
    &names::X_ENVOY_ORIGINAL_HOST,
];

/// What sanitising found out about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Whether the client is inside the mesh (`x-envoy-internal`).
    pub internal: bool,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Who it is, if `x-forwarded-for` tells and is believed.
    pub forwarded_for: Option<Address>,
}

/// Cleans the request's headers and adds what the proxy knows. `upgrade` says that the connection may leave HTTP.
pub fn sanitize(
    headers: &mut HeaderMap,
    present: Present,
    connection: &Connection,
    upgrade: bool,
) -> Client {
    let config = &connection.manager.config;
    if present.has(Present::CONNECTION) {
        remove_nominated(headers);
    }
    remove_hop_by_hop(headers, present, upgrade);
    if present.has(Present::REFERER) && !is_good_referer(headers) {
        headers.remove(REFERER);
    }
    if present.has(Present::X_FORWARDED_FOR) {
        join_lines(headers, &names::X_FORWARDED_FOR);
    }
    if present.has(Present::X_ENVOY) {
        headers.remove(&names::X_ENVOY_INTERNAL);
    }
    let trusted = trusted_address(headers, present, connection);
    forward_address(headers, connection);
    let scheme = forward_scheme(headers, present, connection);
    let internal = trusted.as_ref().is_some_and(|trusted| {
        let rules = config.internal_addresses.as_ref();
        trusted.internal_allowed && rules.is_some_and(|rules| rules.contain(&trusted.address))
    });
    let edge = !internal && config.use_remote_address;
    if internal {
        headers.insert(&names::X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
    } else if present.has(Present::X_ENVOY) {
        remove_untrusted(headers, edge);
    }
    add_user_agent(headers, connection);
    if let Some(via) = &config.via {
        append_to_list(headers, &VIA, via, ", ");
    }
    if edge {
        let address = trusted.as_ref().map(|trusted| &trusted.address);
        if let Some(value) = address.and_then(ip_value) {
            headers.insert(&names::X_ENVOY_EXTERNAL_ADDRESS, value);
        }
    }
    settle_request_id(headers, present, config, edge);
    client_certificate::settle(headers, present, config, &connection.info);
    let forwarded_for = trusted.map(|trusted| trusted.address);
    let forwarded_for = forwarded_for.filter(|address| *address != connection.info.remote);
    Client { internal, scheme, forwarded_for }
}

/// Removes what belongs to one connection (RFC 9110 §7.6.1), as far as `present` says that it is there.
pub fn remove_hop_by_hop(headers: &mut HeaderMap, present: Present, upgrade: bool) {
    if !present.has(Present::HOP_BY_HOP) {
        return;
    }
    let connection: [(Present, &HeaderName); 2] =
        [(Present::CONNECTION, &CONNECTION), (Present::UPGRADE, &UPGRADE)];
    let others: [(Present, &HeaderName); 3] = [
        (Present::TRANSFER_ENCODING, &TRANSFER_ENCODING),
        (Present::KEEP_ALIVE, &names::KEEP_ALIVE),
        (Present::PROXY_CONNECTION, &names::PROXY_CONNECTION),
    ];
    let left = if upgrade { &[][..] } else { &connection[..] };
    for (_, name) in left.iter().chain(&others).filter(|(this, _)| present.has(*this)) {
        headers.remove(*name);
    }
    if present.has(Present::UPGRADE) && !upgrade {
        headers.remove(&names::HTTP2_SETTINGS);
    }
    if !present.has(Present::TE) {
        return;
    }
    if let Some(te) = headers.get(TE) {
        let tokens = te.to_str().unwrap_or_default().split(',');
        let trailers = tokens.map(str::trim).any(|token| token.eq_ignore_ascii_case("trailers"));
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(TE);
        }
    }
}

/// Removes what a connection header names as belonging to this connection only. What tells the length of the body is not
/// the client's to take away, and what belongs to the connection anyway is seen to by [`remove_hop_by_hop`].
fn remove_nominated(headers: &mut HeaderMap) {
    const KEPT: [&str; 6] =
        ["close", "keep-alive", "te", "upgrade", "content-length", "transfer-encoding"];
    let values: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    let tokens =
        values.iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    for token in tokens.map(str::trim) {
        if !token.is_empty() && !KEPT.iter().any(|kept| token.eq_ignore_ascii_case(kept)) {
            headers.remove(token);
        }
    }
}

/// Whether there is one `referer`, and it is an absolute URL.
fn is_good_referer(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(REFERER).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let url = value.to_str().ok().and_then(|text| text.parse::<http::Uri>().ok());
    url.is_some_and(|url| url.scheme().is_some() && url.authority().is_some())
}

/// Makes one line of several.
pub fn join_lines(headers: &mut HeaderMap, name: &HeaderName) {
    if headers.get_all(name).iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b","[..])) {
        headers.insert(name, joined);
    }
}

/// Whether an HTTP/1.0 request asks for the connection to stay.
pub fn asks_to_keep_alive(headers: &HeaderMap) -> bool {
    let connection =
        headers.get(CONNECTION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    connection.split(',').any(|token| token.trim().eq_ignore_ascii_case("keep-alive"))
}

struct Trusted {
    address: Address,
    /// Whether the rules for internal addresses may be asked at all.
    internal_allowed: bool,
}

/// The address that the client is taken to have, from the peer or from `x-forwarded-for`; none where nobody asks for it.
fn trusted_address(
    headers: &HeaderMap,
    present: Present,
    connection: &Connection,
) -> Option<Trusted> {
    let config = &connection.manager.config;
    let came_with_xff = present.has(Present::X_FORWARDED_FOR);
    if !config.use_remote_address && !came_with_xff {
        return None;
    }
    let peer = connection.info.remote.clone();
    let hops = config.xff_num_trusted_hops as usize;
    if config.use_remote_address {
        let named = (hops > 0).then(|| forwarded_from_right(headers, hops - 1)).flatten();
        let address = named.map_or(peer, |ip| Address::Ip((ip, 0).into()));
        return Some(Trusted { address, internal_allowed: !came_with_xff });
    }
    let single = forwarded_from_right(headers, 1).is_none() && came_with_xff;
    Some(match forwarded_from_right(headers, hops) {
        Some(ip) => {
            Trusted { address: Address::Ip((ip, 0).into()), internal_allowed: single && hops == 0 }
        }
        None => Trusted { address: peer, internal_allowed: false },
    })
}

/// The address in `x-forwarded-for` that is `index` places left of the last one.
fn forwarded_from_right(headers: &HeaderMap, index: usize) -> Option<IpAddr> {
    let values = headers.get_all(&names::X_FORWARDED_FOR);
    let mut left = index;
    for value in values.iter().rev() {
        for address in value.to_str().ok()?.rsplit(',') {
            if left == 0 {
                return address.trim().parse().ok();
            }
            left -= 1;
        }
    }
    None
}

fn ip_value(address: &Address) -> Option<HeaderValue> {
    HeaderValue::from_str(&address.ip()?.ip().to_string()).ok()
}

/// Appends the peer to `x-forwarded-for`.
fn forward_address(headers: &mut HeaderMap, connection: &Connection) {
    let config = &connection.manager.config;
    if !config.use_remote_address || config.skip_xff_append {
        return;
    }
    let info = &connection.info;
    // A peer on this host is named by the address that it reached, which tells more. Only the usual loopback address
    // says so: the others of 127/8 may be meant to tell processes apart.
    let usual = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let loopback = info.remote.ip().is_some_and(|peer| usual.contains(&peer.ip()));
    let named = if loopback { &info.local } else { &info.remote };
    let Some(value) = ip_value(named) else { return };
    append_to_list(headers, &names::X_FORWARDED_FOR, &value, ",");
}

/// Appends to a list header behind a separator: Envoy has one with a space for some, and one without for others.
pub fn append_to_list(
    headers: &mut HeaderMap,
    name: &HeaderName,
    value: &HeaderValue,
    separator: &str,
) {
    let now = headers.get(name);
    let joined = now.map(|now| [now.as_bytes(), separator.as_bytes(), value.as_bytes()].concat());
    let joined = joined.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
    headers.insert(name.clone(), joined.unwrap_or_else(|| value.clone()));
}

/// Settles `x-forwarded-proto`, `x-forwarded-port` and the scheme.
fn forward_scheme(
    headers: &mut HeaderMap,
    present: Present,
    connection: &Connection,
) -> &'static str {
    let config = &connection.manager.config;
    let transport = if connection.info.tls.is_some() { "https" } else { "http" };
    let own = config.use_remote_address && config.xff_num_trusted_hops == 0;
    let told = present.has(Present::X_FORWARDED_PROTO) && !own;
    if !told {
        headers.insert(&names::X_FORWARDED_PROTO, HeaderValue::from_static(transport));
    }
    if config.append_x_forwarded_port
        && (own || !headers.contains_key(&names::X_FORWARDED_PORT))
        && let Some(port) = connection.info.local.port()
    {
        headers.insert(&names::X_FORWARDED_PORT, HeaderValue::from(port));
    }
    if let Some(scheme) = config.scheme_overwrite {
        headers.insert(&names::X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
        return scheme;
    }
    if !told {
        return transport;
    }
    match headers.get(&names::X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
        Some(proto) if proto.eq_ignore_ascii_case(b"https") => "https",
        Some(proto) if proto.eq_ignore_ascii_case(b"http") => "http",
        _ => transport,
    }
}

fn remove_untrusted(headers: &mut HeaderMap, edge: bool) {
    for name in INTERNAL_ONLY {
        headers.remove(name);
    }
    if edge {
        for name in EDGE_ONLY {
            headers.remove(name);
        }
    }
}

fn add_user_agent(headers: &mut HeaderMap, connection: &Connection) {
    if !connection.manager.config.add_user_agent {
        return;
    }
    let identity = &connection.worker.identity;
    if let Ok(cluster) = HeaderValue::from_str(&identity.cluster) {
        headers.insert(&names::X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, cluster.clone());
        headers.entry(USER_AGENT).or_insert(cluster);
    }
    if let (Ok(node), false) = (HeaderValue::from_str(&identity.id), identity.id.is_empty()) {
        headers.insert(&names::X_ENVOY_DOWNSTREAM_SERVICE_NODE, node);
    }
}

fn settle_request_id(
    headers: &mut HeaderMap,
    present: Present,
    config: &HttpConnectionManager,
    edge: bool,
) {
    if !config.generate_request_id {
        return;
    }
    let given = present.has(Present::X_REQUEST_ID)
        && headers.get(&names::X_REQUEST_ID).is_some_and(|id| !id.is_empty());
    if !given || (edge && !config.preserve_external_request_id) {
        headers.insert(&names::X_REQUEST_ID, request_id::generate());
    }
}

impl InternalAddresses {
    /// Whether an address counts as internal.
    fn contain(&self, address: &Address) -> bool {
        let Address::Ip(address) = address else { return self.unix_sockets };
        let ip = address.ip();
        if !self.ranges.is_empty() {
            return self.ranges.iter().any(|range| range.contains(&ip));
        }
        match ip {
            IpAddr::V4(v4) => v4.is_private() || v4.is_loopback(),
            IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_addresses_count_from_the_right_across_lines() {
        let mut headers = HeaderMap::new();
        headers.append(&names::X_FORWARDED_FOR, HeaderValue::from_static("10.0.0.1, 10.0.0.2"));
        headers.append(&names::X_FORWARDED_FOR, HeaderValue::from_static("10.0.0.3"));
        let at = |index| forwarded_from_right(&headers, index).map(|ip| ip.to_string());
        assert_eq!(at(0).as_deref(), Some("10.0.0.3"));
        assert_eq!(at(2).as_deref(), Some("10.0.0.1"));
        assert_eq!(at(3), None);
    }

    #[test]
    fn te_keeps_only_trailers() {
        let mut headers = HeaderMap::new();
        headers.insert(TE, HeaderValue::from_static("gzip, Trailers"));
        remove_hop_by_hop(&mut headers, Present::TE, false);
        assert_eq!(headers[TE], "trailers");
        headers.insert(TE, HeaderValue::from_static("gzip"));
        remove_hop_by_hop(&mut headers, Present::TE, false);
        assert!(!headers.contains_key(TE));
    }

    #[test]
    fn lists_are_joined_without_a_space() {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_static("1.2.3.4");
        append_to_list(&mut headers, &names::X_FORWARDED_FOR, &value, ",");
        append_to_list(&mut headers, &names::X_FORWARDED_FOR, &value, ",");
        assert_eq!(headers[&names::X_FORWARDED_FOR], "1.2.3.4,1.2.3.4");
    }
}
