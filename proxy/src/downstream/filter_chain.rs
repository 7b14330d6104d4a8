//! Which filter chain serves a connection: Envoy's order of criteria, most specific first, without going back.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;

use crate::config::listener::{ChainName, ChainTree, FilterChainMatch, SourceType};
use crate::config::matcher::{ConnectionView, MatchInput};
use crate::io::{Address, Source};
use crate::telemetry::filter_state::FilterState;
use crate::telemetry::stream_info::ConnectionInfo;

/// What is known of a connection when its filter chain is chosen.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The address that the peer meant to reach.
    pub local: Address,
    /// Whether a listener filter told it.
    pub local_restored: bool,
    /// What connections to hosts must seem to come from, if a listener filter asked for it.
    pub source: Option<Source>,
    /// The peer's address, as the PROXY protocol may have told it.
    pub remote: Address,
    /// The socket's peer.
    pub direct_remote: Address,
    /// SNI in lower case; empty if none.
    pub server_name: Arc<str>,
    /// `tls` or `raw_buffer`.
    pub transport_protocol: &'static str,
    /// The client's ALPN list, in its order.
    pub application_protocols: Vec<String>,
    /// What listener filters left.
    pub filter_state: FilterState,
}

impl Facts {
    /// What is known so far, as a connection's facts: without a number, a chain or TLS.
    pub fn into_connection_info(self) -> ConnectionInfo {
        let facts = self;
        ConnectionInfo {
            id: 0,
            direct_local: facts.local.clone(),
            local: facts.local,
            local_restored: facts.local_restored,
            source: facts.source,
            remote: facts.remote,
            direct_remote: facts.direct_remote,
            requested_server_name: (!facts.server_name.is_empty()).then_some(facts.server_name),
            transport_protocol: facts.transport_protocol,
            application_protocols: facts.application_protocols,
            filter_state: facts.filter_state,
            filter_chain_name: Arc::from(""),
            tls: None,
            transport_failure: None,
            accepted: Instant::now(),
        }
    }

    fn view(&self) -> MatchInput<'_> {
        MatchInput::connection(ConnectionView {
            id: 0,
            local: &self.local,
            remote: &self.remote,
            direct_remote: &self.direct_remote,
            server_name: &self.server_name,
            transport_protocol: self.transport_protocol,
            application_protocols: &self.application_protocols,
            filter_state: Some(&self.filter_state),
            tls: None,
        })
    }
}

/// The chains of a listener with what each matches. `T` is what serves the connection.
pub struct FilterChains<T> {
    chains: Vec<(FilterChainMatch, T)>,
    default: Option<T>,
    /// `filter_chain_matcher`: chooses instead of what the chains match.
    tree: Option<ChainTree>,
}

impl<T> FilterChains<T> {
    /// Chains whose matches are unique.
    pub fn new(chains: Vec<(FilterChainMatch, T)>, default: Option<T>) -> Self {
        FilterChains { chains, default, tree: None }
    }

    /// The same with a tree that chooses.
    pub fn chosen_by(self, tree: Option<ChainTree>) -> Self {
        FilterChains { tree, ..self }
    }

    /// Every chain, the default one last.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chains.iter().map(|(_, chain)| chain).chain(&self.default)
    }

    /// The chain for a connection. Each criterion keeps only the chains with the most specific value that fits; when none
    /// is left, the default chain serves, even if a less specific value of an earlier criterion would have led further.
    pub fn find(&self, facts: &Facts) -> Option<&T> {
        if let Some(tree) = &self.tree {
            return match tree.find(&facts.view()) {
                Ok(Some(ChainName::Known(index))) => self.chains.get(*index).map(|(_, c)| c),
                Ok(Some(ChainName::Unknown)) => None,
                Ok(None) | Err(_) => self.default.as_ref(),
            };
        }
        // A single chain that matches everything is the usual case.
        if let [(only, chain)] = self.chains.as_slice()
            && *only == FilterChainMatch::default()
        {
            return Some(chain);
        }
        let mut left: Vec<&(FilterChainMatch, T)> = self.chains.iter().collect();
        by_destination_port(&mut left, facts);
        by_prefix(&mut left, facts.local.ip().map(|a| a.ip()), |m| &m.destination);
        by_server_name(&mut left, &facts.server_name);
        by_transport(&mut left, facts.transport_protocol);
        by_application_protocol(&mut left, &facts.application_protocols);
        by_prefix(&mut left, facts.direct_remote.ip().map(|a| a.ip()), |m| &m.direct_source);
        by_source_type(&mut left, facts);
        by_prefix(&mut left, facts.remote.ip().map(|a| a.ip()), |m| &m.source);
        by_source_port(&mut left, facts.remote.port());
        left.first().map(|(_, chain)| chain).or(self.default.as_ref())
    }
}

