//! HTTP/2 on a downstream connection: it is accepted here, and each stream becomes a task of its own.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use h2::server::{self, Handshake};
use hyper_util::rt::TokioIo;

use crate::http::connection::Connection;
use crate::http::delayed_close::DelayedClose;
use crate::io::Stream;
use crate::io::http2::KeepAlive;

mod exchange;

type Transport = TokioIo<DelayedClose>;

/// A connection that is served: ready when it has ended.
pub struct Served {
    connection: Rc<Connection>,
    state: State,
    keep_alive: Option<KeepAlive>,
    is_shutting_down: bool,
}

enum State {
    /// The client's preface has not come yet.
    Shaking(Handshake<Transport, Bytes>),
    Open(server::Connection<Transport, Bytes>),
}

/// Serves HTTP/2 on `stream`.
pub fn serve(stream: Stream, connection: &Rc<Connection>) -> Served {
    let config = &connection.manager.config;
    let options = &config.http2;
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(options.max_concurrent_streams)
        .initial_window_size(options.initial_stream_window_size)
        .initial_connection_window_size(options.initial_connection_window_size)
        .header_table_size(options.hpack_table_size)
        .max_header_list_size(config.max_request_headers_kb * 1024)
        .max_send_buffer_size(config.buffer_limit as usize);
    if options.allow_connect {
        builder.enable_connect_protocol();
    }
    let stream = TokioIo::new(DelayedClose::new(stream, &connection.manager));
    Served {
        connection: Rc::clone(connection),
        state: State::Shaking(builder.handshake(stream)),
        keep_alive: None,
        is_shutting_down: false,
    }
}

impl Served {
    /// Sends GOAWAY: the streams under way go on, and then the connection ends.
    pub fn shut_down(&mut self) {
        self.is_shutting_down = true;
        if let State::Open(open) = &mut self.state {
            open.graceful_shutdown();
        }
    }

    /// The client's settings have come.
    fn begin(&mut self, mut open: server::Connection<Transport, Bytes>) {
        if self.is_shutting_down {
            open.graceful_shutdown();
        }
        let times = self.connection.manager.config.http2.keepalive;
        let times = times.and_then(|times| Some((times, open.ping_pong()?)));
        self.keep_alive = times.map(|(times, ping)| KeepAlive::new(ping, times));
        self.state = State::Open(open);
    }
}

impl Future for Served {
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let this = self.get_mut();
        loop {
            let open = match &mut this.state {
                State::Open(open) => open,
                State::Shaking(shaking) => {
                    let open = ready!(Pin::new(shaking).poll(cx))?;
                    this.begin(open);
                    continue;
                }
            };
            if this.keep_alive.as_mut().is_some_and(|alive| alive.poll_lost(cx).is_ready()) {
                this.keep_alive = None;
                open.abrupt_shutdown(Reason::NO_ERROR);
            }
            match ready!(open.poll_accept(cx)).transpose()? {
                Some((request, reply)) => exchange::start(&this.connection, request, reply),
                None => return Poll::Ready(Ok(())),
            }
        }
    }
}
