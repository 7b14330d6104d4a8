//! Translating listeners.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proto::envoy::config::core::v3::TrafficDirection;
use proto::envoy::config::listener::v3 as pb;
use proto::envoy::config::listener::v3::listener::DrainType;
use proto::xds::core::v3::TypedExtensionConfig;

use super::filter_chain::check_unique;
use super::{
    ChainName, ChainTree, Direction, FilterChain, FilterChainMatch, Listener, ListenerFilter,
    ListenerFilterKind,
};
use crate::config::access_log::AccessLog;
use crate::config::matcher::tree::{Scope, Tree};
use crate::config::value::{address, enumeration, non_empty, required, timeout, within};
use crate::config::{At, ConfigError, Context, any};
use crate::io::Address;
use crate::{refuse_set, warn_set};

/// `per_connection_buffer_limit_bytes`, when it is not set.
const DEFAULT_BUFFER_LIMIT: u32 = 1 << 20;
/// `listener_filters_timeout`, when it is not set.
const DEFAULT_FILTERS_TIMEOUT: Duration = Duration::from_secs(15);

impl Listener {
    /// An `envoy.config.listener.v3.Listener`.
    pub fn from_proto(
        message: &pb::Listener,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Listener, ConfigError> {
        check_unsupported(message, at)?;
        warn_without_effect(message, at, context)?;
        let addresses = addresses(message, at)?;
        let first = addresses[0].to_string();
        let limit = message.per_connection_buffer_limit_bytes;
        let buffer_limit = limit.map_or(DEFAULT_BUFFER_LIMIT, |limit| limit.value);
        let (filter_chains, default_filter_chain) =
            filter_chains(message, buffer_limit, at, context)?;
        let chain_tree = chain_tree(message, &filter_chains, at, context)?;
        let listener_filters = listener_filters(message, at, context)?;
        if chain_tree.is_none() {
            warn_without_inspector(&filter_chains, &listener_filters, at, context);
        }
        let on = |value: Option<proto::google::protobuf::BoolValue>, default: bool| {
            value.map_or(default, |value| value.value)
        };
        let or = |text: &str, default: &str| match text {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        let bind_v1 = message.deprecated_v1.and_then(|v1| v1.bind_to_port);
        let drain = enumeration::<DrainType>(message.drain_type, &at.field("drain_type"))?;
        Ok(Listener {
            name: or(&message.name, &first).into(),
            stat_name: or(&message.stat_prefix, &first).replace(':', "_").into(),
            addresses,
            direction: direction(message, at)?,
            bind_to_port: on(message.bind_to_port.or(bind_v1), true),
            use_original_dst: on(message.use_original_dst, false),
            transparent: on(message.transparent, false),
            freebind: on(message.freebind, false),
            // The deprecated `reuse_port` can only say what is the default.
            reuse_port: on(message.enable_reuse_port, true),
            backlog: message.tcp_backlog_size.map(|size| size.value),
            buffer_limit,
            listener_filters,
            listener_filters_timeout: timeout(
                message.listener_filters_timeout,
                Some(DEFAULT_FILTERS_TIMEOUT),
                &at.field("listener_filters_timeout"),
            )?,
            continue_on_timeout: message.continue_on_listener_filters_timeout,
            filter_chains,
            default_filter_chain,
            chain_tree,
            access_log: AccessLog::from_list(&message.access_log, "access_log", at, context)?,
            drain_modify_only: drain == DrainType::ModifyOnly,
            ignore_global_connection_limit: message.ignore_global_conn_limit,
        })
    }
}

fn check_unsupported(message: &pb::Listener, at: &At<'_>) -> Result<(), ConfigError> {
    refuse_set!(at, message, [fcds_config, api_listener]);
    refuse_set!(at, message, [udp_listener_config, socket_options, tcp_keepalive]);
    refuse_set!(at, message, [per_connection_buffer_high_watermark_timeout]);
    if message.listener_specifier.is_some() {
        return Err(at.field("internal_listener").unsupported());
    }
    Ok(())
}

fn warn_without_effect(
    message: &pb::Listener,
    at: &At<'_>,
    context: &Context,
) -> Result<(), ConfigError> {
    // Checked, although it has no effect: Envoy refuses 0.
    let at_batch = at.field("max_connections_to_accept_per_socket_event");
    within(message.max_connections_to_accept_per_socket_event, 1, (1, u32::MAX), &at_batch)?;
    warn_set!(context, at, message, [metadata], "nothing in Pillion reads it");
    warn_set!(context, at, message, [stats_matcher], "every statistic is kept");
    warn_set!(context, at, message, [connection_balance_config], "the kernel balances");
    warn_set!(context, at, message, [enable_mptcp], "plain TCP is spoken, as MPTCP falls back to");
    warn_set!(context, at, message, [bypass_overload_manager], "Pillion has no overload manager");
    warn_set!(
        context,
        at,
        message,
        [tcp_fast_open_queue_length],
        "clients fall back to a handshake"
    );
    warn_set!(
        context,
        at,
        message,
        [max_connections_to_accept_per_socket_event],
        "connections are accepted one by one"
    );
    Ok(())
}

/// `address` and `additional_addresses`; at least one.
fn addresses(message: &pb::Listener, at: &At<'_>) -> Result<Vec<Address>, ConfigError> {
    let at_first = at.field("address");
    let first = address(required(&message.address, &at_first)?, &at_first);
    let others = message.additional_addresses.iter().enumerate().map(|(index, other)| {
        let at = at.index("additional_addresses", index);
        refuse_set!(at, other, [socket_options, tcp_keepalive]);
        let at = at.field("address");
        address(required(&other.address, &at)?, &at)
    });
    std::iter::once(first).chain(others).collect()
}

fn direction(message: &pb::Listener, at: &At<'_>) -> Result<Direction, ConfigError> {
    let at = at.field("traffic_direction");
    Ok(match enumeration(message.traffic_direction, &at)? {
        TrafficDirection::Unspecified => Direction::Unspecified,
        TrafficDirection::Inbound => Direction::Inbound,
        TrafficDirection::Outbound => Direction::Outbound,
    })
}

type Chains = (Vec<Arc<FilterChain>>, Option<Arc<FilterChain>>);

/// `filter_chains` and `default_filter_chain`; at least one of them.
fn filter_chains(
    message: &pb::Listener,
    buffer_limit: u32,
    at: &At<'_>,
    context: &Context,
) -> Result<Chains, ConfigError> {
    let chain = |message: &pb::FilterChain, at: &At<'_>| {
        FilterChain::from_proto(message, buffer_limit, at, context).map(Arc::new)
    };
    let chains = message.filter_chains.iter().enumerate();
    let chains = chains.map(|(index, message)| chain(message, &at.index("filter_chains", index)));
    let chains = chains.collect::<Result<Vec<_>, _>>()?;
    match message.filter_chain_matcher {
        Some(_) => check_names(&chains, at, context)?,
        None => check_unique(&chains, at)?,
    }
    let default = message.default_filter_chain.as_ref();
    let default = default.map(|default| chain(default, &at.field("default_filter_chain")));
    if chains.is_empty() && default.is_none() {
        return Err(at.field("filter_chains").error("no filter chains specified"));
    }
    Ok((chains, default.transpose()?))
}

/// Where a tree chooses, it does so by names, and what the chains match is not asked.
fn check_names(
    chains: &[Arc<FilterChain>],
    at: &At<'_>,
    context: &Context,
) -> Result<(), ConfigError> {
    let mut seen = HashSet::new();
    for (index, chain) in chains.iter().enumerate() {
        let at = at.index("filter_chains", index);
        let at_name = at.field("name");
        non_empty(&chain.name, &at_name)?;
        if !seen.insert(&chain.name) {
            return Err(at_name.error(format_args!("{:?} stands in another chain", &*chain.name)));
        }
        if chain.matches != FilterChainMatch::default() {
            context.warn(&at.field("filter_chain_match"), "filter_chain_matcher chooses");
        }
    }
    Ok(())
}

/// `filter_chain_matcher`, whose actions are names of chains.
fn chain_tree(
    message: &pb::Listener,
    chains: &[Arc<FilterChain>],
    at: &At<'_>,
    context: &Context,
) -> Result<Option<ChainTree>, ConfigError> {
    let Some(matcher) = &message.filter_chain_matcher else { return Ok(None) };
    let action = |extension: &TypedExtensionConfig, at: &At<'_>| {
        let config = extension.typed_config.as_ref();
        let at = at.field("typed_config");
        if !any::is::<String>(config) {
            return Err(any::unknown(&extension.name, config, &at));
        }
        let name: String = any::open(config, &at)?;
        let position = chains.iter().position(|chain| *chain.name == *name);
        if position.is_none() {
            context.warn(
                &at,
                format_args!(
                    "there is no filter chain {name:?}: connections that this leads to are closed"
                ),
            );
        }
        Ok(position.map_or(ChainName::Unknown, ChainName::Known))
    };
    let at = at.field("filter_chain_matcher");
    let tree = Tree::from_proto(matcher, Scope::Listener, &action, &at, context)?;
    Ok(Some(Arc::new(tree)))
}

