//! Calls of the proxy itself (management servers, for one) through a cluster, from the control thread.
//!
//! A [`ClusterService`] is a `tower::Service`, so that tonic and tower's layers sit on it. [`Http1Service`] is its sibling for
//! what is polled.

mod http1;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Mutex;
use tonic::body::Body;

use super::balance::PickContext;
use super::cluster::{Cluster, ClusterSlot, Host, PickError, Picked};
use super::connect::connect;
use super::count::{ConnectionCount, RequestCount};
use super::meter::Metered;
use super::pool::{PoolError, http2};

pub use http1::Http1Service;

/// Why a call got no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The cluster does not exist.
    #[error("cluster {0:?} does not exist")]
    NoCluster(Arc<str>),
    /// No host can be picked.
    #[error("cluster {0:?}: {1}")]
    Pick(Arc<str>, PickError),
    /// No connection could be made.
    #[error("cluster {cluster:?}: {error}{}", transport(.error))]
    Connect {
        /// The cluster.
        cluster: Arc<str>,
        /// Why.
        #[source]
        error: PoolError,
    },
    /// The request cannot be put into the protocol's form.
    #[error("bad request URI: {0}")]
    Uri(#[from] http::Error),
    /// The connection or the stream broke.
    #[error("cluster {0:?}: {1}")]
    Send(Arc<str>, #[source] hyper::Error),
}

fn transport(error: &PoolError) -> String {
    error.transport_failure.as_ref().map(|text| format!(": {text}")).unwrap_or_default()
}

/// HTTP/2 to a cluster, over one connection that is made on demand and anew when it is lost.
#[derive(Clone)]
pub struct ClusterService {
    shared: Arc<Shared>,
}

struct Shared {
    slot: Arc<ClusterSlot>,
    authority: Authority,
    link: Mutex<Option<Link>>,
}

/// The connection in use.
#[derive(Clone)]
struct Link {
    /// The cluster that is called.
    asked: Arc<Cluster>,
    /// The one that the host belongs to.
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    /// The generation of connections to the host that the link is of.
    epoch: u32,
    sender: SendRequest<Body>,
}

impl ClusterService {
    /// Calls the cluster in `slot`; requests carry `authority`.
    pub fn new(slot: Arc<ClusterSlot>, authority: Authority) -> Self {
        ClusterService { shared: Arc::new(Shared { slot, authority, link: Mutex::default() }) }
    }
}

impl tower::Service<Request<Body>> for ClusterService {
    type Response = Response<Body>;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, ClientError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.call(request).await })
    }
}

impl Shared {
    async fn call(&self, mut request: Request<Body>) -> Result<Response<Body>, ClientError> {
        let mut link = self.link().await?;
        *request.uri_mut() = self.complete(request.uri(), &link.cluster)?;
        let name = link.cluster.name();
        let count = RequestCount::start(&link.cluster, &link.host, 0)
            .map_err(|error| ClientError::Connect { cluster: Arc::clone(name), error })?;
        let response = link.sender.send_request(request).await;
        let response = response.map_err(|error| ClientError::Send(Arc::clone(name), error))?;
        link.cluster.stats().upstream_rq.record(response.status().as_u16());
        // The request counts as active until its response's body is dropped.
        Ok(response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _held = &count;
                frame
            }))
        }))
    }

    /// The URI with scheme and authority, which HTTP/2 wants and tonic does not know.
    fn complete(&self, uri: &Uri, cluster: &Cluster) -> Result<Uri, http::Error> {
        let is_tls = cluster.config().tls.is_some();
        let path = uri.path_and_query().cloned();
        Uri::builder()
            .scheme(if is_tls { Scheme::HTTPS } else { Scheme::HTTP })
            .authority(self.authority.clone())
            .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
            .build()
    }

    /// The connection in use, or a new one.
    async fn link(&self) -> Result<Link, ClientError> {
        let missing = || ClientError::NoCluster(Arc::clone(self.slot.name()));
        let cluster = self.slot.get().ok_or_else(missing)?;
        let mut kept = self.link.lock().await;
        if let Some(link) = kept.as_ref().filter(|link| link.is_usable(&cluster)) {
            return Ok(link.clone());
        }
        let link = Link::open(cluster).await?;
        *kept = Some(link.clone());
        Ok(link)
    }
}

