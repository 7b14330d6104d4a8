//! HTTP/1.1 connections.

use std::cell::Cell;
use std::rc::Rc;

use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;

use super::connection::{Established, Sender};
use crate::config::cluster::Cluster as Config;
use crate::io::CodecError;
use crate::upstream::meter::Metered;

/// hyper's own limit of headers, which costs no allocation.
const DEFAULT_MAX_HEADERS: u32 = 100;

/// Makes an HTTP/1.1 connection of a stream. Nothing is sent yet.
///
/// # Errors
/// hyper reports none today.
pub(super) async fn handshake(stream: Metered, config: &Config) -> Result<Established, CodecError> {
    let mut builder = Builder::new();
    builder.max_header_size(config.http.max_response_headers_kb as usize * 1024);
    if config.http.max_headers_count != DEFAULT_MAX_HEADERS {
        builder.max_headers(config.http.max_headers_count as usize);
    }
    let has_read = stream.has_read();
    let written = Some(stream.written());
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    Ok(Established {
        sender: Sender::Http1(sender),
        driver: Box::pin(async move { Ok(connection.with_upgrades().await?) }),
        capacity: Rc::new(Cell::new(1)),
        has_read,
        written,
    })
}
