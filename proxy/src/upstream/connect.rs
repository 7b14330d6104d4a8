//! One connection to a host: TCP or unix socket, socket options, client TLS; within the cluster's connect timeout.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, UnixStream};

use crate::config::cluster::{Cluster as Config, TcpKeepalive as KeepaliveConfig};
use crate::intercept::namespace::{self, Kind};
use crate::io::{Address, Source, Stream};
use crate::telemetry::stream_info::TlsInfo;
use crate::tls::{self, ClientContext, ServerNames};
use crate::upstream::cluster::{Cluster, Host};
use crate::upstream::pool::RequestNames;

/// A connection that is ready for application data.
pub struct Connected {
    /// The bytes.
    pub stream: Stream,
    /// Our end (`%UPSTREAM_LOCAL_ADDRESS%`); none for an unnamed unix socket.
    pub local: Option<Address>,
    /// The TLS session, if there is one.
    pub tls: Option<Arc<TlsInfo>>,
}

impl Connected {
    /// Whether ALPN agreed on HTTP/2.
    pub fn is_h2(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| &*tls.alpn == "h2")
    }
}

/// Why no connection came about.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// This side could not even try: no socket, no source address.
    #[error("{0}")]
    Local(Arc<str>),
    /// The host refused, or the handshake failed.
    #[error("{0}")]
    Remote(Arc<str>),
    /// A secret of the TLS context is not there (yet).
    #[error("a secret of the TLS context is not supplied by SDS")]
    NotReady,
    /// `connect_timeout` expired.
    #[error("connect timeout")]
    Timeout,
}

/// What a connection is made for, beyond its host.
#[derive(Clone, Copy, Default)]
pub struct Purpose<'a> {
    /// What it seems to come from, instead of what the cluster says.
    pub source: Option<Source>,
    /// What it takes from a request.
    pub names: Option<&'a RequestNames>,
    /// The protocols that ALPN offers where the TLS context names none.
    pub alpn: &'a [&'static [u8]],
}

/// Connects to a host of a cluster. TCP and TLS together may take `connect_timeout`.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(cluster: &Cluster, host: &Host) -> Result<Connected, ConnectError> {
    connect_for(cluster, host, Purpose::default()).await
}

/// As [`connect`], for a purpose.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect_for(
    cluster: &Cluster,
    host: &Host,
    purpose: Purpose<'_>,
) -> Result<Connected, ConnectError> {
    let limit = cluster.config().connect_timeout;
    let connecting = connect_unlimited(host.address(), cluster, host, purpose);
    tokio::time::timeout(limit, connecting).await.unwrap_or(Err(ConnectError::Timeout))
}

/// As [`connect`], to another address of the host, such as that of its health check. The caller limits the time.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect_to(
    address: &Address,
    cluster: &Cluster,
    host: &Host,
) -> Result<Connected, ConnectError> {
    connect_unlimited(address, cluster, host, Purpose::default()).await
}

async fn connect_unlimited(
    address: &Address,
    cluster: &Cluster,
    host: &Host,
    purpose: Purpose<'_>,
) -> Result<Connected, ConnectError> {
    let config = cluster.config();
    let tls = client_tls(cluster, host)?;
    let (stream, local) = match address {
        Address::Ip(address) => connect_tcp(*address, config, purpose.source).await?,
        Address::Pipe(path) => (connect_unix(path).await?, None),
    };
    match tls {
        Some(tls) => handshake(stream, local, &tls, cluster, host, purpose).await,
        None => Ok(Connected { stream, local, tls: None }),
    }
}

/// The host's client TLS as it is now: a secret that changes serves the next connection. None for plaintext.
fn client_tls(cluster: &Cluster, host: &Host) -> Result<Option<Arc<ClientContext>>, ConnectError> {
    let config = cluster.config();
    if config.tls.is_none() && config.socket_matches.is_empty() {
        return Ok(None);
    }
    let sockets = cluster.sockets.get().ok_or(ConnectError::NotReady)?;
    let Some(tls) = sockets.of(config, host) else { return Ok(None) };
    match tls.ready().clone() {
        Some(ready) => Ok(Some(ready)),
        None => {
            tls.stats.upstream_context_secrets_not_ready.inc();
            Err(ConnectError::NotReady)
        }
    }
}

async fn connect_tcp(
    address: SocketAddr,
    config: &Config,
    source: Option<Source>,
) -> Result<(Stream, Option<Address>), ConnectError> {
    let socket = open_socket(address, config, source).map_err(|error| {
        ConnectError::Local(format!("cannot open a socket for {address}: {error}").into())
    })?;
    let stream = socket.connect(address).await.map_err(|error| {
        ConnectError::Remote(format!("delayed connect error: {}", os_text(&error)).into())
    })?;
    let local = stream.local_addr().ok().map(Address::Ip);
    Ok((Stream::Tcp(stream), local))
}

