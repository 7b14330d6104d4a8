//! The framing of a body that goes out, and the lines of a head.

use std::io::Write;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    HOST, HeaderName, MAX_FORWARDS, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue};

use super::wire::Out;

/// The fields that have no place behind a body (RFC 9110 §6.5.1): they frame it, route it, or say how to take it.
const NO_TRAILERS: [HeaderName; 12] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    HOST,
    MAX_FORWARDS,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
];

/// As much room is made for a head at first, in bytes.
pub const HEAD: usize = 512;

/// How a body that goes out is framed.
#[derive(Debug, PartialEq, Eq)]
pub enum Encoder {
    /// So many bytes are left; 0 where there is no body.
    Length(u64),
    /// `transfer-encoding: chunked`
    Chunked,
    /// It ends with the connection.
    UntilClose,
}

/// A body is longer or shorter than its head has said.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body has another length than its head has said")]
pub struct WrongLength;

impl Encoder {
    /// Puts data out; `is_last` says that nothing follows.
    ///
    /// # Errors
    /// There is more, or less, than the head has said.
    pub fn data(&mut self, data: Bytes, is_last: bool, out: &mut Out) -> Result<(), WrongLength> {
        match self {
            Encoder::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                out.put(data, b"");
            }
            Encoder::UntilClose => out.put(data, b""),
            Encoder::Chunked if data.is_empty() => {}
            Encoder::Chunked => {
                chunk_size(data.len(), out.text());
                out.put(data, if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" });
                return Ok(());
            }
        }
        if is_last { self.end(out) } else { Ok(()) }
    }

    /// Puts trailers out, which end the body. Only chunks have a place for them.
    ///
    /// # Errors
    /// There is less than the head has said.
    pub fn trailers(&mut self, trailers: &HeaderMap, out: &mut Out) -> Result<(), WrongLength> {
        if *self != Encoder::Chunked {
            return self.end(out);
        }
        let text = out.text();
        text.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.iter().filter(|(name, _)| !NO_TRAILERS.contains(name)) {
            field(text, name.as_str(), value);
        }
        text.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    /// There was less than the head has said.
    pub fn end(&mut self, out: &mut Out) -> Result<(), WrongLength> {
        match self {
            Encoder::Length(0) | Encoder::UntilClose => Ok(()),
            Encoder::Length(_) => Err(WrongLength),
            Encoder::Chunked => {
                out.text().extend_from_slice(b"0\r\n\r\n");
                Ok(())
            }
        }
    }
}

/// The line in front of a chunk.
fn chunk_size(length: usize, text: &mut Vec<u8>) {
    // Writing to a vector does not fail.
    let _ = write!(text, "{length:x}\r\n");
}

/// Puts a field into a head.
pub fn field(text: &mut Vec<u8>, name: &str, value: &HeaderValue) {
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value.as_bytes());
    text.extend_from_slice(b"\r\n");
}

/// The number that a field holds, if it is nothing but one.
pub fn number(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
