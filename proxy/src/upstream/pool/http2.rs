//! HTTP/2 connections.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::poll;
use h2::SendStream;
use h2::client::{self, ResponseFuture, SendRequest};
use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as _;
use hyper::client::conn::http2::Builder;
use hyper_util::rt::TokioTimer;
use tokio::task::spawn_local;
use tokio_util::task::AbortOnDropHandle;

use super::connection::{Established, Sender, Unanswered};
use crate::config::cluster::Cluster as Config;
use crate::io::http2::{Http2Body, KeepAlive, Upload, send_body};
use crate::io::{Body, CodecError, Incoming};
use crate::upstream::meter::Metered;

/// As many streams are begun before the host has said how many it takes.
const STREAMS_BEFORE_SETTINGS: usize = 100;
/// As much is kept for a stream that the host does not read from, in bytes.
const SEND_BUFFER: usize = 1024 * 1024;

/// hyper's settings for HTTP/2 to a host of the cluster, for calls of the proxy itself.
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
pub(super) async fn handshake(stream: Metered, config: &Config) -> Result<Established, CodecError> {
    let options = &config.http2;
    let has_read = stream.has_read();
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
        .initial_window_size(options.initial_stream_window_size)
        .initial_connection_window_size(options.initial_connection_window_size)
        .header_table_size(options.hpack_table_size)
        .max_header_list_size(config.http.max_response_headers_kb.saturating_mul(1024))
        .max_send_buffer_size(SEND_BUFFER);
    let (sender, mut connection) = builder.handshake(stream).await?;
    let keep_alive = options.keepalive.zip(connection.ping_pong());
    let mut keep_alive = keep_alive.map(|(times, ping)| KeepAlive::new(ping, times));
    let most = options.max_concurrent_streams as usize;
    let capacity = Rc::new(Cell::new(most));
    // The peer's limit comes with its settings, and only the connection knows it.
    let limit = Rc::clone(&capacity);
    let driver = poll_fn(move |cx| {
        if keep_alive.as_mut().is_some_and(|alive| alive.poll_lost(cx).is_ready()) {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut connection).poll(cx);
        limit.set(connection.max_concurrent_send_streams().min(most));
        polled.map_err(CodecError::from)
    });
    Ok(Established {
        sender: Sender::Http2(sender),
        driver: Box::pin(driver),
        capacity,
        has_read,
        written: None,
    })
}

/// Whether the connection takes another request.
pub(super) fn is_open(sender: &mut SendRequest<Bytes>) -> bool {
    // Nobody has to be woken: it is asked again with the next request.
    let mut cx = Context::from_waker(Waker::noop());
    !matches!(sender.poll_ready(&mut cx), Poll::Ready(Err(_)))
}

/// A request that is on its way.
pub(super) struct Sent {
    response: ResponseFuture,
    stream: SendStream<Bytes>,
    body: Body,
    becomes_tunnel: bool,
}

/// Puts a request on the connection.
///
/// # Errors
/// The connection has ended, and gives the request back; or the request is none of HTTP/2.
pub(super) fn send(
    sender: &SendRequest<Bytes>,
    request: Request<Body>,
) -> Result<Sent, Unanswered> {
    // One of its own: if the host takes no more streams for now, the other requests must not wait for this one's.
    let mut sender = sender.clone();
    let mut cx = Context::from_waker(Waker::noop());
    if let Poll::Ready(Err(error)) = sender.poll_ready(&mut cx) {
        return Err(Unanswered { error: error.into(), unsent: Some(Box::new(request)) });
    }
    let (mut head, body) = request.into_parts();
    strip(&mut head.headers);
    let becomes_tunnel = head.method == Method::CONNECT;
    let ends = body.is_end_stream() && !becomes_tunnel;
    match sender.send_request(Request::from_parts(head, ()), ends) {
        Ok((response, stream)) => Ok(Sent { response, stream, body, becomes_tunnel }),
        Err(error) => Err(Unanswered { error: error.into(), unsent: None }),
    }
}

impl Sent {
    /// Waits for the response. Dropped before, it resets the stream.
    ///
    /// # Errors
    /// The host, the connection or the request's body reset the stream.
    pub(super) async fn answer(self) -> Result<Response<Incoming>, Unanswered> {
        let Sent { response, stream, body, becomes_tunnel } = self;
        let upload = match becomes_tunnel {
            true => Upload::Tunnel(stream),
            false if body.is_end_stream() => Upload::Done,
            false => upload(body, stream).await,
        };
        match response.await {
            Ok(response) => {
                let (head, stream) = response.into_parts();
                let body = Http2Body::new(stream, upload);
                Ok(Response::from_parts(head, Incoming::Http2(body)))
            }
            Err(error) => Err(Unanswered { error: error.into(), unsent: None }),
        }
    }
}

/// Sends what there is of the body now, and the rest beside the response.
async fn upload(body: Body, mut stream: SendStream<Bytes>) -> Upload {
    let mut sending = Box::pin(async move { send_body(body, &mut stream).await });
    match poll!(&mut sending) {
        // Who waits for the response is told an error too.
        Poll::Ready(_) => Upload::Done,
        Poll::Pending => Upload::Task(AbortOnDropHandle::new(spawn_local(sending))),
    }
}

/// Removes what belongs to a connection of HTTP/1 (RFC 9113 §8.2.2), which a route may have added; h2 refuses it.
fn strip(headers: &mut HeaderMap) {
    let is_odd = |name: &str| {
        matches!(
            name,
            "connection"
                | "transfer-encoding"
                | "upgrade"
                | "keep-alive"
                | "proxy-connection"
                | "te"
        )
    };
    if !headers.keys().any(|name| is_odd(name.as_str())) {
        return;
    }
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
}
