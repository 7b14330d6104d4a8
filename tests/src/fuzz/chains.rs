//! The choice of a filter chain.

use std::sync::Arc;

use fastrand::Rng;
use ipnet::IpNet;
use pillion::config::listener::{FilterChainMatch, SourceType};
use pillion::downstream::filter_chain::{Facts, FilterChains};
use pillion::io::Address;
use proto::envoy::config::core::v3::CidrRange;
use proto::envoy::config::listener::v3 as pb;

use super::Check;
use super::input::{one, some};
use super::resources::{LISTENER, translate_listener};

const ADDRESSES: &[&str] = &["10.0.0.1", "10.0.0.2", "10.1.0.1", "127.0.0.1", "::1"];
const NAMES: &[&str] = &["a.b.c", "b.c", "*.b.c", "*.c", "c", ""];
const PROTOCOLS: &[&str] = &["h2", "http/1.1", "istio"];

/// The chain that is chosen matches the connection, and the order of the chains does not matter.
pub fn filter_chains() -> Check {
    let registry = proto::Registry::load();
    let sample: pb::Listener = registry.from_yaml(LISTENER).expect("the sample is good");
    Box::new(move |rng| {
        let chains = some(rng, 6, |rng| pb::FilterChain {
            name: rng.u32(..).to_string(),
            filter_chain_match: Some(rule(rng)),
            ..pb::FilterChain::default()
        });
        // Chains that overlap are refused.
        let Ok(listener) =
            translate_listener(&pb::Listener { filter_chains: chains, ..sample.clone() })
        else {
            return;
        };
        let chains = listener.filter_chains.iter();
        let numbered: Vec<_> =
            chains.enumerate().map(|(i, chain)| (chain.matches.clone(), i)).collect();
        let reversed = numbered.iter().rev().cloned().collect();
        let facts = facts(rng);
        let found = FilterChains::new(numbered.clone(), None).find(&facts).copied();
        assert_eq!(
            found,
            FilterChains::new(reversed, None).find(&facts).copied(),
            "{facts:?} {numbered:?}"
        );
        if let Some(index) = found {
            assert!(fits(&numbered[index].0, &facts), "{facts:?} {:?}", numbered[index]);
        }
    })
}

fn rule(rng: &mut Rng) -> pb::FilterChainMatch {
    let texts = |rng: &mut Rng, of: &[&str]| some(rng, 2, |rng| (*one(rng, of)).to_owned());
    pb::FilterChainMatch {
        destination_port: rng
            .bool()
            .then(|| proto::google::protobuf::UInt32Value { value: rng.u32(80..82) }),
        prefix_ranges: ranges(rng),
        server_names: texts(rng, &NAMES[..5]),
        transport_protocol: (*one(rng, &["tls", "raw_buffer", ""])).to_owned(),
        application_protocols: texts(rng, PROTOCOLS),
        direct_source_prefix_ranges: ranges(rng),
        source_type: rng.i32(0..3),
        source_prefix_ranges: ranges(rng),
        source_ports: some(rng, 1, |rng| rng.u32(1000..1002)),
        ..pb::FilterChainMatch::default()
    }
}

fn ranges(rng: &mut Rng) -> Vec<CidrRange> {
    // Most chains ask for little, or no connection would find one.
    let most = usize::from(rng.u8(..3) == 0);
    some(rng, most, |rng| CidrRange {
        address_prefix: (*one(rng, ADDRESSES)).to_owned(),
        prefix_len: Some(proto::google::protobuf::UInt32Value { value: rng.u32(..=32) }),
    })
}

fn facts(rng: &mut Rng) -> Facts {
    let address = |rng: &mut Rng, port: u16| {
        let ip = one(rng, ADDRESSES).parse::<std::net::IpAddr>().expect("it is one");
        Address::Ip((ip, port).into())
    };
    let (local, source) = (rng.u16(80..83), rng.u16(1000..1003));
    Facts {
        local: address(rng, local),
        local_restored: false,
        source: None,
        remote: address(rng, source),
        direct_remote: address(rng, source),
        server_name: Arc::from(one(rng, NAMES).trim_start_matches("*.")),
        transport_protocol: one::<&str>(rng, &["tls", "raw_buffer"]),
        application_protocols: some(rng, 2, |rng| (*one(rng, PROTOCOLS)).to_owned()),
        filter_state: Default::default(),
    }
}

/// Whether every criterion of the rule holds, taken alone.
fn fits(rule: &FilterChainMatch, facts: &Facts) -> bool {
    let within = |ranges: &[IpNet], address: &Address| {
        let ip = address.ip().map(|address| address.ip());
        ranges.is_empty() || ranges.iter().any(|range| ip.is_some_and(|ip| range.contains(&ip)))
    };
    let named = |name: &str| match name.strip_prefix('*') {
        Some(suffix) => facts.server_name.ends_with(suffix),
        None => *facts.server_name == *name,
    };
    let protocols = &rule.application_protocols;
    let same = facts.remote.ip().map(|a| a.ip()) == facts.local.ip().map(|a| a.ip());
    let port = |address: &Address| address.port().unwrap_or_default();
    rule.destination_port.is_none_or(|wanted| wanted == port(&facts.local))
        && within(&rule.destination, &facts.local)
        && (rule.server_names.is_empty() || rule.server_names.iter().any(|name| named(name)))
        && (rule.transport_protocol.is_empty()
            || *rule.transport_protocol == *facts.transport_protocol)
        && (protocols.is_empty()
            || facts.application_protocols.iter().any(|p| protocols.iter().any(|q| **q == **p)))
        && within(&rule.direct_source, &facts.direct_remote)
        && (rule.source_type != SourceType::External || !same)
        && within(&rule.source, &facts.remote)
        && (rule.source_ports.is_empty() || rule.source_ports.contains(&port(&facts.remote)))
}