/// `listener_filters`. Like Envoy, `use_original_dst` adds the filter that it needs.
fn listener_filters(
    message: &pb::Listener,
    at: &At<'_>,
    context: &Context,
) -> Result<Vec<ListenerFilter>, ConfigError> {
    let filters = message.listener_filters.iter().enumerate().map(|(index, filter)| {
        ListenerFilter::from_proto(filter, &at.index("listener_filters", index), context)
    });
    let mut filters = filters.collect::<Result<Vec<_>, _>>()?;
    let restores =
        filters.iter().any(|filter| matches!(filter.kind, ListenerFilterKind::OriginalDst));
    if message.use_original_dst.is_some_and(|value| value.value) && !restores {
        filters.push(ListenerFilter { kind: ListenerFilterKind::OriginalDst, disabled: None });
    }
    Ok(filters)
}

/// Warns of chains that ask for what only a TLS inspector would find out; Envoy no longer adds one by itself.
fn warn_without_inspector(
    chains: &[Arc<FilterChain>],
    filters: &[ListenerFilter],
    at: &At<'_>,
    context: &Context,
) {
    if filters.iter().any(|filter| matches!(filter.kind, ListenerFilterKind::TlsInspector)) {
        return;
    }
    for (index, chain) in chains.iter().enumerate() {
        if chain.matches.needs_tls_inspector() {
            let at = at.index("filter_chains", index);
            let at = at.field("filter_chain_match");
            context.warn(&at, "matches no connection without the listener filter tls_inspector");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::listener::SourceType;
    use crate::config::testing::message;

    const ADDRESS: &str = "address: {socket_address: {address: '::1', port_value: 80}}";
    const TCP: &str = "filters: [{name: tcp, typed_config: {stat_prefix: s, cluster: c,
        '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy}}]";

    fn translate(fields: &str) -> (Result<Listener, ConfigError>, Vec<String>) {
        let context = Context::default();
        let yaml = format!("{{{ADDRESS}, {fields}}}").replace("TCP", TCP);
        let listener =
            Listener::from_proto(&message(&yaml), &At::resource("listener", "l"), &context);
        (listener, context.take_warnings())
    }

    #[test]
    fn defaults_are_envoys() {
        let (listener, warnings) = translate("filter_chains: [{TCP}]");
        let listener = listener.unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!((&*listener.name, &*listener.stat_name), ("[::1]:80", "[__1]_80"));
        assert!(listener.bind_to_port && listener.reuse_port && !listener.use_original_dst);
        assert_eq!(listener.buffer_limit, 1 << 20);
        assert_eq!(listener.listener_filters_timeout, Some(Duration::from_secs(15)));
        assert_eq!(listener.filter_chains[0].filters.len(), 1);
        assert_eq!(listener.direction, Direction::Unspecified);
    }

    #[test]
    fn original_destinations_need_their_filter_once() {
        let filters = |fields: &str| -> Vec<ListenerFilterKind> {
            let filters = translate(fields).0.unwrap().listener_filters;
            filters.into_iter().map(|filter| filter.kind).collect()
        };
        let added = filters("use_original_dst: true, filter_chains: [{TCP}]");
        assert!(matches!(added[..], [ListenerFilterKind::OriginalDst]));
        let given = filters(
            "use_original_dst: true, filter_chains: [{TCP}], listener_filters: [
              {name: o, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}},
              {name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}},
              {name: p, typed_config: {disallowed_versions: [V1],
                '@type': type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol}}]",
        );
        assert!(matches!(
            given[..],
            [
                ListenerFilterKind::OriginalDst,
                ListenerFilterKind::TlsInspector,
                ListenerFilterKind::ProxyProtocol {
                    optional: false,
                    disallowed: [true, false],
                    ..
                },
            ]
        ));
    }

    #[test]
    fn a_match_is_translated_whole() {
        let (listener, warnings) = translate(
            "filter_chains: [{TCP, name: c, filter_chain_match: {destination_port: 443,
               prefix_ranges: [{address_prefix: 10.1.2.3, prefix_len: 8}],
               server_names: ['*.Example.com', a], transport_protocol: tls,
               application_protocols: [h2], source_type: EXTERNAL, source_ports: [1, 65535]}}]",
        );
        let rule = listener.unwrap().filter_chains[0].matches.clone();
        assert_eq!(rule.destination_port, Some(443));
        assert_eq!(rule.destination, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(rule.server_names, ["*.example.com".into(), "a".into()]);
        assert_eq!(rule.source_type, SourceType::External);
        assert_eq!(rule.source_ports, [1, 65535]);
        assert!(warnings[0].contains("tls_inspector"), "{warnings:?}");
    }

    #[test]
    fn bad_listeners_are_refused_with_path_and_rule() {
        for (fields, path, rule) in [
            ("name: l", "filter_chains", "no filter chains"),
            ("filter_chains: [{TCP}, {TCP}]", "filter_chains[1]", "overlap"),
            (
                "filter_chains: [{TCP, filter_chain_match: {server_names: [a, b]}},
                                 {TCP, filter_chain_match: {server_names: [c, B]}}]",
                "filter_chains[1]",
                "overlap",
            ),
            (
                "filter_chains: [{TCP, filter_chain_match: {source_ports: [1, 1]}}]",
                "filter_chains[0].filter_chain_match",
                "twice",
            ),
            (
                "filter_chains: [{TCP, filter_chain_match: {server_names: ['a*']}}]",
                "filter_chains[0].filter_chain_match.server_names[0]",
                "partial wildcards",
            ),
            (
                "filter_chains: [{TCP, filter_chain_match: {destination_port: 0}}]",
                "filter_chains[0].filter_chain_match.destination_port",
                "0 is not within",
            ),
            (
                "filter_chains: [{filters: [{name: x, typed_config: {
                   '@type': type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy}}]}]",
                "filter_chains[0].filters[0].typed_config",
                "redis_proxy.v3.RedisProxy",
            ),
            (
                "filter_chains: [{TCP}], listener_filters: [{name: t, filter_disabled: {or_match: {rules: [{any_match: true}]}},
                   typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}]",
                "listener_filters[0].filter_disabled.or_match.rules",
                "at least 2",
            ),
            (
                "filter_chains: [{TCP}], max_connections_to_accept_per_socket_event: 0",
                "max_connections_to_accept_per_socket_event",
                "0 is not within",
            ),
            ("filter_chains: [{TCP}], internal_listener: {}", "internal_listener", "not supported"),
        ] {
            let error = translate(fields).0.unwrap_err();
            assert_eq!(error.path, format!("listener \"l\": {path}"), "{error}");
            assert!(error.message.contains(rule), "{error}");
        }
    }

    #[test]
    fn chains_that_differ_in_one_condition_are_accepted() {
        let (listener, _) = translate(
            "filter_chains: [{TCP},
               {TCP, filter_chain_match: {server_names: [a]}},
               {TCP, filter_chain_match: {server_names: [a], application_protocols: [h2]}},
               {TCP, filter_chain_match: {destination_port: 1}},
               {TCP, filter_chain_match: {source_type: EXTERNAL}}],
             default_filter_chain: {TCP}",
        );
        assert_eq!(listener.unwrap().filter_chains.len(), 5);
    }

    #[test]
    fn a_fingerprint_tells_changed_chains_from_others() {
        let fingerprint = |chain: &str| {
            let listener = translate(&format!("filter_chains: [{chain}]")).0.unwrap();
            listener.filter_chains[0].fingerprint
        };
        let plain = fingerprint("{TCP}");
        assert_eq!(plain, fingerprint("{TCP}"));
        assert_ne!(plain, fingerprint("{TCP, name: x}"));
        let metadata = "{TCP, metadata: {filter_metadata: {a: {b: 1}, c: {d: 2}, e: {f: 3}}}}";
        assert_eq!(plain, fingerprint(metadata));
    }
}
