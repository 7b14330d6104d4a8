//! Listening sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket as RawSocket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::config::listener::{Direction, Listener};
use crate::intercept::namespace::{self, Kind, Namespace};
use crate::io::{Address, Stream};

/// A bound socket that has not joined a worker yet.
pub struct Socket {
    raw: RawSocket,
    backlog: i32,
}

/// A socket that accepts on a worker.
pub enum Acceptor {
    /// TCP.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener),
}

/// Binds `address` for `workers` workers: a socket each with `enable_reuse_port`, else one that they share. They refuse
/// connections until they [`listen`](Socket::listen).
///
/// # Errors
/// The address cannot be bound.
pub fn bind(address: &Address, config: &Listener, workers: usize) -> io::Result<Vec<Socket>> {
    match address {
        Address::Ip(ip) if config.reuse_port => {
            // Port 0 must give every worker the same port.
            let first = bind_tcp(*ip, config)?;
            let bound = first.raw.local_addr()?.as_socket().unwrap_or(*ip);
            let more = (1..workers).map(|_| bind_tcp(bound, config));
            std::iter::once(Ok(first)).chain(more).collect()
        }
        Address::Ip(ip) => share(bind_tcp(*ip, config)?, workers),
        Address::Pipe(path) => share(bind_unix(path)?, workers),
    }
}

/// Makes sockets that another process had bound to `address` serve `workers` workers: all of them are kept, since
/// connections may wait in each, and there are at least as many as workers.
///
/// # Errors
/// A socket cannot be set up as the listener wants it.
pub fn adopt(
    inherited: Vec<OwnedFd>,
    address: &Address,
    config: &Listener,
    workers: usize,
) -> io::Result<Vec<Socket>> {
    let backlog = config.backlog.map_or(SOMAXCONN, |backlog| backlog as i32);
    let mut sockets = Vec::with_capacity(inherited.len().max(workers));
    for socket in inherited {
        let raw = RawSocket::from(socket);
        if let Address::Ip(ip) = address {
            set_options(&raw, *ip, config)?;
        }
        sockets.push(Socket { raw, backlog });
    }
    let has_own =
        |socket: &Socket| Ok::<_, io::Error>(config.reuse_port && socket.raw.reuse_port()?);
    while let Some(first) = sockets.first().filter(|_| sockets.len() < workers) {
        let another = match address {
            Address::Ip(ip) if has_own(first)? => bind_tcp(*ip, config)?,
            _ => first.try_clone()?,
        };
        sockets.push(another);
    }
    Ok(sockets)
}

/// Binds `address` once and listens, without any option of a listener (for the admin interface).
///
/// # Errors
/// The address cannot be bound.
pub fn bind_plain(address: &Address) -> io::Result<Socket> {
    let socket = match address {
        Address::Ip(ip) => bind_to(tcp_socket(*ip, None)?, *ip, SOMAXCONN)?,
        Address::Pipe(path) => bind_unix(path)?,
    };
    socket.listen()?;
    Ok(socket)
}

fn share(socket: Socket, workers: usize) -> io::Result<Vec<Socket>> {
    let copies: io::Result<Vec<_>> = (1..workers).map(|_| socket.try_clone()).collect();
    let mut sockets = copies?;
    sockets.push(socket);
    Ok(sockets)
}

fn bind_tcp(address: SocketAddr, config: &Listener) -> io::Result<Socket> {
    // What the application sends arrives in its namespace, where it has one.
    let inside = namespace::application().filter(|_| config.direction == Direction::Outbound);
    let socket = tcp_socket(address, inside)?;
    if config.reuse_port {
        socket.set_reuse_port(true)?;
    }
    set_options(&socket, address, config)?;
    bind_to(socket, address, config.backlog.map_or(SOMAXCONN, |backlog| backlog as i32))
}

/// What a bound socket may be told too.
fn set_options(socket: &RawSocket, address: SocketAddr, config: &Listener) -> io::Result<()> {
    if config.transparent {
        match address {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
        }
    }
    if config.freebind {
        match address {
            SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
            SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
        }
    }
    Ok(())
}

/// The kernel caps the backlog to `net.core.somaxconn`.
const SOMAXCONN: i32 = 65535;

fn tcp_socket(address: SocketAddr, inside: Option<&Namespace>) -> io::Result<RawSocket> {
    let socket = match inside {
        Some(namespace) => RawSocket::from(namespace.socket(Kind::tcp(address))?),
        None => RawSocket::new(Domain::for_address(address), Type::STREAM, None)?,
    };
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn bind_to(raw: RawSocket, address: SocketAddr, backlog: i32) -> io::Result<Socket> {
    raw.bind(&address.into())?;
    Ok(Socket { raw, backlog })
}

/// Binds a unix socket; a name that starts with `@` is abstract. A file that a dead process left is replaced.
fn bind_unix(path: &Path) -> io::Result<Socket> {
    let name = path.as_os_str().as_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(rest) => {
            let mut hidden = vec![0];
            hidden.extend_from_slice(rest);
            SockAddr::unix(std::ffi::OsStr::from_bytes(&hidden))?
        }
        None => {
            let dead = std::os::unix::net::UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            if dead {
                std::fs::remove_file(path)?;
            }
            SockAddr::unix(path)?
        }
    };
    let raw = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    raw.set_nonblocking(true)?;
    raw.bind(&address)?;
    Ok(Socket { raw, backlog: SOMAXCONN })
}

impl From<OwnedFd> for Socket {
    /// A socket that another process had bound.
    fn from(socket: OwnedFd) -> Self {
        Socket { raw: socket.into(), backlog: SOMAXCONN }
    }
}

impl Socket {
    fn try_clone(&self) -> io::Result<Socket> {
        Ok(Socket { raw: self.raw.try_clone()?, backlog: self.backlog })
    }

    /// The address that it is bound to.
    pub fn local_address(&self) -> Option<Address> {
        self.raw.local_addr().ok()?.as_socket().map(Address::Ip)
    }

    /// Takes connections from now on; they wait until the socket accepts.
    ///
    /// # Errors
    /// As `listen(2)`: another socket listens on the address.
    pub fn listen(&self) -> io::Result<()> {
        self.raw.listen(self.backlog)
    }

    /// Joins the current worker.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub fn accept_here(self) -> io::Result<Acceptor> {
        if self.raw.domain()? == Domain::UNIX {
            let socket = StdUnixListener::from(OwnedFd::from(self.raw));
            return UnixListener::from_std(socket).map(Acceptor::Unix);
        }
        TcpListener::from_std(self.raw.into()).map(Acceptor::Tcp)
    }
}

impl Acceptor {
    /// The socket once more, for another process: both take connections from one queue.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        match self {
            Acceptor::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Acceptor::Unix(listener) => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// The next connection, with its local and remote address.
    ///
    /// # Errors
    /// As `accept(2)`; most pass by themselves.
    pub async fn accept(&self) -> io::Result<(Stream, Address, Address)> {
        match self {
            Acceptor::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                // Small messages must not wait for acknowledgements.
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                Ok((Stream::Tcp(stream), canonical(local).into(), canonical(remote).into()))
            }
            Acceptor::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let local = listener.local_addr()?;
                let path = local.as_pathname().unwrap_or(Path::new(""));
                let peer = Address::Pipe(Path::new("").into());
                Ok((Stream::Unix(stream), Address::Pipe(path.into()), peer))
            }
        }
    }
}

/// An IPv4 address is shown as one, also when it came in over an IPv6 socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
