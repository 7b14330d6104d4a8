//! Serving HTTP/1.1 to admin clients, which may be slow or hostile.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::sync::Semaphore;
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::{sleep, timeout};

use super::reply::{Answer, Reply};
use super::{Context, endpoints};
use crate::downstream::accept::{Accepting, Switch};
use crate::downstream::socket::{Acceptor, Socket};
use crate::io::{Address, Stream};

/// More clients than this wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
/// A client that has not sent a request's head by then is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection takes no more requests after this time, so that one that does not read its answer cannot stay for ever.
const LIFETIME: Duration = Duration::from_secs(120);
/// What is under way at the end of the lifetime has this long to finish.
const GRACE: Duration = Duration::from_secs(60);
/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// What all connections share.
struct Shared {
    context: Context,
    /// Long answers are made one at a time: each may take much memory.
    printing: Semaphore,
}

/// The admin interface, which another process may take over.
pub struct Serving {
    /// Where it is, with a port where the configured address says 0.
    pub address: Address,
    acceptor: Acceptor,
    switch: Switch,
}

impl Serving {
    /// Serves the admin interface from now on, as a task of the current `LocalSet`. `address` is the configured one.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub fn start(socket: Socket, address: &Address, context: Context) -> io::Result<Rc<Serving>> {
        let address = socket.local_address().unwrap_or_else(|| address.clone());
        let acceptor = socket.accept_here()?;
        let serving = Rc::new(Serving { address, acceptor, switch: Switch::default() });
        let shared = Rc::new(Shared { context, printing: Semaphore::new(1) });
        spawn_local(accept(Rc::clone(&serving), shared));
        Ok(serving)
    }

    /// The socket once more, for the process that takes over.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.acceptor.duplicate()
    }

    /// Another process serves.
    pub fn pause(&self) {
        self.switch.set(Accepting::Paused);
    }

    /// The other process is gone.
    pub fn resume(&self) {
        self.switch.set(Accepting::Open);
    }
}

async fn accept(serving: Rc<Serving>, shared: Rc<Shared>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut follower = serving.switch.follow();
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        match follower.accept(&serving.acceptor).await {
            Some(Ok((stream, _, _))) => {
                let shared = Rc::clone(&shared);
                spawn_local(async move {
                    serve(stream, shared).await;
                    drop(place);
                });
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept admin connections; trying again");
                sleep(Duration::from_millis(50)).await;
            }
            None => return,
        }
    }
}

/// Serves one connection. Request bodies are never read: hyper closes a connection that still has one.
async fn serve(stream: Stream, shared: Rc<Shared>) {
    let service = service_fn(|request| {
        let shared = Rc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&request, &shared).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    let mut connection = pin!(builder.serve_connection(stream, service));
    if timeout(LIFETIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        // Whatever is left is cut; how a client's connection ends is the client's business.
        let _ = timeout(GRACE, connection).await;
    }
}

async fn answer(request: &Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let reply = match endpoints::answer(&shared.context, request.method(), request.uri()).await {
        Answer::Now(reply) => reply,
        Answer::Later(print) => {
            let _turn = shared.printing.acquire().await;
            spawn_blocking(print).await.unwrap_or_else(|error| {
                tracing::error!(%error, path = request.uri().path(), "an admin endpoint failed");
                Reply::error(http::StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
            })
        }
    };
    reply.into_response()
}
