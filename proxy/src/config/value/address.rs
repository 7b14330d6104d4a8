//! Addresses (`envoy.config.core.v3.Address`) and address ranges.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;
use proto::envoy::config::core::v3 as core;
use proto::envoy::config::core::v3::socket_address::{PortSpecifier, Protocol};
use proto::google::protobuf::UInt32Value;
use proto::xds::core::v3 as xds;

use super::{enumeration, non_empty, port, required};
use crate::config::endpoint::Target;
use crate::config::error::{At, ConfigError};
use crate::io::Address;
use crate::refuse_set;

/// The longest path of a unix socket (`sun_path` without its final zero byte).
const MAX_PIPE_PATH: usize = 107;

/// An address that is known: an IP address with port, or a unix socket. Names are refused.
pub fn address(message: &core::Address, at: &At<'_>) -> Result<Address, ConfigError> {
    match target(message, at)? {
        Target::Address(address) => Ok(address),
        Target::Name { name, .. } => Err(not_an_ip(&name, at)),
    }
}

/// An address, or a name to resolve.
pub fn target(message: &core::Address, at: &At<'_>) -> Result<Target, ConfigError> {
    match required(&message.address, at)? {
        core::address::Address::SocketAddress(socket) => {
            socket_target(socket, &at.field("socket_address"))
        }
        core::address::Address::Pipe(pipe) => self::pipe(pipe, &at.field("pipe")),
        core::address::Address::EnvoyInternalAddress(_) => {
            Err(at.field("envoy_internal_address").unsupported())
        }
    }
}

/// A `SocketAddress` with an IP address.
pub fn socket_address(
    message: &core::SocketAddress,
    at: &At<'_>,
) -> Result<SocketAddr, ConfigError> {
    match socket_target(message, at)? {
        Target::Address(Address::Ip(address)) => Ok(address),
        _ => Err(not_an_ip(&message.address, at)),
    }
}

fn socket_target(message: &core::SocketAddress, at: &At<'_>) -> Result<Target, ConfigError> {
    refuse_set!(at, message, [resolver_name, ipv4_compat, network_namespace_filepath]);
    if enumeration::<Protocol>(message.protocol, &at.field("protocol"))? == Protocol::Udp {
        return Err(at.field("protocol").error("UDP is not supported by this version of Pillion"));
    }
    let host = non_empty(&message.address, &at.field("address"))?;
    let port = match required(&message.port_specifier, &at.field("port_value"))? {
        PortSpecifier::PortValue(number) => port(*number, &at.field("port_value"))?,
        PortSpecifier::NamedPort(_) => return Err(at.field("named_port").unsupported()),
    };
    Ok(match host.parse::<IpAddr>() {
        Ok(ip) => Target::Address(Address::Ip(SocketAddr::new(ip, port))),
        Err(_) => Target::Name { name: host.into(), port },
    })
}

fn pipe(message: &core::Pipe, at: &At<'_>) -> Result<Target, ConfigError> {
    refuse_set!(at, message, [mode]);
    let path = non_empty(&message.path, &at.field("path"))?;
    if path.len() > MAX_PIPE_PATH {
        return Err(at
            .field("path")
            .error(format_args!("{path:?} is longer than {MAX_PIPE_PATH} bytes")));
    }
    Ok(Target::Address(Address::Pipe(Path::new(path).into())))
}

fn not_an_ip(host: &str, at: &At<'_>) -> ConfigError {
    at.error(format_args!(
        "malformed IP address: {host}; only clusters of type STRICT_DNS and LOGICAL_DNS have names"
    ))
}

/// An address range; bits behind the prefix are ignored, as in Envoy.
pub fn cidr(message: &core::CidrRange, at: &At<'_>) -> Result<IpNet, ConfigError> {
    let prefix = non_empty(&message.address_prefix, &at.field("address_prefix"))?;
    let ip: IpAddr = prefix.parse().map_err(|_| {
        at.field("address_prefix").error(format_args!("{prefix:?} is not an IP address"))
    })?;
    let length = message.prefix_len.map_or(0, |length| length.value);
    u8::try_from(length)
        .ok()
        .and_then(|length| IpNet::new(ip, length).ok())
        .map(|range| range.trunc())
        .ok_or_else(|| {
            at.field("prefix_len").error(format_args!("{length} is too long for {prefix}"))
        })
}

/// The same as xDS's own messages have it.
pub fn xds_cidr(message: &xds::CidrRange, at: &At<'_>) -> Result<IpNet, ConfigError> {
    let length = message.prefix_len.as_ref().map(|length| length.value);
    let range = core::CidrRange {
        address_prefix: message.address_prefix.clone(),
        prefix_len: length.map(|value| UInt32Value { value }),
    };
    cidr(&range, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(address: &str, port: u32) -> core::Address {
        core::Address {
            address: Some(core::address::Address::SocketAddress(core::SocketAddress {
                address: address.into(),
                port_specifier: Some(PortSpecifier::PortValue(port)),
                ..Default::default()
            })),
        }
    }

    fn pipe(path: &str, mode: u32) -> core::Address {
        core::Address {
            address: Some(core::address::Address::Pipe(core::Pipe { path: path.into(), mode })),
        }
    }

    fn refused(message: &core::Address) -> String {
        address(message, &At::resource("listener", "a")).unwrap_err().message
    }

    #[test]
    fn ip_addresses_pipes_and_names_are_told_apart() {
        let at = At::resource("listener", "a");
        assert_eq!(
            address(&socket("::1", 80), &at),
            Ok(Address::Ip("[::1]:80".parse().expect("an address")))
        );
        let name = Target::Name { name: "backend".into(), port: 80 };
        assert_eq!(target(&socket("backend", 80), &at), Ok(name));
        let path = Address::Pipe(Path::new("/run/x").into());
        assert_eq!(address(&pipe("/run/x", 0), &at), Ok(path));
    }

    #[test]
    fn bad_addresses_are_refused_with_their_rule() {
        assert!(refused(&socket("backend", 80)).starts_with("malformed IP address: backend"));
        assert_eq!(refused(&socket("", 80)), "must not be empty");
        assert_eq!(refused(&socket("1.2.3.4", 65536)), "65536 is above 65535");
        assert!(refused(&pipe("/run/x", 0o600)).starts_with("is not supported"));
        assert!(refused(&pipe(&"x".repeat(108), 0)).ends_with("is longer than 107 bytes"));
        assert_eq!(refused(&core::Address::default()), "is required");
    }

    #[test]
    fn ranges_lose_the_bits_behind_their_prefix() {
        let at = At::resource("listener", "a");
        let range = |prefix: &str, length| core::CidrRange {
            address_prefix: prefix.into(),
            prefix_len: Some(UInt32Value { value: length }),
        };
        assert_eq!(
            cidr(&range("10.1.2.3", 8), &at).map(|net| net.to_string()),
            Ok("10.0.0.0/8".into())
        );
        let error = cidr(&range("10.1.2.3", 33), &at).unwrap_err().to_string();
        assert_eq!(error, "listener \"a\": prefix_len: 33 is too long for 10.1.2.3");
    }
}
