//! `tcp_health_check`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::http::holds;
use super::probe::{Found, Probe};
use crate::config::cluster::TcpProbe;
use crate::upstream::cluster::{Cluster, Host};

/// The most that is read in search of the blocks.
const MOST: usize = 64 * 1024;

/// Asks by some bytes over a connection, which is kept; or by the connection alone.
pub async fn check(probe: &mut Probe, config: &TcpProbe, cluster: &Cluster, host: &Host) -> Found {
    let mut stream = match probe.tcp.take() {
        Some(kept) => kept,
        None => match probe.connect(cluster, host).await {
            Ok(connected) => connected.stream,
            Err(_) => return Found::Unreachable,
        },
    };
    if stream.write_all(&config.send).await.is_err() {
        return Found::Unreachable;
    }
    let mut read = Vec::new();
    while !holds(&read, &config.receive) {
        if read.len() > MOST {
            return Found::UNWELL;
        }
        match stream.read_buf(&mut read).await {
            Ok(0) | Err(_) => return Found::Unreachable,
            Ok(_) => {}
        }
    }
    if !config.send.is_empty() {
        probe.tcp = Some(stream);
    }
    Found::WELL
}
