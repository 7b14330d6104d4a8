//! Unary gRPC calls of the proxy's own from a worker.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_util::stream;
use http::header::{CONTENT_TYPE, HOST, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;

use super::{Call, milliseconds, read, sign, with_timeout};
use crate::config::source::{GrpcService, GrpcTarget};
use crate::config::{At, ConfigError};
use crate::http::sanitize::names;
use crate::http::worker::Worker;
use crate::io::Body;
use crate::telemetry::stream_info::{ConnectionInfo, Protocol};
use crate::upstream::balance::PickContext;

/// A flag and a length stand before each message.
const PREFIX: usize = 5;
/// The longest answer that is read, in bytes.
const MOST: usize = 4 << 20;

/// A service in a cluster of ours.
#[derive(Clone, Debug)]
pub struct Service {
    cluster: Box<str>,
    timeout: Duration,
    /// What every call carries.
    headers: HeaderMap,
}

impl Service {
    /// The service that a `GrpcService` names; `timeout` is the default of its calls.
    ///
    /// # Errors
    /// It is no cluster of ours, or its names are none of HTTP's.
    pub fn new(
        config: &GrpcService,
        timeout: Duration,
        at: &At<'_>,
    ) -> Result<Service, ConfigError> {
        let GrpcTarget::Cluster { name, authority } = &config.target else {
            return Err(at.field("google_grpc").unsupported());
        };
        let mut headers = HeaderMap::new();
        let illegal = |field: &str| at.field(field).error("cannot stand in a header");
        let host = HeaderValue::from_str(authority.as_deref().unwrap_or(name));
        headers.insert(HOST, host.map_err(|_| illegal("envoy_grpc"))?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        for (name, value) in &config.initial_metadata {
            let name = HeaderName::try_from(name).map_err(|_| illegal("initial_metadata"))?;
            let value = HeaderValue::try_from(value).map_err(|_| illegal("initial_metadata"))?;
            headers.append(name, value);
        }
        let timeout = config.timeout.unwrap_or(timeout);
        if !timeout.is_zero() {
            let told = format!("{}m", timeout.as_millis()).try_into();
            headers.insert("grpc-timeout", told.map_err(|_| illegal("timeout"))?);
            headers.insert(&names::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, milliseconds(timeout));
        }
        Ok(Service { cluster: name.as_str().into(), timeout, headers })
    }

    /// Calls the method at `path`, for a stream of `connection`. None if there is no answer, for whatever reason: the
    /// cluster's statistics tell.
    pub async fn call<A: Message + Default>(
        &self,
        path: &'static str,
        question: &impl Message,
        worker: &Worker,
        connection: &ConnectionInfo,
    ) -> Option<A> {
        let cluster = worker.registry.get(&self.cluster)?;
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        *request.headers_mut() = self.headers.clone();
        sign(request.headers_mut(), connection);
        let call = Call {
            parts: request.into_parts().0,
            // A stream, so that its length is not told: gRPC has none.
            body: Body::stream(StreamBody::new(stream::iter([Ok(Frame::data(frame(question)))]))),
            downstream: Protocol::Http2,
            scheme: "http",
        };
        let answer = async {
            let context = PickContext::default();
            let (response, lease) = call.send(worker, &cluster, &context).await?;
            let (head, body) = response.into_parts();
            let (bytes, trailers) = read(body, lease, MOST).await?;
            let succeeded =
                head.status == StatusCode::OK && is_ok(trailers.as_ref().unwrap_or(&head.headers));
            let message = bytes.get(PREFIX..).filter(|_| succeeded)?;
            A::decode(message).ok()
        };
        with_timeout(self.timeout, &cluster, answer).await
    }
}

fn frame(message: &impl Message) -> bytes::Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    // What the proxy asks is bounded far below 4 GiB.
    out.put_u32(length as u32);
    out.put(message.encode_to_vec().as_slice());
    out.freeze()
}

fn is_ok(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| status == "0")
}
