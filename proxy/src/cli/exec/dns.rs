//! Names for an application in a namespace of its own: its queries go on to the host's name server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::intercept::namespace::{DNS_PORT, Kind, Namespace};

/// How long a name server may take; resolvers ask again after five seconds.
const LIMIT: Duration = Duration::from_secs(5);
/// The port of name servers.
const SERVER_PORT: u16 = 53;
/// The longest datagram.
const DATAGRAM: usize = 65_535;

/// Starts to relay, on a thread of its own.
///
/// # Errors
/// There is no socket inside, or no thread.
pub fn start(namespace: &Namespace) -> io::Result<()> {
    let server = name_server(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let mut sockets = Vec::new();
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let at = SocketAddr::new(ip, DNS_PORT);
        let open = || -> io::Result<(Socket, Socket)> {
            let udp = Socket::from(namespace.socket(Kind::udp(at))?);
            let tcp = Socket::from(namespace.socket(Kind::tcp(at))?);
            udp.bind(&at.into())?;
            tcp.bind(&at.into())?;
            tcp.listen(128)?;
            Ok((udp, tcp))
        };
        match open() {
            Ok(pair) => sockets.push(pair),
            // A machine without IPv6 has no such address, and no query comes over it.
            Err(_) if ip.is_ipv6() => {}
            Err(error) => return Err(error),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
        runtime.block_on(async {
            let relays = sockets.into_iter().map(|(udp, tcp)| relay(udp, tcp, server));
            for end in futures_util::future::join_all(relays).await {
                if let Err(error) = end {
                    tracing::warn!(%error, "the application's DNS queries are no longer relayed");
                }
            }
        });
    })?;
    Ok(())
}

/// The first name server of a `resolv.conf`; one on this machine if it names none.
fn name_server(resolv_conf: &str) -> SocketAddr {
    let mut servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse().ok())?
    });
    let ip = servers.next().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    SocketAddr::new(ip, SERVER_PORT)
}

async fn relay(udp: Socket, tcp: Socket, server: SocketAddr) -> io::Result<()> {
    let udp = UdpSocket::from_std(udp.into())?;
    let tcp = TcpListener::from_std(tcp.into())?;
    tokio::try_join!(relay_datagrams(Arc::new(udp), server), relay_streams(tcp, server))?;
    Ok(())
}

async fn relay_datagrams(inside: Arc<UdpSocket>, server: SocketAddr) -> io::Result<()> {
    let mut query = vec![0; DATAGRAM];
    loop {
        let (length, from) = inside.recv_from(&mut query).await?;
        let (query, inside) = (query[..length].to_vec(), Arc::clone(&inside));
        tokio::spawn(async move {
            // A query that nobody answers is asked again by its resolver.
            if let Ok(Ok(answer)) = timeout(LIMIT, ask(&query, server)).await {
                let _ = inside.send_to(&answer, from).await;
            }
        });
    }
}

async fn ask(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let outside = UdpSocket::bind((any, 0)).await?;
    outside.connect(server).await?;
    outside.send(query).await?;
    let mut answer = vec![0; DATAGRAM];
    let length = outside.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

async fn relay_streams(inside: TcpListener, server: SocketAddr) -> io::Result<()> {
    loop {
        let (mut client, _) = inside.accept().await?;
        tokio::spawn(async move {
            if let Ok(Ok(mut server)) = timeout(LIMIT, TcpStream::connect(server)).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_server_is_asked() {
        let text = "# nameserver 9.9.9.9\nsearch a.b\nnameserver  10.0.0.2\nnameserver ::1\n";
        assert_eq!(name_server(text).to_string(), "10.0.0.2:53");
        assert_eq!(name_server("nameserver fd00::53").to_string(), "[fd00::53]:53");
        assert_eq!(name_server("").to_string(), "127.0.0.1:53");
    }
}