type Left<'a, T> = Vec<&'a (FilterChainMatch, T)>;

/// Keeps the chains that `specific` holds for; if there are none, those that do not ask at all.
fn narrow<T>(
    left: &mut Left<'_, T>,
    specific: impl Fn(&FilterChainMatch) -> bool,
    any: impl Fn(&FilterChainMatch) -> bool,
) {
    if left.iter().any(|(m, _)| specific(m)) {
        left.retain(|(m, _)| specific(m));
    } else {
        left.retain(|(m, _)| any(m));
    }
}

fn by_destination_port<T>(left: &mut Left<'_, T>, facts: &Facts) {
    let port = facts.local.port();
    narrow(
        left,
        |m| m.destination_port.is_some() && m.destination_port == port,
        |m| m.destination_port.is_none(),
    );
}

fn by_prefix<T>(
    left: &mut Left<'_, T>,
    address: Option<IpAddr>,
    ranges: impl Fn(&FilterChainMatch) -> &Vec<IpNet>,
) {
    let fitting = |m: &FilterChainMatch| {
        let ranges = ranges(m).iter().filter(|range| address.is_some_and(|a| range.contains(&a)));
        ranges.map(IpNet::prefix_len).max()
    };
    let longest = left.iter().filter_map(|(m, _)| fitting(m)).max();
    narrow(left, |m| longest.is_some() && fitting(m) == longest, |m| ranges(m).is_empty());
}

fn by_server_name<T>(left: &mut Left<'_, T>, name: &str) {
    let has = |m: &FilterChainMatch, wanted: &str| m.server_names.iter().any(|n| **n == *wanted);
    if !name.is_empty() {
        let mut wanted = name.to_owned();
        let mut rest = name;
        loop {
            if left.iter().any(|(m, _)| has(m, &wanted)) {
                left.retain(|(m, _)| has(m, &wanted));
                return;
            }
            let Some((_, parent)) = rest.split_once('.') else { break };
            rest = parent;
            wanted = format!("*.{parent}");
        }
    }
    left.retain(|(m, _)| m.server_names.is_empty());
}

fn by_transport<T>(left: &mut Left<'_, T>, transport: &str) {
    narrow(left, |m| *m.transport_protocol == *transport, |m| m.transport_protocol.is_empty());
}

fn by_application_protocol<T>(left: &mut Left<'_, T>, offered: &[String]) {
    let has = |m: &FilterChainMatch, wanted: &str| {
        m.application_protocols.iter().any(|protocol| **protocol == *wanted)
    };
    let first = offered.iter().find(|wanted| left.iter().any(|(m, _)| has(m, wanted)));
    match first {
        Some(wanted) => left.retain(|(m, _)| has(m, wanted)),
        None => left.retain(|(m, _)| m.application_protocols.is_empty()),
    }
}

fn by_source_type<T>(left: &mut Left<'_, T>, facts: &Facts) {
    let wanted = SourceType::of(&facts.remote, &facts.local);
    narrow(left, |m| m.source_type == wanted, |m| m.source_type == SourceType::Any);
}

