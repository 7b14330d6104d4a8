//! A replica of a service, as a process of its own that can be killed, stalled and told to misbehave.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::stream;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::block_in_place;

use crate::programs::{Process, Ready, free_address, http_post};
use crate::scenario::{Body, PATIENCE, full};

/// The header that names who answered.
pub const NAME: &str = "x-replica";

/// A replica's process. It is killed when dropped.
pub struct Replica {
    /// Where it listens, also after a restart.
    pub address: SocketAddr,
    name: String,
    process: Process,
}

impl Replica {
    /// Starts a replica on a free port and waits until it listens.
    pub fn start(name: &str) -> Replica {
        let address = free_address();
        Replica { address, name: name.to_owned(), process: spawn(name, address) }
    }

    /// Starts it anew at the same address.
    pub fn restart(&mut self) {
        self.process = spawn(&self.name, self.address);
    }

    /// Sends the signal `name` as kill(1) calls it.
    pub fn signal(&self, name: &str) {
        self.process.signal(name).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.wait_exit();
    }

    /// Asks it to end in order, and waits until it has.
    pub fn terminate(&mut self) {
        self.signal("TERM");
        self.wait_exit();
    }

    fn wait_exit(&mut self) {
        let ended = block_in_place(|| self.process.wait_exit(PATIENCE));
        ended.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Lets it be `ok`, `failing` (every answer is 503) or `slow` (every answer takes 400 ms).
    pub fn become_(&self, what: &str) {
        let path = format!("/become/{what}");
        let answer = block_in_place(|| http_post(self.address, &path));
        answer.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }
}

fn spawn(name: &str, address: SocketAddr) -> Process {
    let mut command = Command::new(program());
    command.args(["replica", "--name", name, "--listen", &address.to_string()]);
    let mut process = Process::spawn(name, &mut command).unwrap_or_else(|e| panic!("{e}"));
    let ready = block_in_place(|| process.wait_ready(Ready::Port(address), PATIENCE));
    ready.unwrap_or_else(|error| panic!("{error}"));
    process
}

/// The program that can be a replica: it lies beside Pillion.
fn program() -> PathBuf {
    crate::programs::pillion().with_file_name("drill")
}

/// `drill replica`
#[derive(Args)]
pub struct ReplicaArgs {
    /// Its name.
    #[arg(long)]
    name: HeaderValue,
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
}

#[derive(Clone)]
struct Service {
    name: HeaderValue,
    fails: Arc<AtomicBool>,
    delay_ms: Arc<AtomicU64>,
    /// Whether connections shall end. Each session holds it, so that the process can wait for the last.
    ends: watch::Receiver<bool>,
}

/// Is a replica until SIGTERM, and then until its connections have ended: HTTP/1.1, HTTP/2, gRPC (every call succeeds) and
/// upgraded connections (what comes goes back).
///
/// # Errors
/// It cannot listen.
pub async fn serve(args: ReplicaArgs) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(args.listen)?;
    let listener: TcpListener = socket.listen(4096)?;
    let (end, ends) = watch::channel(false);
    let service =
        Service { name: args.name, fails: Arc::default(), delay_ms: Arc::default(), ends };
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = terminate.recv() => break,
        };
        tokio::spawn(connection(stream, service.clone()));
    }
    drop((listener, service));
    end.send_replace(true);
    end.closed().await;
    Ok(())
}

async fn connection(stream: TcpStream, service: Service) {
    let _ = stream.set_nodelay(true);
    let mut first = [0; 3];
    let is_http2 = stream.peek(&mut first).await.is_ok() && &first == b"PRI";
    let mut ends = service.ends.clone();
    let answering = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let io = TokioIo::new(stream);
    // An error is the peer gone.
    if is_http2 {
        let builder = http2::Builder::new(TokioExecutor::new());
        let mut serving = std::pin::pin!(builder.serve_connection(io, answering));
        tokio::select! {
            _ = &mut serving => return,
            _ = ends.wait_for(|ends| *ends) => serving.as_mut().graceful_shutdown(),
        }
        let _ = serving.await;
    } else {
        let serving = http1::Builder::new().serve_connection(io, answering).with_upgrades();
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            _ = &mut serving => return,
            _ = ends.wait_for(|ends| *ends) => serving.as_mut().graceful_shutdown(),
        }
        let _ = serving.await;
    }
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if let Some(what) = path.strip_prefix("/become/") {
            self.fails.store(what == "failing", Relaxed);
            self.delay_ms.store(if what == "slow" { 400 } else { 0 }, Relaxed);
            return Response::new(full("so be it"));
        }
        if path == "/health" {
            return Response::new(full("alive"));
        }
        let delay = self.delay_ms.load(Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        let mut response = match request.headers() {
            _ if self.fails.load(Relaxed) => {
                let mut response = Response::new(full("failing"));
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response
            }
            headers if headers.contains_key(UPGRADE) => upgraded(request, self.ends.clone()),
            headers if headers.get(CONTENT_TYPE).is_some_and(|t| t == "application/grpc") => {
                called(request).await
            }
            _ => Response::new(full("hello")),
        };
        response.headers_mut().insert(NAME, self.name.clone());
        response
    }
}

/// Sends everything back that comes over an upgraded connection, until the peer ends it.
fn upgraded(mut request: Request<Incoming>, session: watch::Receiver<bool>) -> Response<Body> {
    let protocol = request.headers()[UPGRADE].clone();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _session = session;
        if let Ok(upgraded) = upgrade.await {
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        }
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, protocol);
    response
}

/// The answer to a gRPC call: its message, and that all is well.
async fn called(request: Request<Incoming>) -> Response<Body> {
    let message = request.into_body().collect().await.map(|body| body.to_bytes());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(message.unwrap_or_else(|_| Bytes::new())), Frame::trailers(trailers)];
    let body = StreamBody::new(stream::iter(frames.map(Ok)));
    let mut response = Response::new(BodyExt::boxed_unsync(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
