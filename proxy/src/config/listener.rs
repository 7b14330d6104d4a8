//! Listeners (`envoy.config.listener.v3.Listener`).

mod filter_chain;
mod listener_filter;
mod predicate;
mod source_type;
mod translate;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use predicate::Predicate;
pub use source_type::SourceType;

use crate::config::access_log::AccessLog;
use crate::config::filter_state::StateValues;
use crate::config::matcher::tree::Tree;
use crate::config::network_filter::NetworkFilter;
use crate::config::tls::DownstreamTls;
use crate::io::Address;

/// A listener: where connections come in and which filter chain serves each.
#[derive(Clone, Debug)]
pub struct Listener {
    /// `name`
    pub name: Arc<str>,
    /// `address` and `additional_addresses`; at least one.
    pub addresses: Vec<Address>,
    /// `stat_prefix`, or the first address; what stands in statistics (with `:` replaced by `_`).
    pub stat_name: Arc<str>,
    /// `traffic_direction`
    pub direction: Direction,
    /// `bind_to_port`; a listener that does not bind only gets hand-offs.
    pub bind_to_port: bool,
    /// `use_original_dst`: connections are handed to the listener of their original destination.
    pub use_original_dst: bool,
    /// `transparent`: sockets accept connections to foreign addresses (TPROXY).
    pub transparent: bool,
    /// `freebind`
    pub freebind: bool,
    /// `enable_reuse_port`: a socket per worker; default true.
    pub reuse_port: bool,
    /// `tcp_backlog_size`; none is the system's maximum.
    pub backlog: Option<u32>,
    /// `per_connection_buffer_limit_bytes`; default 1 MiB.
    pub buffer_limit: u32,
    /// `listener_filters`, in order.
    pub listener_filters: Vec<ListenerFilter>,
    /// `listener_filters_timeout`; default 15 s, none for 0.
    pub listener_filters_timeout: Option<Duration>,
    /// `continue_on_listener_filters_timeout`
    pub continue_on_timeout: bool,
    /// `filter_chains`
    pub filter_chains: Vec<Arc<FilterChain>>,
    /// `default_filter_chain`
    pub default_filter_chain: Option<Arc<FilterChain>>,
    /// `filter_chain_matcher`: chooses among the chains by their names, whatever each of them matches.
    pub chain_tree: Option<ChainTree>,
    /// `access_log`: for connections that no chain served.
    pub access_log: Vec<AccessLog>,
    /// `drain_type` is `MODIFY_ONLY`: not drained by a failed health check.
    pub drain_modify_only: bool,
    /// `ignore_global_conn_limit`
    pub ignore_global_connection_limit: bool,
}

/// `TrafficDirection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `UNSPECIFIED`
    Unspecified,
    /// `INBOUND`
    Inbound,
    /// `OUTBOUND`
    Outbound,
}

/// A listener filter.
#[derive(Clone, Debug)]
pub struct ListenerFilter {
    /// What it does.
    pub kind: ListenerFilterKind,
    /// `filter_disabled`: for which connections it is skipped.
    pub disabled: Option<Predicate>,
}

/// What a listener filter does.
#[derive(Clone, Debug)]
pub enum ListenerFilterKind {
    /// `envoy.filters.listener.tls_inspector`
    TlsInspector,
    /// `envoy.filters.listener.http_inspector`
    HttpInspector,
    /// `envoy.filters.listener.original_dst`
    OriginalDst,
    /// `envoy.filters.listener.original_src`: connections to hosts come from the client's address.
    OriginalSrc {
        /// `mark`: `SO_MARK` of their sockets; 0 is none.
        mark: u32,
    },
    /// `envoy.filters.listener.set_filter_state`
    FilterState(Arc<StateValues>),
    /// `envoy.filters.listener.proxy_protocol`
    ProxyProtocol {
        /// `allow_requests_without_proxy_protocol`
        optional: bool,
        /// Versions that are refused (`disallowed_versions`): v1, v2.
        disallowed: [bool; 2],
        /// `stat_prefix`: what stands behind `proxy_proto.` in statistics; may be empty.
        stat_prefix: Arc<str>,
    },
}

/// `FilterChain`.
#[derive(Clone, Debug)]
pub struct FilterChain {
    /// `name`
    pub name: Arc<str>,
    /// `filter_chain_match`
    pub matches: FilterChainMatch,
    /// `transport_socket`; none means plaintext.
    pub tls: Option<Arc<DownstreamTls>>,
    /// `transport_socket_connect_timeout`: for the TLS handshake; none for 0.
    pub handshake_timeout: Option<Duration>,
    /// `filters`, in order; the last one is terminal. Empty chains close connections at once.
    pub filters: Vec<NetworkFilter>,
    /// A hash of the protobuf message as it came: equal hashes mean an unchanged chain.
    pub fingerprint: u64,
}

/// `FilterChainMatch`; empty lists match everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FilterChainMatch {
    /// `destination_port`
    pub destination_port: Option<u16>,
    /// `prefix_ranges`
    pub destination: Vec<IpNet>,
    /// `server_names` in lower case; `*.example.com` is kept with its star.
    pub server_names: Vec<Box<str>>,
    /// `transport_protocol`: `tls` or `raw_buffer`; empty matches any.
    pub transport_protocol: Box<str>,
    /// `application_protocols`
    pub application_protocols: Vec<Box<str>>,
    /// `direct_source_prefix_ranges`
    pub direct_source: Vec<IpNet>,
    /// `source_type`
    pub source_type: SourceType,
    /// `source_prefix_ranges`
    pub source: Vec<IpNet>,
    /// `source_ports`
    pub source_ports: Vec<u16>,
}

/// `filter_chain_matcher`: where it leads nowhere, the default chain serves.
pub type ChainTree = Arc<Tree<ChainName>>;

/// A filter chain that a tree names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainName {
    /// Its place among `filter_chains`.
    Known(usize),
    /// There is none of the name: the connection has no chain.
    Unknown,
}