fn by_source_port<T>(left: &mut Left<'_, T>, port: Option<u16>) {
    narrow(
        left,
        |m| port.is_some_and(|port| m.source_ports.contains(&port)),
        |m| m.source_ports.is_empty(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            local: Address::Ip("10.1.2.3:443".parse().unwrap()),
            local_restored: false,
            source: None,
            remote: Address::Ip("192.168.1.9:5555".parse().unwrap()),
            direct_remote: Address::Ip("192.168.1.9:5555".parse().unwrap()),
            server_name: "a.b.example.com".into(),
            transport_protocol: "tls",
            application_protocols: vec!["istio".into(), "h2".into()],
            filter_state: FilterState::default(),
        }
    }

    fn chains(matches: Vec<FilterChainMatch>) -> FilterChains<usize> {
        let numbered = matches.into_iter().enumerate().map(|(i, m)| (m, i)).collect();
        FilterChains::new(numbered, Some(99))
    }

    #[test]
    fn the_most_specific_server_name_wins() {
        let names = |list: &[&str]| FilterChainMatch {
            server_names: list.iter().map(|n| (*n).into()).collect(),
            ..FilterChainMatch::default()
        };
        let set = chains(vec![
            names(&[]),
            names(&["*.example.com"]),
            names(&["*.b.example.com"]),
            names(&["a.b.example.com"]),
        ]);
        let find = |name: &str| set.find(&Facts { server_name: name.into(), ..facts() });
        assert_eq!(find("a.b.example.com"), Some(&3));
        assert_eq!(find("c.b.example.com"), Some(&2));
        assert_eq!(find("x.example.com"), Some(&1));
        assert_eq!(find("example.com"), Some(&0));
        assert_eq!(find(""), Some(&0));
    }

    #[test]
    fn there_is_no_way_back_from_a_specific_port() {
        let set = chains(vec![
            FilterChainMatch {
                destination_port: Some(443),
                transport_protocol: "raw_buffer".into(),
                ..Default::default()
            },
            FilterChainMatch { transport_protocol: "tls".into(), ..Default::default() },
        ]);
        assert_eq!(set.find(&facts()), Some(&99), "the default, not the chain without a port");
        let other = Facts { local: Address::Ip("10.1.2.3:80".parse().unwrap()), ..facts() };
        assert_eq!(set.find(&other), Some(&1));
    }

    #[test]
    fn the_longest_prefix_wins() {
        let range = |text: &str| FilterChainMatch {
            destination: vec![text.parse().unwrap()],
            ..FilterChainMatch::default()
        };
        let set = chains(vec![range("10.0.0.0/8"), range("10.1.0.0/16"), Default::default()]);
        assert_eq!(set.find(&facts()), Some(&1));
        let pipe = Facts { local: Address::Pipe(std::path::Path::new("/x").into()), ..facts() };
        assert_eq!(set.find(&pipe), Some(&2));
    }

    #[test]
    fn application_protocols_go_in_the_clients_order() {
        let alpn = |name: &str| FilterChainMatch {
            application_protocols: vec![name.into()],
            ..FilterChainMatch::default()
        };
        let set = chains(vec![alpn("h2"), alpn("istio")]);
        assert_eq!(set.find(&facts()), Some(&1));
    }

    #[test]
    fn source_type_and_ports_are_asked_last() {
        let set = chains(vec![
            FilterChainMatch { source_type: SourceType::External, ..Default::default() },
            FilterChainMatch { source_type: SourceType::Local, ..Default::default() },
            FilterChainMatch {
                source_type: SourceType::External,
                source_ports: vec![5555],
                ..Default::default()
            },
        ]);
        assert_eq!(set.find(&facts()), Some(&2));
        let local = Facts { remote: Address::Ip("127.0.0.1:1".parse().unwrap()), ..facts() };
        assert_eq!(set.find(&local), Some(&1));
        let other = Facts { remote: Address::Ip("127.0.0.9:1".parse().unwrap()), ..facts() };
        assert_eq!(set.find(&other), Some(&0));
    }
}