impl Link {
    fn is_usable(&self, cluster: &Arc<Cluster>) -> bool {
        Arc::ptr_eq(&self.asked, cluster)
            && !self.cluster.is_retired()
            && self.epoch == self.host.epoch()
            && !self.sender.is_closed()
    }

    async fn open(cluster: Arc<Cluster>) -> Result<Link, ClientError> {
        let picked = cluster.pick(&PickContext::default());
        let Picked { host, member } =
            picked.map_err(|error| ClientError::Pick(Arc::clone(cluster.name()), error))?;
        let asked = Arc::clone(&cluster);
        let cluster = member.unwrap_or(cluster);
        let name = cluster.name();
        let epoch = host.epoch();
        let count = ConnectionCount::start(&cluster, &host, 0);
        let sender = match open_http2(&cluster, &host).await {
            Ok((sender, driver)) => {
                count.connected();
                cluster.stats().upstream_cx_http2_total.inc();
                tokio::spawn(async move {
                    // Requests on the connection are told its error.
                    let _ = driver.await;
                    count.ended(true, false);
                });
                sender
            }
            Err(error) => {
                count.failed(&error);
                return Err(ClientError::Connect { cluster: Arc::clone(name), error });
            }
        };
        Ok(Link { asked, cluster, host, epoch, sender })
    }
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

async fn open_http2(
    cluster: &Cluster,
    host: &Host,
) -> Result<(SendRequest<Body>, Driver), PoolError> {
    let connected = connect(cluster, host).await?;
    let stream = Metered::new(connected.stream, Arc::clone(&cluster.traffic().stats));
    let builder = http2::builder(TokioExecutor::new(), cluster.config());
    let (sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(PoolError::handshake)?;
    Ok((sender, Box::pin(connection)))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::service::service_fn;
    use tokio::net::TcpListener;
    use tower::{Service, ServiceExt};

    use super::*;
    use crate::telemetry::stats::Store;
    use crate::upstream::cluster::ClusterRegistry;
    use crate::upstream::cluster::tests::{cluster, config};

    /// Answers with the request's URI; closes after one request if told so.
    async fn serve(listener: TcpListener, times: usize) {
        for _ in 0..times {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = service_fn(|request: Request<hyper::body::Incoming>| async move {
                Ok::<_, Infallible>(Response::new(request.uri().to_string()))
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let mut serving = std::pin::pin!(server.serve_connection(TokioIo::new(stream), answer));
            // The connection ends after its first request: the client must come again.
            tokio::select! {
                _ = &mut serving => {}
                () = tokio::task::yield_now() => {}
            }
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }

    #[tokio::test]
    async fn calls_go_through_the_cluster_and_reconnect() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let registry = ClusterRegistry::new(&Store::default());
        let authority = Authority::from_static("xds");
        let mut service = ClusterService::new(registry.slot("xds"), authority);
        let request = || Request::builder().uri("/a/b").body(Body::empty()).unwrap();
        let error = service.call(request()).await.unwrap_err();
        assert_eq!(error.to_string(), "cluster \"xds\" does not exist");

        let xds = cluster(config("xds", &[&address]), None);
        registry.put(vec![Arc::clone(&xds)]);
        let server = tokio::spawn(serve(listener, 2));
        let mut boxed = tower::util::BoxCloneSyncService::new(service);
        let mut answers = 0;
        // A call may fall on a connection that is just closing; then the next one makes a new connection.
        while xds.stats().upstream_cx_total.get() < 2 || answers < 2 {
            let Ok(response) = boxed.ready().await.unwrap().call(request()).await else { continue };
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, "http://xds/a/b");
            answers += 1;
        }
        assert_eq!(xds.stats().upstream_rq_active.get(), 0);
        server.abort();
    }
}
