//! Requests over HTTP/1.1, each on a connection of its own: for servers that are polled now and then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{CONNECTION, HOST};
use http::uri::Authority;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tonic::body::Body;

use super::ClientError;
use crate::upstream::balance::PickContext;
use crate::upstream::cluster::{Cluster, ClusterSlot, Host, Picked};
use crate::upstream::connect::connect;
use crate::upstream::count::{ConnectionCount, RequestCount};
use crate::upstream::meter::Metered;
use crate::upstream::pool::PoolError;

/// HTTP/1.1 to a cluster, with a connection for each request.
#[derive(Clone)]
pub struct Http1Service {
    slot: Arc<ClusterSlot>,
    authority: Authority,
}

impl Http1Service {
    /// Calls the cluster in `slot`; requests carry `authority`.
    pub fn new(slot: Arc<ClusterSlot>, authority: Authority) -> Self {
        Http1Service { slot, authority }
    }
}

impl tower::Service<Request<Body>> for Http1Service {
    type Response = Response<Body>;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, ClientError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (slot, authority) = (Arc::clone(&self.slot), self.authority.clone());
        Box::pin(async move {
            let request = complete(request, &authority)?;
            let cluster = slot.get();
            let cluster = cluster.ok_or_else(|| ClientError::NoCluster(Arc::clone(slot.name())))?;
            call(cluster, request).await
        })
    }
}

/// The request with what HTTP/1.1 wants: a path alone, and a host.
fn complete(
    mut request: Request<Body>,
    authority: &Authority,
) -> Result<Request<Body>, ClientError> {
    if let Some(path) = request.uri().path_and_query() {
        *request.uri_mut() = Uri::from(path.clone());
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(http::Error::from)?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

async fn call(
    cluster: Arc<Cluster>,
    request: Request<Body>,
) -> Result<Response<Body>, ClientError> {
    let picked = cluster.pick(&PickContext::default());
    let Picked { host, member } =
        picked.map_err(|error| ClientError::Pick(Arc::clone(cluster.name()), error))?;
    let cluster = member.unwrap_or(cluster);
    let refused = |error| ClientError::Connect { cluster: Arc::clone(cluster.name()), error };
    let count = RequestCount::start(&cluster, &host, 0).map_err(refused)?;
    let mut sender = open(&cluster, &host).await.map_err(refused)?;
    let response = sender.send_request(request).await;
    let response =
        response.map_err(|error| ClientError::Send(Arc::clone(cluster.name()), error))?;
    cluster.stats().upstream_rq.record(response.status().as_u16());
    // The request counts as active until its response's body is dropped.
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &count;
            frame
        }))
    }))
}

/// A new connection, which is driven until its request is done.
async fn open(
    cluster: &Arc<Cluster>,
    host: &Arc<Host>,
) -> Result<http1::SendRequest<Body>, PoolError> {
    let count = ConnectionCount::start(cluster, host, 0);
    let connected = match connect(cluster, host).await {
        Ok(connected) => connected,
        Err(error) => {
            let error = PoolError::from(error);
            count.failed(&error);
            return Err(error);
        }
    };
    count.connected();
    cluster.stats().upstream_cx_http1_total.inc();
    let stream = Metered::new(connected.stream, Arc::clone(&cluster.traffic().stats));
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, driver) = handshake.map_err(PoolError::handshake)?;
    tokio::spawn(async move {
        // The request on the connection is told its error.
        let _ = driver.await;
        count.ended(true, false);
    });
    Ok(sender)
}
