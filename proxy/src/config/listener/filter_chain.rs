//! Translating filter chains and the conditions under which each serves a connection.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use ipnet::IpNet;
use prost::Message;
use proto::envoy::config::core::v3::CidrRange;
use proto::envoy::config::listener::v3 as pb;
use proto::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;

use super::{FilterChain, FilterChainMatch, SourceType};
use crate::config::network_filter::NetworkFilter;
use crate::config::tls::DownstreamTls;
use crate::config::value::{cidr, enumeration, timeout};
use crate::config::{At, ConfigError, Context};
use crate::{refuse_set, warn_set};

impl FilterChain {
    /// An `envoy.config.listener.v3.FilterChain` of a listener that buffers at most `buffer_limit` bytes a connection.
    pub(super) fn from_proto(
        message: &pb::FilterChain,
        buffer_limit: u32,
        at: &At<'_>,
        context: &Context,
    ) -> Result<FilterChain, ConfigError> {
        if message.use_proxy_proto.is_some_and(|value| value.value) {
            let rule = "is not supported; add the listener filter proxy_protocol instead";
            return Err(at.field("use_proxy_proto").error(rule));
        }
        warn_set!(context, at, message, [metadata], "nothing in Pillion reads it");
        let tls = message.transport_socket.as_ref();
        let handshake = at.field("transport_socket_connect_timeout");
        let matches = message
            .filter_chain_match
            .as_ref()
            .map(|rule| FilterChainMatch::from_proto(rule, &at.field("filter_chain_match")));
        Ok(FilterChain {
            name: message.name.as_str().into(),
            matches: matches.transpose()?.unwrap_or_default(),
            tls: DownstreamTls::from_transport_socket(tls, &at.field("transport_socket"), context)?,
            handshake_timeout: timeout(message.transport_socket_connect_timeout, None, &handshake)?,
            filters: NetworkFilter::chain_from_proto(&message.filters, buffer_limit, at, context)?,
            fingerprint: fingerprint(message),
        })
    }
}

/// A hash of the message. Metadata is left out: nothing reads it, and its maps have no fixed order.
fn fingerprint(message: &pb::FilterChain) -> u64 {
    let message = pb::FilterChain { metadata: None, ..message.clone() };
    xxhash_rust::xxh64::xxh64(&message.encode_to_vec(), 0)
}

impl FilterChainMatch {
    fn from_proto(
        message: &pb::FilterChainMatch,
        at: &At<'_>,
    ) -> Result<FilterChainMatch, ConfigError> {
        refuse_set!(at, message, [address_suffix, suffix_len]);
        let destination_port = message.destination_port.map(|value| value.value);
        let names = message.server_names.iter().enumerate();
        let ports = message.source_ports.iter().enumerate();
        let protocols = message.application_protocols.iter();
        Ok(FilterChainMatch {
            destination_port: destination_port
                .map(|value| port(value, &at.field("destination_port")))
                .transpose()?,
            destination: ranges(&message.prefix_ranges, "prefix_ranges", at)?,
            server_names: names
                .map(|(index, name)| server_name(name, &at.index("server_names", index)))
                .collect::<Result<_, _>>()?,
            transport_protocol: message.transport_protocol.as_str().into(),
            application_protocols: protocols.map(|name| name.as_str().into()).collect(),
            direct_source: ranges(
                &message.direct_source_prefix_ranges,
                "direct_source_prefix_ranges",
                at,
            )?,
            source_type: match enumeration(message.source_type, &at.field("source_type"))? {
                ConnectionSourceType::Any => SourceType::Any,
                ConnectionSourceType::SameIpOrLoopback => SourceType::Local,
                ConnectionSourceType::External => SourceType::External,
            },
            source: ranges(&message.source_prefix_ranges, "source_prefix_ranges", at)?,
            source_ports: ports
                .map(|(index, value)| port(*value, &at.index("source_ports", index)))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether a connection could satisfy both equally well: every list, if not both are empty, shares an element.
    fn overlaps(&self, other: &FilterChainMatch) -> bool {
        self.destination_port == other.destination_port
            && self.transport_protocol == other.transport_protocol
            && self.source_type == other.source_type
            && share(&self.destination, &other.destination)
            && share(&self.server_names, &other.server_names)
            && share(&self.application_protocols, &other.application_protocols)
            && share(&self.direct_source, &other.direct_source)
            && share(&self.source, &other.source)
            && share(&self.source_ports, &other.source_ports)
    }

    fn has_repetition(&self) -> bool {
        repeats(&self.destination)
            || repeats(&self.server_names)
            || repeats(&self.application_protocols)
            || repeats(&self.direct_source)
            || repeats(&self.source)
            || repeats(&self.source_ports)
    }

    /// Whether only the listener filter `tls_inspector` can tell what is asked for.
    pub(super) fn needs_tls_inspector(&self) -> bool {
        match &*self.transport_protocol {
            "tls" => true,
            "" => !self.server_names.is_empty() || !self.application_protocols.is_empty(),
            _ => false,
        }
    }
}

fn share<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    (one.is_empty() && other.is_empty()) || one.iter().any(|element| other.contains(element))
}

fn repeats<T: Eq + Hash>(list: &[T]) -> bool {
    let mut seen = HashSet::new();
    !list.iter().all(|element| seen.insert(element))
}

/// No two chains may serve the same connection, and no element of a list may stand twice.
pub(super) fn check_unique(chains: &[Arc<FilterChain>], at: &At<'_>) -> Result<(), ConfigError> {
    // Only chains with a port and a server name in common can overlap, which keeps this fast with thousands of chains.
    let mut known: HashMap<(Option<u16>, Option<&str>), Vec<&FilterChain>> = HashMap::new();
    for (index, chain) in chains.iter().enumerate() {
        let rule = &chain.matches;
        let at = at.index("filter_chains", index);
        if rule.has_repetition() {
            return Err(at.field("filter_chain_match").error("has an element twice in one list"));
        }
        let names = rule.server_names.iter().map(|name| Some(&**name));
        let no_name = rule.server_names.is_empty().then_some(None);
        for name in names.chain(no_name) {
            let others = known.entry((rule.destination_port, name)).or_default();
            if let Some(other) = others.iter().find(|other| other.matches.overlaps(rule)) {
                return Err(at.error(format_args!(
                    "filter chain {:?} has matching rules that overlap with those of {:?}",
                    &*chain.name, &*other.name
                )));
            }
            others.push(chain);
        }
    }
    Ok(())
}

fn ranges(ranges: &[CidrRange], field: &str, at: &At<'_>) -> Result<Vec<IpNet>, ConfigError> {
    let ranges = ranges.iter().enumerate();
    ranges.map(|(index, range)| cidr(range, &at.index(field, index))).collect()
}

/// A port that connections can have: 1 to 65535.
fn port(value: u32, at: &At<'_>) -> Result<u16, ConfigError> {
    let port = u16::try_from(value).ok().filter(|port| *port > 0);
    port.ok_or_else(|| at.error(format_args!("{value} is not within 1 and 65535")))
}

/// A server name in lower case; a star may only stand for whole labels at its start.
fn server_name(name: &str, at: &At<'_>) -> Result<Box<str>, ConfigError> {
    if name.strip_prefix("*.").unwrap_or(name).contains('*') {
        let rule = format!("{name:?}: partial wildcards are not supported; *.example.com is");
        return Err(at.error(rule));
    }
    Ok(name.to_ascii_lowercase().into())
}
