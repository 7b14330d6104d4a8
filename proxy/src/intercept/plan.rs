//! What is intercepted.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The IP version of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// The address that applications call themselves by: connections to it are never intercepted.
    pub fn loopback(self) -> IpNet {
        match self {
            Family::V4 => Ipv4Net::from(Ipv4Addr::LOCALHOST).into(),
            Family::V6 => Ipv6Net::from(Ipv6Addr::LOCALHOST).into(),
        }
    }

    /// Every address that a machine keeps to itself.
    pub fn own_range(self) -> IpNet {
        match self {
            Family::V4 => Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
            Family::V6 => self.loopback(),
        }
    }

    /// The address that the proxy's connections to the application come from when they must not be intercepted again:
    /// 127.0.0.6 or ::6, as in `InboundPassthroughCluster`.
    pub fn passthrough(self) -> IpNet {
        match self {
            Family::V4 => Ipv4Net::from(Ipv4Addr::new(127, 0, 0, 6)).into(),
            Family::V6 => Ipv6Net::from(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)).into(),
        }
    }

    /// The version of an address range.
    pub fn of(range: &IpNet) -> Family {
        match range {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }
}

/// How inbound connections reach the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inbound {
    /// NAT: the kernel rewrites the destination and remembers the original one (`SO_ORIGINAL_DST`).
    #[default]
    Redirect,
    /// TPROXY: nothing is rewritten; the listener is `transparent`, and the proxy can keep the client's address
    /// towards the application (`envoy.filters.listener.original_src`).
    Tproxy,
}

/// Ports that are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortSet {
    /// All of them.
    All,
    /// These; none if empty.
    Only(Vec<u16>),
}

/// Destinations that are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeSet {
    /// All of them.
    All,
    /// These; none if empty.
    Only(Vec<IpNet>),
}

/// What is intercepted and where it goes. The default is Istio's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// IP versions; default both.
    pub families: Vec<Family>,
    /// How inbound connections reach the proxy.
    pub inbound: Inbound,
    /// Where the proxy takes inbound connections; default 15006.
    pub inbound_port: u16,
    /// Where the proxy takes outbound connections; default 15001.
    pub outbound_port: u16,
    /// Where tunnels (HBONE) come in, which are not intercepted; default 15008.
    pub tunnel_port: u16,
    /// Inbound ports that are taken; default all.
    pub inbound_ports: PortSet,
    /// Inbound ports that are not; default 15020, 15021 and 15090: health and statistics.
    pub exclude_inbound_ports: Vec<u16>,
    /// Outbound destinations that are taken; default all.
    pub outbound_ranges: RangeSet,
    /// Outbound destinations that are not.
    pub exclude_outbound_ranges: Vec<IpNet>,
    /// Outbound ports that are taken whatever the destination.
    pub outbound_ports: Vec<u16>,
    /// Outbound ports that are not taken.
    pub exclude_outbound_ports: Vec<u16>,
    /// Users whose connections are the proxy's own; default 1337.
    pub proxy_uids: Vec<u32>,
    /// Groups whose connections are the proxy's own; default 1337.
    pub proxy_gids: Vec<u32>,
    /// Only these users' connections are taken, and those of [`Self::only_gids`]; empty for everybody's.
    pub only_uids: Vec<u32>,
    /// Only these groups' connections are taken, and those of [`Self::only_uids`]; empty for everybody's.
    pub only_gids: Vec<u32>,
    /// Users whose connections are not taken.
    pub exclude_uids: Vec<u32>,
    /// Groups whose connections are not taken.
    pub exclude_gids: Vec<u32>,
    /// Only what comes in over these interfaces is taken; empty for all.
    pub only_interfaces: Vec<String>,
    /// Nothing that comes or goes over these is taken.
    pub exclude_interfaces: Vec<String>,
    /// Connections of sockets with this mark (`SO_MARK`) are the proxy's own; TPROXY steers by it too. Default 1337; the
    /// next number is used as well.
    pub mark: u32,
    /// The routing table for TPROXY; default 133.
    pub table: u32,
    /// Whether the rules are for a namespace of the application's own, where the loopback interface leads everywhere and the
    /// proxy is not; default no.
    pub is_namespace: bool,
    /// Where DNS queries (UDP and TCP port 53) of the application go; none for their own way.
    pub dns_port: Option<u16>,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            families: vec![Family::V4, Family::V6],
            inbound: Inbound::Redirect,
            inbound_port: 15006,
            outbound_port: 15001,
            tunnel_port: 15008,
            inbound_ports: PortSet::All,
            exclude_inbound_ports: vec![15020, 15021, 15090],
            outbound_ranges: RangeSet::All,
            exclude_outbound_ranges: Vec::new(),
            outbound_ports: Vec::new(),
            exclude_outbound_ports: Vec::new(),
            proxy_uids: vec![1337],
            proxy_gids: vec![1337],
            only_uids: Vec::new(),
            only_gids: Vec::new(),
            exclude_uids: Vec::new(),
            exclude_gids: Vec::new(),
            only_interfaces: Vec::new(),
            exclude_interfaces: Vec::new(),
            mark: 1337,
            table: 133,
            is_namespace: false,
            dns_port: None,
        }
    }
}

impl Plan {
    /// Whether anything inbound is taken.
    pub fn takes_inbound(&self) -> bool {
        self.inbound_ports != PortSet::Only(Vec::new())
    }

    /// Whether anything outbound is taken.
    pub fn takes_outbound(&self) -> bool {
        self.outbound_ranges != RangeSet::Only(Vec::new()) || !self.outbound_ports.is_empty()
    }

    /// Whether inbound connections come by TPROXY.
    pub fn is_tproxy(&self) -> bool {
        self.takes_inbound() && self.inbound == Inbound::Tproxy
    }

    /// Whether connections to loopback addresses are asked for by range.
    pub fn takes_loopback(&self) -> bool {
        match &self.outbound_ranges {
            RangeSet::All => false,
            RangeSet::Only(ranges) => ranges.iter().any(|range| range.addr().is_loopback()),
        }
    }

    /// What distinguishes the rules of this plan from those of another.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", xxhash_rust::xxh64::xxh64(format!("{self:?}").as_bytes(), 0))
    }
}
