//! Whether a connection comes from this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::io::Address;

/// `ConnectionSourceType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceType {
    /// `ANY`
    #[default]
    Any,
    /// `SAME_IP_OR_LOOPBACK`
    Local,
    /// `EXTERNAL`
    External,
}

impl SourceType {
    /// What a connection from `remote` to `local` is. Over a unix socket only this machine can come.
    pub fn of(remote: &Address, local: &Address) -> SourceType {
        let is_local = match (remote.ip(), local.ip()) {
            (Some(remote), Some(local)) => remote.ip() == local.ip() || is_loopback(remote.ip()),
            _ => true,
        };
        if is_local { SourceType::Local } else { SourceType::External }
    }
}

/// As in Envoy, only the loopback addresses themselves, not all of 127.0.0.0/8.
fn is_loopback(address: IpAddr) -> bool {
    address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST
}
