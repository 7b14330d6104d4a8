use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::config::cluster::Cluster as Config;
use crate::io::Body;
use crate::upstream::balance::PickContext;
use crate::upstream::cluster::tests::{active, config};

mod http1;
mod http2;
mod limits;

/// Runs a test as a worker runs connections.
fn worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// Lets everything else run until the condition holds; a test that waits in vain ends.
async fn until(condition: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed().as_secs() < 30, "the condition does not come to hold");
        tokio::task::yield_now().await;
    }
}

/// A server on loopback that hands each connection to `serve`; counts them.
async fn server<F: Future<Output = ()> + 'static>(
    serve: impl Fn(TcpStream) -> F + 'static,
) -> (String, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepted = Rc::new(Cell::new(0));
    let count = Rc::clone(&accepted);
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.set(count.get() + 1);
            spawn_local(serve(stream));
        }
    });
    (address, accepted)
}

/// Serves HTTP/1 and answers every request with its path.
async fn serve_http1(stream: TcpStream) {
    let echo = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(Response::new(request.uri().path().to_owned()))
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), echo)
        .await;
}

/// A worker's pools with one cluster of one host.
struct Fixture {
    pools: Rc<Pools>,
    cluster: Arc<Cluster>,
    host: Arc<Host>,
}

impl Fixture {
    fn new(address: &str, change: impl FnOnce(&mut Config)) -> Rc<Self> {
        let mut config = config("c", &[address]);
        change(&mut config);
        let cluster = active(config);
        let host = cluster.pick(&PickContext::default()).unwrap().host;
        Rc::new(Fixture { pools: Pools::new(Arc::default()), cluster, host })
    }

    async fn lease(&self) -> Result<HttpLease, PoolError> {
        self.pools.http(&self.cluster, &self.host, Protocol::Http11, 0, None, None).await
    }

    async fn send(
        &self,
        path: &str,
    ) -> Result<(Response<crate::io::Incoming>, ResponseLease), SendError> {
        let lease = self.lease().await?;
        let host = self.host.address();
        let (uri, host) = match lease.protocol() {
            Protocol::Http2 => (format!("http://{host}{path}"), None),
            _ => (path.to_owned(), Some(host.to_string())),
        };
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        lease.send(request.body(Body::Empty).unwrap()).await
    }

    /// Sends a request and reads its answer to the end.
    async fn get(&self, path: &str) -> Result<String, SendError> {
        let (response, lease) = self.send(path).await?;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        lease.finish();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    /// Nothing is counted as being in use.
    fn is_quiet(&self) -> bool {
        let (stats, breaker) = (self.cluster.stats(), self.cluster.breaker(0));
        use crate::upstream::cluster::Resource::{Connections, PendingRequests, Requests};
        stats.upstream_cx_active.get() + stats.upstream_rq_active.get() == 0
            && stats.upstream_rq_pending_active.get() == 0
            && self.host.stats.rq_active.get() + self.host.stats.cx_active.get() == 0
            && [Connections, PendingRequests, Requests].iter().all(|r| breaker.active(*r) == 0)
    }
}
