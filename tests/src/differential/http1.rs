//! HTTP/1 as bytes: reads and writes messages without correcting anything, for the client and for the scripted upstreams.

use std::io;

use bytes::{Buf, BytesMut};
use pillion::io::Stream;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::case::Headers;

/// The longest head that is read before the peer is called broken.
const MAX_HEAD: usize = 1 << 20;

/// A connection with the bytes that were read ahead.
pub struct Wire {
    /// The socket, or TLS over it.
    pub stream: Stream,
    buffer: BytesMut,
}

/// Start line and header lines as they came.
pub struct Head {
    /// Request or status line without its line end.
    pub start: String,
    /// Names and values in the order in which they came.
    pub headers: Vec<(String, String)>,
}

/// How the end of a body is found.
#[derive(Clone, Copy)]
pub enum Framing {
    /// There is none.
    Empty,
    /// `content-length`.
    Length(usize),
    /// `transfer-encoding: chunked`.
    Chunked,
    /// Up to the end of the connection.
    UntilClose,
}

/// How a message or a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// As its framing says.
    Complete,
    /// The peer closed or reset the connection before that.
    Closed,
    /// The peer reset the stream (HTTP/2).
    Reset,
    /// The bytes are no HTTP.
    Garbage,
}

/// What followed a head.
pub struct Body {
    /// The decoded bytes.
    pub bytes: Vec<u8>,
    /// Trailers of a chunked body.
    pub trailers: Vec<(String, String)>,
    /// How it ended.
    pub end: End,
}

impl Head {
    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The status of a status line.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
    }

    /// Framing by the headers alone, with `otherwise` where they say nothing.
    pub fn framing(&self, otherwise: Framing) -> Framing {
        if self
            .get("transfer-encoding")
            .is_some_and(|v| v.to_ascii_lowercase().ends_with("chunked"))
        {
            return Framing::Chunked;
        }
        match self.get("content-length").and_then(|v| v.parse().ok()) {
            Some(length) => Framing::Length(length),
            None => otherwise,
        }
    }
}

impl Wire {
    /// Wraps a connected socket.
    pub fn new(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next head. `Err` tells how the connection ended instead.
    pub async fn read_head(&mut self) -> Result<Head, End> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.buffer[..at]).into_owned();
                self.buffer.advance(at + 4);
                let mut lines = text.split("\r\n");
                let start = lines.next().unwrap_or_default().to_owned();
                return Ok(Head { start, headers: lines.map(header_line).collect() });
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(End::Garbage);
            }
            self.fill().await?;
        }
    }

    /// The body that follows a head with this framing.
    pub async fn read_body(&mut self, framing: Framing) -> Body {
        let mut body = Body { bytes: Vec::new(), trailers: Vec::new(), end: End::Complete };
        let read = match framing {
            Framing::Empty => Ok(()),
            Framing::Length(length) => self.take(length, &mut body.bytes).await,
            Framing::Chunked => self.read_chunks(&mut body).await,
            Framing::UntilClose => {
                self.read_to_end(&mut body.bytes).await;
                Ok(())
            }
        };
        if let Err(end) = read {
            body.end = end;
        }
        body
    }

    /// Everything up to the end of the connection.
    pub async fn read_to_end(&mut self, into: &mut Vec<u8>) {
        loop {
            into.extend_from_slice(&self.buffer.split());
            if self.fill().await.is_err() {
                return;
            }
        }
    }

    /// Reads on until at least `count` bytes are there.
    pub async fn take(&mut self, count: usize, into: &mut Vec<u8>) -> Result<(), End> {
        let wanted = into.len() + count;
        loop {
            let part = self.buffer.len().min(wanted - into.len());
            into.extend_from_slice(&self.buffer.split_to(part));
            if into.len() == wanted {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    /// Whatever comes next, at least one byte.
    pub async fn read_some(&mut self) -> Result<Vec<u8>, End> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        Ok(self.buffer.split().to_vec())
    }

    async fn read_chunks(&mut self, body: &mut Body) -> Result<(), End> {
        loop {
            let line = self.read_line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16).map_err(|_| End::Garbage)?;
            if size == 0 {
                break;
            }
            self.take(size, &mut body.bytes).await?;
            self.read_line().await?;
        }
        loop {
            let line = self.read_line().await?;
            if line.is_empty() {
                return Ok(());
            }
            body.trailers.push(header_line(&line));
        }
    }

    async fn read_line(&mut self) -> Result<String, End> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..at]).into_owned();
                self.buffer.advance(at + 2);
                return Ok(line);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), End> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(End::Closed),
            Ok(_) => Ok(()),
            // Whether a close shows as an end or as a reset depends on unread bytes, hence on timing.
            Err(_) => Err(End::Closed),
        }
    }
}

/// Writes a message: the start line, the headers, and framing headers unless the case wrote its own.
pub fn write_message(
    start: &str,
    headers: &Headers,
    chunks: &[String],
    chunked: bool,
    trailers: &Headers,
) -> Vec<u8> {
    let mut out = format!("{start}\r\n");
    for (name, value) in &headers.0 {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    let framed = headers.has("content-length") || headers.has("transfer-encoding");
    if chunked {
        out.push_str("transfer-encoding: chunked\r\n\r\n");
        for chunk in chunks {
            out.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        }
        out.push_str("0\r\n");
        for (name, value) in &trailers.0 {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
    } else {
        let body = chunks.concat();
        if !framed && !body.is_empty() {
            out.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        out.push_str("\r\n");
        out.push_str(&body);
    }
    out.into_bytes()
}

fn header_line(line: &str) -> (String, String) {
    match line.split_once(':') {
        Some((name, value)) => (name.to_owned(), value.trim().to_owned()),
        None => (line.to_owned(), String::new()),
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
