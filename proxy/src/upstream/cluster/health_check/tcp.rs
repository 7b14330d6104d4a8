//! `tcp_health_check`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::http::holds;
use super::probe::Found;
use crate::config::cluster::TcpProbe;
use crate::upstream::connect::{ConnectError, Connected};

/// The most that is read in search of the blocks.
const MOST: usize = 64 * 1024;

/// Asks by the first bytes of a connection. They are few, so the connection is not kept.
pub async fn check(config: &TcpProbe, connected: Result<Connected, ConnectError>) -> Found {
    let Ok(Connected { mut stream, .. }) = connected else { return Found::Unreachable };
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
    Found::WELL
}
