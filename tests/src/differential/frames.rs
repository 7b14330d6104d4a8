//! HTTP/2 frame by frame, for what no client library would send.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::case::{Frame, FrameType};
use super::client::PATIENCE;
use super::http1::{End, Wire};
use super::text::from_hex;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = FrameType::Data as u8;
const HEADERS: u8 = FrameType::Headers as u8;
const RST_STREAM: u8 = FrameType::RstStream as u8;
const SETTINGS: u8 = FrameType::Settings as u8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// Sends the frames and notes which streams were answered. How the others are refused is no matter: by a reset, a GOAWAY or
/// the end of the connection, as the proxy likes.
pub async fn exchange(mut wire: Wire, frames: &[Frame]) -> Result<Value, String> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(encode(FrameType::Settings, 0, 0, &[]));
    let mut open = BTreeSet::new();
    for frame in frames {
        bytes.extend(encode(frame.kind, flags(frame), frame.stream, &payload(frame)?));
        if frame.kind == FrameType::Headers {
            open.insert(frame.stream);
        }
    }
    // A proxy may close before everything was sent; what it says is there all the same.
    let _ = wire.send(&bytes).await;
    let mut streams = Map::new();
    let read = async {
        while !open.is_empty() {
            match read_end(&mut wire).await {
                Ok((stream, how)) if open.remove(&stream) => {
                    streams.insert(stream.to_string(), json!(how));
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    };
    let left = match timeout(PATIENCE, read).await {
        Ok(()) => "refused",
        Err(_) => "not ended in time",
    };
    streams.extend(open.iter().map(|stream| (stream.to_string(), json!(left))));
    Ok(json!({"streams": streams}))
}

/// Reads up to the end of a stream, answering SETTINGS.
async fn read_end(wire: &mut Wire) -> Result<(u32, &'static str), End> {
    loop {
        let mut head = Vec::new();
        wire.take(9, &mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        wire.take(length, &mut Vec::new()).await?;
        match kind {
            DATA | HEADERS if flags & END_STREAM != 0 => return Ok((stream, "answered")),
            RST_STREAM => return Ok((stream, "refused")),
            SETTINGS if flags & ACK == 0 => {
                let _ = wire.send(&encode(FrameType::Settings, ACK, 0, &[])).await;
            }
            _ => {}
        }
    }
}

fn flags(frame: &Frame) -> u8 {
    frame.flags.unwrap_or(match frame.kind {
        FrameType::Headers => END_STREAM | END_HEADERS,
        FrameType::Data => END_STREAM,
        _ => 0,
    })
}

fn payload(frame: &Frame) -> Result<Vec<u8>, String> {
    let mut payload = Vec::new();
    for (name, value) in &frame.fields.0 {
        // Literal without indexing, new name (RFC 7541, 6.2.2).
        payload.push(0);
        for text in [name, value] {
            length(text.len(), &mut payload);
            payload.extend_from_slice(text.as_bytes());
        }
    }
    payload.extend_from_slice(frame.text.as_bytes());
    payload.extend(from_hex(&frame.hex)?);
    Ok(payload)
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1), and no Huffman code.
fn length(length: usize, into: &mut Vec<u8>) {
    if length < 0x7f {
        into.push(length as u8);
        return;
    }
    into.push(0x7f);
    let mut rest = length - 0x7f;
    while rest >= 0x80 {
        into.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    into.push(rest as u8);
}

fn encode(kind: FrameType, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind as u8, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}