fn open_socket(
    address: SocketAddr,
    config: &Config,
    source: Option<Source>,
) -> io::Result<TcpSocket> {
    let socket = new_socket(address)?;
    socket.set_nodelay(true)?;
    if let Some(keepalive) = &config.tcp_keepalive {
        SockRef::from(&socket).set_tcp_keepalive(&keepalive_options(keepalive))?;
    }
    if let Some(source) = source {
        pretend(&socket, source)?;
    } else if let Some(source) = config.source_for(&Address::Ip(address)) {
        socket.bind(source)?;
    }
    Ok(socket)
}

/// A socket of this machine, or of the application's namespace if the address is the application's.
fn new_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    if let Some(inside) = namespace::application().filter(|inside| inside.has(address)) {
        let socket = inside.socket(Kind::tcp(address))?;
        return Ok(TcpSocket::from_std_stream(socket.into()));
    }
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

/// Binds the socket to an address that is not this machine's; needs CAP_NET_ADMIN.
fn pretend(socket: &TcpSocket, source: Source) -> io::Result<()> {
    let options = SockRef::from(socket);
    if source.mark != 0 {
        options.set_mark(source.mark)?;
    }
    match source.ip {
        IpAddr::V4(_) => options.set_ip_transparent_v4(true)?,
        IpAddr::V6(_) => options.set_ip_transparent_v6(true)?,
    }
    socket.bind(SocketAddr::new(source.ip, 0))
}

fn keepalive_options(config: &KeepaliveConfig) -> TcpKeepalive {
    let mut options = TcpKeepalive::new();
    if let Some(time) = config.time {
        options = options.with_time(time);
    }
    if let Some(interval) = config.interval {
        options = options.with_interval(interval);
    }
    if let Some(probes) = config.probes {
        options = options.with_retries(probes);
    }
    options
}

async fn connect_unix(path: &Path) -> Result<Stream, ConnectError> {
    // Tokio takes a path with a leading NUL as a name in the abstract namespace.
    let abstract_path;
    let target = match path.to_str().and_then(|path| path.strip_prefix('@')) {
        Some(name) => {
            abstract_path = format!("\0{name}");
            Path::new(&abstract_path)
        }
        None => path,
    };
    let connected = UnixStream::connect(target).await;
    connected.map(Stream::Unix).map_err(|error| {
        ConnectError::Remote(format!("delayed connect error: {}", os_text(&error)).into())
    })
}

/// The system's text for an error without Rust's `(os error N)`, as Envoy prints it.
fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

async fn handshake(
    stream: Stream,
    local: Option<Address>,
    tls: &ClientContext,
    cluster: &Cluster,
    host: &Host,
    purpose: Purpose<'_>,
) -> Result<Connected, ConnectError> {
    let names = ServerNames {
        hostname: host.hostname().map(|name| &**name),
        sni: purpose.names.and_then(|names| names.sni.as_deref()),
        san: purpose.names.and_then(|names| names.san.as_deref()),
        alpn: purpose.alpn,
        instead: purpose.names.map(|names| &*names.alpn).unwrap_or_default(),
    };
    match tls.connect(stream, names, cluster.tls_stats()).await {
        Ok((stream, info)) => Ok(Connected { stream, local, tls: Some(Arc::new(info)) }),
        Err(error) => {
            if let Some(reason) = &error.reason {
                tell_failure(reason, cluster, host);
            }
            Err(ConnectError::Remote(error.reason.unwrap_or_default()))
        }
    }
}

/// Why the host has ended a TLS session that was agreed on, if it has: it may have refused our certificate.
pub(super) fn session_failure(
    tls: Option<&TlsInfo>,
    cluster: &Cluster,
    host: &Host,
) -> Option<Arc<str>> {
    let reason = tls::session_failure(tls?, cluster.tls_stats())?;
    tell_failure(&reason, cluster, host);
    Some(reason)
}

/// Says in the log which host was refused by which rule, or refused us.
fn tell_failure(reason: &str, cluster: &Cluster, host: &Host) {
    if let Some(left_out) = cluster.tls_stats().warnings.pass(Instant::now()) {
        let (cluster, host) = (&**cluster.name(), host.address());
        tracing::warn!(cluster, %host, left_out, "TLS with a host failed: {reason}");
    }
}
