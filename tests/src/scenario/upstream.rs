//! A server behind the sidecar.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::{Body, Protocol, full};

/// The frames that `/bytes/N` sends.
const FRAME: usize = 64 * 1024;

/// Something that waits until the test lets it go on.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    fn default() -> Self {
        Gate(Arc::new(watch::Sender::new(false)))
    }
}

impl Gate {
    /// Lets everybody go on, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the gate is open.
    pub async fn passed(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A server of HTTP/1.1 or HTTP/2 on a free port. It ends when dropped. It answers by path:
///
/// * `/echo`: the request's body, frame by frame, and its trailers
/// * `/fail`: status 503
/// * `/hold`: `first `, and once the gate is open `last`
/// * `/bytes/N`: N bytes
/// * `/count`: once the gate is open, how many bytes the request's body had, and the names of its trailers
/// * `/header/NAME`: what the request has in this header
/// * anything else: its name
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// What `/hold` and `/count` wait for.
    pub gate: Gate,
    /// Bytes of `/bytes/N` that could be sent so far.
    pub sent: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

#[derive(Clone, Default)]
struct Service {
    name: &'static str,
    gate: Gate,
    sent: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
}

impl Upstream {
    /// Starts one.
    pub async fn start(name: &'static str, protocol: Protocol) -> Upstream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let service = Service { name, ..Service::default() };
        let Service { gate, sent, requests, .. } = service.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, protocol, service.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Upstream { address, gate, sent, requests, _task: task }
    }

    /// How many requests have come.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}

async fn serve(stream: TcpStream, protocol: Protocol, service: Service) {
    // A small answer must not wait for the one before to be acknowledged.
    let _ = stream.set_nodelay(true);
    let answering = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let io = TokioIo::new(stream);
    // An error is the proxy gone.
    let _ = match protocol {
        Protocol::Http1 => http1::Builder::new().serve_connection(io, answering).await,
        Protocol::Http2 => {
            http2::Builder::new(TokioExecutor::new()).serve_connection(io, answering).await
        }
    };
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        self.requests.fetch_add(1, Relaxed);
        let path = request.uri().path().to_owned();
        let mut response = Response::new(match path.as_str() {
            "/echo" => request.into_body().boxed_unsync(),
            "/hold" => held(self.gate.clone()),
            "/count" => {
                self.gate.passed().await;
                full(count(request.into_body()).await)
            }
            path if path.starts_with("/header/") => {
                let value = request.headers().get(&path["/header/".len()..]);
                full(
                    value.map_or_else(Bytes::new, |value| Bytes::copy_from_slice(value.as_bytes())),
                )
            }
            path => match path.strip_prefix("/bytes/").and_then(|n| n.parse().ok()) {
                Some(bytes) => zeros(bytes, &self.sent),
                None => full(self.name),
            },
        });
        if path == "/fail" {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    }
}

fn held(gate: Gate) -> Body {
    let parts = stream::unfold(0, move |part| {
        let gate = gate.clone();
        async move {
            let text = match part {
                0 => "first ",
                1 => {
                    gate.passed().await;
                    "last"
                }
                _ => return None,
            };
            Some((Ok(Frame::data(Bytes::from(text))), part + 1))
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(parts))
}

/// A body of so many zeros, which counts in `taken` how many were taken from it.
pub fn zeros(bytes: usize, taken: &Arc<AtomicU64>) -> Body {
    let taken = Arc::clone(taken);
    let frame = Bytes::from(vec![0; FRAME]);
    let frames = stream::iter((0..bytes).step_by(FRAME).map(move |start| {
        let frame = frame.slice(..FRAME.min(bytes - start));
        taken.fetch_add(frame.len() as u64, Relaxed);
        Ok(Frame::data(frame))
    }));
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

async fn count(mut body: Incoming) -> String {
    let (mut bytes, mut trailers) = (0, Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return "broken".to_owned() };
        bytes += frame.data_ref().map_or(0, Bytes::len);
        trailers.extend(frame.trailers_ref().iter().flat_map(|map| map.keys()).cloned());
    }
    trailers.iter().fold(bytes.to_string(), |text, name| format!("{text} {name}"))
}
