//! What two processes say to each other at a hot restart.
//!
//! The new process asks, the old one answers. A message is its length, four bytes in network order, and JSON. The answer
//! that announces sockets is followed by them, each as [`crate::io::descriptor`] hands it over. The first message is a
//! [`Ask::Hello`] in every version of the protocol, and may be answered by [`Answer::Refused`] in every version.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::telemetry::stats::Counts;

/// The version of this protocol.
pub const PROTOCOL: u32 = 1;
/// The longest question, in bytes.
pub const MAX_ASK: usize = 64 * 1024;
/// The longest answer, in bytes: it may hold every counter of a large process.
pub const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// What the new process wants.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// To take over.
    Hello {
        /// The version that it speaks.
        protocol: u32,
        /// Its own epoch.
        epoch: u32,
    },
    /// The sockets that are bound to an address.
    Sockets {
        /// As [`crate::io::Address`] is written.
        address: String,
    },
    /// The socket of the admin interface, which the old process serves no longer.
    Admin,
    /// It listens on an address no longer, so that the old process must not keep its socket either.
    Release {
        /// As for [`Ask::Sockets`].
        address: String,
    },
    /// It serves: the old process stops accepting and lets its connections go.
    Drain,
    /// The counters.
    Stats,
    /// The old process ends.
    Terminate,
}

/// What the old process says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The take-over begins.
    Welcome {
        /// When the process of the first epoch started, in seconds since 1970.
        started: u64,
        /// How many processes came one after the other before the new one.
        generation: u64,
    },
    /// There will be no take-over, and why.
    Refused {
        /// For the log.
        reason: String,
    },
    /// So many sockets follow.
    Sockets {
        /// How many.
        count: usize,
    },
    /// It is done.
    Done,
    /// The counters.
    Stats {
        /// Those that are not at zero.
        counts: Counts,
        /// How many connections are open.
        connections: u64,
        /// The process ends now.
        over: bool,
    },
}

/// A message with its length.
///
/// # Errors
/// It has no JSON form, or is too long to be told.
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// The length of what follows.
fn length(header: [u8; 4], limit: usize) -> io::Result<usize> {
    let length = u32::from_be_bytes(header) as usize;
    match length <= limit {
        true => Ok(length),
        false => Err(io::Error::other(format!("a message of {length} bytes; at most {limit}"))),
    }
}

/// Writes a message.
///
/// # Errors
/// As writing does.
pub fn write(mut stream: impl Write, message: &impl Serialize) -> io::Result<()> {
    stream.write_all(&encode(message)?)
}

/// Reads a message of at most `limit` bytes.
///
/// # Errors
/// As reading does; it is too long, or not what it should be.
pub fn read<M: DeserializeOwned>(mut stream: impl Read, limit: usize) -> io::Result<M> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let mut bytes = vec![0; length(header, limit)?];
    stream.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// [`write()`], without holding up the thread.
///
/// # Errors
/// As there.
pub async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    stream.write_all(&encode(message)?).await
}

/// [`read`], without holding up the thread.
///
/// # Errors
/// As there.
pub async fn receive<M: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> io::Result<M> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let mut bytes = vec![0; length(header, limit)?];
    stream.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let ask = Ask::Sockets { address: "127.0.0.1:80".into() };
        let bytes = encode(&ask).unwrap();
        assert_eq!(read::<Ask>(bytes.as_slice(), MAX_ASK).unwrap(), ask);
        let error = read::<Ask>(bytes.as_slice(), 10).unwrap_err().to_string();
        assert!(error.contains("at most 10"), "{error}");
        assert!(read::<Ask>(&bytes[..bytes.len() - 1], MAX_ASK).is_err());
        assert!(read::<Answer>(bytes.as_slice(), MAX_ASK).is_err());
    }

    #[test]
    fn a_hello_of_a_later_version_is_understood() {
        let text = br#"{"ask": "hello", "protocol": 7, "epoch": 3, "more": [1, 2]}"#;
        let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(text);
        let ask: Ask = read(bytes.as_slice(), MAX_ASK).unwrap();
        assert_eq!(ask, Ask::Hello { protocol: 7, epoch: 3 });
    }
}
