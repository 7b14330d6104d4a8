//! Where a peer or a listener is: an IP address with port, or a unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// A transport address (`envoy.config.core.v3.Address`), cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// `socket_address`: an IPv4 or IPv6 address with port.
    Ip(SocketAddr),
    /// `pipe`: a unix socket. A path that starts with `@` is in the abstract namespace.
    Pipe(Arc<Path>),
}

impl Address {
    /// The IP address and port, if this is one.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Pipe(_) => None,
        }
    }

    /// The port, if this is an IP address.
    pub fn port(&self) -> Option<u16> {
        self.ip().map(|address| address.port())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Pipe(path) => path.display().fmt(f),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Ip(address)
    }
}
