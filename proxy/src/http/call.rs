//! Requests of the proxy's own from a worker to a cluster: copies of requests, questions to other services.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;

use crate::http::router::attempt::upstream_request;
use crate::http::sanitize::{append_to_list, names};
use crate::http::worker::Worker;
use crate::io::{Body, Incoming};
use crate::telemetry::stream_info::{ConnectionInfo, Protocol};
use crate::upstream::balance::PickContext;
use crate::upstream::cluster::Cluster;
use crate::upstream::pool::{RequestNames, ResponseLease};

pub mod grpc;

/// A request to be sent.
pub struct Call {
    /// The head, with a `host` header and a path.
    pub parts: Parts,
    /// The body.
    pub body: Body,
    /// What clusters that follow the downstream's protocol follow.
    pub downstream: Protocol,
    /// `http` or `https`.
    pub scheme: &'static str,
}

impl Call {
    /// Sends the request to a host that the cluster picks. What comes of it counts in the cluster's and the host's
    /// statistics, as an internal request. None if there was no response.
    pub async fn send(
        mut self,
        worker: &Worker,
        cluster: &Arc<Cluster>,
        context: &PickContext<'_>,
    ) -> Option<(Response<Incoming>, ResponseLease)> {
        let Ok(picked) = cluster.pick(context) else {
            cluster.traffic().charge(503, true);
            return None;
        };
        let failed = || {
            picked.host.stats.rq_error.inc();
            cluster.traffic().charge(503, true);
        };
        let owner = picked.owner(cluster);
        let auto = owner.config().auto_names.as_deref();
        let names = auto.map(|auto| Arc::new(RequestNames::of(auto, &self.parts.headers)));
        let leasing = worker.pools.http(owner, &picked.host, self.downstream, 0, None, names);
        let Ok(lease) = leasing.await else {
            failed();
            return None;
        };
        let request = upstream_request(&mut self.parts, self.body, lease.protocol(), self.scheme);
        let Ok((response, lease)) = lease.send(request).await else {
            failed();
            return None;
        };
        cluster.traffic().charge(response.status().as_u16(), true);
        match response.status().is_server_error() {
            true => picked.host.stats.rq_error.inc(),
            false => picked.host.stats.rq_success.inc(),
        }
        Some((response, lease))
    }
}

/// A response's body and trailers, read to the end so that its connection can be used again. None if it broke off or has
/// more than `limit` bytes.
pub async fn read(
    mut body: Incoming,
    lease: ResponseLease,
    limit: usize,
) -> Option<(Bytes, Option<HeaderMap>)> {
    let mut bytes = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame.ok()?.into_data() {
            Ok(data) if bytes.len() + data.len() > limit => return None,
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    lease.finish();
    Some((bytes.freeze(), trailers))
}

/// What a call answers within this time; zero is no limit. One that takes longer counts as the cluster's timeout.
pub async fn with_timeout<A>(
    timeout: Duration,
    cluster: &Cluster,
    call: impl Future<Output = Option<A>>,
) -> Option<A> {
    if timeout.is_zero() {
        return call.await;
    }
    let answer = tokio::time::timeout(timeout, call).await;
    if answer.is_err() {
        cluster.stats().upstream_rq_timeout.inc();
        cluster.traffic().charge(504, true);
    }
    answer.ok().flatten()
}

/// Says that a request comes from this proxy.
pub fn sign(headers: &mut HeaderMap, connection: &ConnectionInfo) {
    headers.insert(&names::X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
    if let Some(own) = connection.direct_local.ip()
        && let Ok(value) = HeaderValue::from_str(&own.ip().to_string())
    {
        append_to_list(headers, &names::X_FORWARDED_FOR, &value, ",");
    }
}

/// A time as `x-envoy-expected-rq-timeout-ms` tells it.
pub fn milliseconds(time: Duration) -> HeaderValue {
    HeaderValue::from(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
