//! Peers that close, reset, stall or talk garbage after each byte of an exchange, on either side of the sidecar. It answers or
//! closes, never hangs, and what it counts as active goes back to nothing.

mod downstream;
mod upstream;

use std::io;
use std::time::Duration;

use pillion_tests::scenario::PATIENCE;
use pillion_tests::scenario::Sidecar;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a peer does after the first bytes of its part.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// Sends FIN.
    Close,
    /// Sends RST.
    Reset,
    /// Sends nothing more.
    Stall,
    /// Sends bytes that mean nothing.
    Garbage,
}

const TROUBLES: [Trouble; 4] = [Trouble::Close, Trouble::Reset, Trouble::Stall, Trouble::Garbage];

/// What means nothing in HTTP/1.1, and is a frame beyond all limits in HTTP/2.
const GARBAGE: [u8; 40] = [0xff; 40];

impl Trouble {
    /// Sends `bytes` and makes trouble, then reads until the sidecar ends the connection.
    async fn make(self, mut stream: TcpStream, bytes: &[u8]) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.write_all(bytes).await?;
        match self {
            Trouble::Close => stream.shutdown().await?,
            Trouble::Reset => {
                stream.set_zero_linger()?;
                return Ok(());
            }
            Trouble::Stall => {}
            Trouble::Garbage => stream.write_all(&GARBAGE).await?,
        }
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.map(drop)
    }
}

/// One HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("frames here are short");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Waits until every gauge whose name matches is 0.
async fn wait_zero(sidecar: &Sidecar, pattern: &str) {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let text = sidecar.get(&format!("/stats?filter={pattern}")).body;
            assert!(!text.trim().is_empty(), "{pattern} matches nothing");
            let left: Vec<_> = text.lines().filter(|line| !line.ends_with(": 0")).collect();
            if left.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    if waited.await.is_err() {
        panic!(
            "not back at 0:\n{}",
            sidecar.get(&format!("/stats?filter={pattern}&usedonly")).body
        );
    }
}
