//! Where a connection to a host must seem to come from.

use std::net::IpAddr;

/// The client's address, kept towards the host (`envoy.filters.listener.original_src`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The address; the port is another one.
    pub ip: IpAddr,
    /// `SO_MARK` of the socket, by which the host's answers are routed back; 0 is none.
    pub mark: u32,
}
