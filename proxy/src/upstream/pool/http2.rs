//! HTTP/2 connections.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;

use hyper::client::conn::http2::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::connection::{Established, Sender};
use crate::config::cluster::Cluster as Config;
use crate::io::local::LocalExecutor;
use crate::upstream::meter::Metered;

/// hyper's settings for HTTP/2 to a host of the cluster.
pub(in crate::upstream) fn builder<E: Clone>(executor: E, config: &Config) -> Builder<E> {
    let options = &config.http2;
    let mut builder = Builder::new(executor);
    builder
        .initial_stream_window_size(options.initial_stream_window_size)
        .initial_connection_window_size(options.initial_connection_window_size)
        .header_table_size(options.hpack_table_size)
        .max_header_list_size(config.http.max_response_headers_kb.saturating_mul(1024));
    if let Some((interval, timeout)) = options.keepalive {
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(interval)
            .keep_alive_timeout(timeout)
            .keep_alive_while_idle(true);
    }
    builder
}

/// Makes an HTTP/2 connection of a stream: sends the preface and our settings.
///
/// # Errors
/// The preface could not be sent.
pub(super) async fn handshake(stream: Metered, config: &Config) -> hyper::Result<Established> {
    let builder = builder(LocalExecutor, config);
    let has_read = stream.has_read();
    let (sender, mut connection) = builder.handshake(TokioIo::new(stream)).await?;
    let most = config.http2.max_concurrent_streams as usize;
    let capacity = Rc::new(Cell::new(most));
    // The peer's limit comes with its settings, and only the connection knows it.
    let limit = Rc::clone(&capacity);
    let driver = poll_fn(move |cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        limit.set(connection.current_max_send_streams().min(most));
        polled
    });
    Ok(Established {
        sender: Sender::Http2(sender),
        driver: Box::pin(driver),
        capacity,
        has_read,
        written: None,
    })
}
