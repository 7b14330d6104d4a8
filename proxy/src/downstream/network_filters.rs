//! Network filters before the terminal one: what looks at a connection when its first byte has come.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::config::network_filter::NetworkFilter;
use crate::config::{At, ConfigError};
use crate::http::worker::Worker;
use crate::io::Stream;
use crate::telemetry::stats::{SharedStats, Store};
use crate::telemetry::stream_info::StreamInfo;

mod arrival;
mod ext_authz;
mod rbac;

use arrival::Arrival;
pub use arrival::Place;
use ext_authz::ExtAuthz;
use rbac::Rbac;

/// How many of the first bytes are read at once.
const FIRST: usize = 16 * 1024;

/// The filters of a chain before its terminal one, in order. Usually there is none.
pub struct Guards {
    /// Those that look at a connection when it comes.
    arrivals: Box<[Arrival]>,
    /// Those that look at it when its first byte has come.
    watching: Box<[Guard]>,
}

enum Guard {
    Rbac(Rbac),
    ExtAuthz(ExtAuthz),
}

/// What is known when the first byte has come.
pub struct FirstBytes {
    /// The bytes; none if the peer has closed its side instead.
    pub bytes: Bytes,
    /// How many bytes went downstream meanwhile.
    pub sent: u64,
}

impl Guards {
    /// Makes the filters of the chain at `at` ready.
    ///
    /// # Errors
    /// A filter that cannot be made.
    pub fn new(
        filters: &[NetworkFilter],
        stats: &SharedStats,
        store: &Store,
        at: &At<'_>,
    ) -> Result<Self, ConfigError> {
        let (mut arrivals, mut watching) = (Vec::new(), Vec::new());
        for (index, filter) in filters.iter().enumerate() {
            let at = at.index("filters", index);
            let at = at.field("typed_config");
            arrivals.extend(Arrival::new(filter, stats, store));
            watching.push(match filter {
                NetworkFilter::Rbac(config) => {
                    Guard::Rbac(Rbac::new(Arc::clone(config), stats, store))
                }
                NetworkFilter::ExtAuthz(config) => {
                    Guard::ExtAuthz(ExtAuthz::new(Arc::clone(config), stats, store, &at)?)
                }
                _ => continue,
            });
        }
        Ok(Guards { arrivals: arrivals.into(), watching: watching.into() })
    }

    /// Whether none waits for the first byte.
    pub fn is_empty(&self) -> bool {
        self.watching.is_empty()
    }

    /// Lets the filters look at a connection that has just come, in order. It counts in their limits until the places are
    /// dropped.
    ///
    /// # Errors
    /// The connection must close; why stands in `info`.
    pub async fn welcome(&self, info: &mut StreamInfo) -> Result<Vec<Place>, Denied> {
        let mut places = Vec::new();
        for arrival in &self.arrivals {
            arrival.admit(info, &mut places).await?;
        }
        Ok(places)
    }

    /// Whether any filter looks at connections that have just come.
    pub fn welcomes(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// Lets the filters look at a connection, in order; the first that denies it ends it. Whoever is denied has to wait
    /// for the answer as long as the filter says.
    ///
    /// # Errors
    /// The connection must close; why stands in `info`.
    pub async fn admit(&self, info: &mut StreamInfo, worker: &Worker) -> Result<(), Denied> {
        for guard in &self.watching {
            match guard {
                Guard::Rbac(rbac) => rbac.admit(info).await?,
                Guard::ExtAuthz(ext_authz) => ext_authz.admit(info, worker).await?,
            }
        }
        Ok(())
    }
}

/// A filter has denied the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied;

/// Waits for the downstream's first bytes, while what the upstream says goes downstream: in many protocols the server
/// speaks first. None if a side fails.
pub async fn first_bytes<U>(downstream: &mut Stream, upstream: Option<&mut U>) -> Option<FirstBytes>
where
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = BytesMut::with_capacity(FIRST);
    let mut sent = 0;
    let mut upstream = upstream;
    while let Some(server) = upstream.as_mut() {
        let mut said = BytesMut::with_capacity(FIRST);
        tokio::select! {
            biased;
            read = downstream.read_buf(&mut bytes) => {
                read.ok()?;
                return Some(FirstBytes { bytes: bytes.freeze(), sent });
            }
            read = server.read_buf(&mut said) => match read.ok()? {
                0 => {
                    downstream.shutdown().await.ok()?;
                    upstream = None;
                }
                n => {
                    downstream.write_all(&said).await.ok()?;
                    downstream.flush().await.ok()?;
                    sent += n as u64;
                }
            },
        }
    }
    downstream.read_buf(&mut bytes).await.ok()?;
    Some(FirstBytes { bytes: bytes.freeze(), sent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_server_may_speak_before_the_clients_first_byte() {
        let (mut client, downstream) = pair().await;
        let (mut upstream, mut server) = pair().await;
        let mut downstream = Stream::Tcp(downstream);
        let talk = async {
            server.write_all(b"greeting").await.unwrap();
            let mut greeting = [0; 8];
            client.read_exact(&mut greeting).await.unwrap();
            assert_eq!(&greeting, b"greeting");
            client.write_all(b"x").await.unwrap();
        };
        let (first, ()) = tokio::join!(first_bytes(&mut downstream, Some(&mut upstream)), talk);
        let first = first.unwrap();
        assert_eq!((&*first.bytes, first.sent), (&b"x"[..], 8));
    }

    #[tokio::test]
    async fn a_client_that_closes_its_side_is_looked_at_too() {
        let (mut client, downstream) = pair().await;
        client.shutdown().await.unwrap();
        let mut downstream = Stream::Tcp(downstream);
        let first = first_bytes::<TcpStream>(&mut downstream, None).await.unwrap();
        assert!(first.bytes.is_empty());
    }
}
