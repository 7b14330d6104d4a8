//! A network namespace of the application's own, where it is intercepted without a rule on the host and without rights.
//!
//! A helper process makes the namespace and stays in it. A socket belongs to the namespace that it was made in, whoever
//! uses it: so the helper makes the sockets that the proxy needs inside, and hands them over a unix socket. The proxy
//! itself stays on the host, where its connections to everybody else start.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;

use crate::io::descriptor;

mod inside;

pub use inside::{enter, serve};

/// Where the proxy takes DNS queries inside.
pub const DNS_PORT: u16 = 15053;
/// How long the helper may take over a socket: it makes one system call.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest message about a namespace that could not be made.
const MESSAGE: u64 = 4096;

/// A kind of socket; the byte that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// TCP over IPv4.
    TcpV4 = b't',
    /// TCP over IPv6.
    TcpV6 = b'T',
    /// UDP over IPv4.
    UdpV4 = b'u',
    /// UDP over IPv6.
    UdpV6 = b'U',
}

impl Kind {
    /// TCP of the version of an address.
    pub fn tcp(address: SocketAddr) -> Kind {
        if address.is_ipv4() { Kind::TcpV4 } else { Kind::TcpV6 }
    }

    /// UDP of the version of an address.
    pub fn udp(address: SocketAddr) -> Kind {
        if address.is_ipv4() { Kind::UdpV4 } else { Kind::UdpV6 }
    }
}

/// The application's namespace, as the proxy sees it.
#[derive(Debug)]
pub struct Namespace {
    helper: Mutex<UnixStream>,
    /// Where the application listens: connections to these ports of a loopback address are made inside.
    app_ports: Vec<u16>,
}

/// A process has one application.
static APPLICATION: OnceLock<Namespace> = OnceLock::new();

/// The namespace of the application that runs beside this proxy, if it has one of its own.
pub fn application() -> Option<&'static Namespace> {
    APPLICATION.get()
}

impl Namespace {
    /// Waits until the helper at the other end of the socket has made the namespace; from then on it is the
    /// application's.
    ///
    /// # Errors
    /// Why there is no namespace.
    pub fn begin(mut helper: UnixStream, app_ports: Vec<u16>) -> io::Result<&'static Namespace> {
        let mut answer = [0];
        helper.read_exact(&mut answer)?;
        if answer != [inside::READY] {
            let mut said = String::from_utf8_lossy(&answer).into_owned();
            (&mut helper).take(MESSAGE).read_to_string(&mut said)?;
            return Err(io::Error::other(said));
        }
        helper.set_read_timeout(Some(LIMIT))?;
        let namespace = Namespace { helper: Mutex::new(helper), app_ports };
        let taken = || io::Error::other("the process has an application already");
        APPLICATION.set(namespace).map_err(|_| taken())?;
        application().ok_or_else(taken)
    }

    /// Whether the application is meant by an address that the proxy connects to.
    pub fn has(&self, address: SocketAddr) -> bool {
        address.ip().is_loopback() && self.app_ports.contains(&address.port())
    }

    /// A new socket inside, which does not block.
    ///
    /// # Errors
    /// The helper is gone or cannot make one.
    pub fn socket(&self, kind: Kind) -> io::Result<OwnedFd> {
        let helper = self.helper.lock();
        rustix::io::write(&*helper, &[kind as u8])?;
        descriptor::receive(&*helper)
    }
}
