//! Full TLS handshakes: what it costs a server to prove who it is and to verify a client, every time anew.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pillion_tests::programs::http_get;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::hop::sidecar;
use super::{Scenario, able, turns};
use crate::identities::Identities;
use crate::measurement::{Figures, Metric, micros};
use crate::program::envoy::Side;
use crate::program::{Program, Protocol, Running, Work};
use crate::{Result, upstream};

/// Clients that connect at the same time, on one thread.
const CLIENTS: usize = 8;

/// Handshakes with certificates on both sides (ECDSA P-256), none of them resumed.
pub const FULL: Scenario = Scenario {
    name: "tls-handshakes",
    about: "full handshakes of TLS 1.3 with certificates on both sides, 8 clients; a request is a handshake",
    compared_by: Metric::CpuPerRequest,
    run: |bench| {
        let protocol = Protocol::Http1;
        let work = Work { protocol, upstream: upstream::start(protocol)?, idle_clusters: 0 };
        let identities = Identities::new()?;
        let connector = connector(&identities)?;
        let prepare = |program| start(program, &work, &identities, &connector);
        let length = Duration::from_secs(bench.seconds as u64);
        Ok(turns::measure(bench, prepare, |running| round(running, &connector, length)))
    },
};

/// A client that shows its certificate and resumes nothing.
pub fn connector(identities: &Identities) -> Result<TlsConnector> {
    let mut config = identities.client_config()?;
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn start(
    program: Program,
    work: &Work,
    identities: &Identities,
    connector: &TlsConnector,
) -> Result<Running> {
    if !program.speaks_xds() {
        return Err("cannot do this".into());
    }
    able(program, work)?;
    let running = sidecar(program, work, Side::Inbound, identities)?;
    round(&running, connector, Duration::from_millis(200))?;
    Ok(running)
}

fn round(running: &Running, connector: &TlsConnector, length: Duration) -> Result<Figures> {
    let before = (running.process.usage()?, counted(running)?);
    let begin = Instant::now();
    let mut times = connect_for(running, connector, length)?;
    let elapsed = begin.elapsed().as_secs_f64();
    let after = (running.process.usage()?, counted(running)?);
    // What the server counts as done is done: no client was refused after it believed that it was through.
    let count = times.len() as u64;
    let served = after.1 - before.1;
    if served != count {
        return Err(format!("the server did {served} handshakes of {count}").into());
    }
    times.sort_unstable();
    let percentile = |which: usize| micros(times[(times.len() - 1) * which / 100]) / 1e3;
    Ok(Figures::from([
        (Metric::CpuPerRequest, micros(after.0.cpu - before.0.cpu) / count as f64),
        (Metric::P50, percentile(50)),
        (Metric::P99, percentile(99)),
        (Metric::Rate, count as f64 / elapsed),
        (Metric::Memory, after.0.resident_mb()),
    ]))
}

/// Lets all clients connect again and again; tells how long each handshake took.
fn connect_for(
    running: &Running,
    connector: &TlsConnector,
    length: Duration,
) -> Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = running.address;
    runtime.block_on(async {
        let end = Instant::now() + length;
        let clients = (0..CLIENTS).map(|_| {
            let connector = connector.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < end {
                    let begin = Instant::now();
                    handshake(&connector, address).await?;
                    times.push(begin.elapsed());
                }
                Ok::<_, io::Error>(times)
            })
        });
        let mut all = Vec::new();
        for client in clients.collect::<Vec<_>>() {
            all.extend(client.await??);
        }
        Ok(all)
    })
}

/// One handshake, to the end: the server closes once it has seen that the client does.
async fn handshake(connector: &TlsConnector, address: SocketAddr) -> io::Result<()> {
    server_certificate(connector, address).await.map(|_| ())
}

/// The certificate that the server shows in a handshake, in DER.
pub async fn server_certificate(
    connector: &TlsConnector,
    address: SocketAddr,
) -> io::Result<Vec<u8>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("bench").expect("a constant name");
    let mut tls = connector.connect(name, stream).await?;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default();
    tls.shutdown().await?;
    match tls.read(&mut [0; 64]).await {
        Ok(_) => Ok(certificate),
        // A server that closes without a word has seen the client's end all the same.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(certificate),
        Err(error) => Err(error),
    }
}

/// The handshakes that the server has counted.
fn counted(running: &Running) -> Result<u64> {
    let stats = http_get(running.admin, "/stats?filter=ssl.handshake$")?.body;
    let value = stats.trim().rsplit_once(": ").ok_or("the server counts no handshakes")?.1;
    Ok(value.parse()?)
}
