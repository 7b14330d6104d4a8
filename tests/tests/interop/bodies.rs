//! Bodies that are large, slow or have trailers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use pillion_tests::scenario::{
    Answer, Connection, Protocol, Sidecar, Upstream, empty, until, zeros,
};
use serde_json::json;

const BYTES: usize = 50 << 20;
/// What the sidecar may hold of a body that nobody takes.
const HELD: u64 = 6 << 20;

/// Waits until a count stops growing, because whoever takes the bytes is full.
async fn stalls(count: &AtomicU64) {
    let (mut last, mut same) = (0, 0);
    until("back-pressure", || {
        let now = count.load(Relaxed);
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        same == 40
    })
    .await;
    assert!(last < BYTES as u64, "all of the body was taken though nobody reads it");
}

/// A sidecar that has served once, so that what it needs once is there, and its memory then.
async fn warm(upstream: &Upstream, protocol: Protocol) -> (Sidecar, Connection, u64) {
    // By default an HTTP/2 client may send 16 MB before anybody has taken the first byte, as with Envoy.
    let windows =
        json!({"initial_stream_window_size": 1 << 20, "initial_connection_window_size": 1 << 20});
    let hcm = json!({"http2_protocol_options": windows});
    let (sidecar, listener) = super::sidecar(upstream.address, Protocol::Http1, &hcm);
    let mut connection = Connection::must_open(listener, protocol).await;
    connection.get("/bytes/1000000").await.expect("an answer");
    let resident = sidecar.resident();
    (sidecar, connection, resident)
}

async fn download(protocol: Protocol) {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let (sidecar, mut connection, before) = warm(&upstream, protocol).await;
    upstream.sent.store(0, Relaxed);
    let path = format!("/bytes/{BYTES}");
    let response = connection.send("GET", &path, &[], empty()).await.expect("a head");
    stalls(&upstream.sent).await;
    let held = sidecar.resident().saturating_sub(before);
    assert!(held < HELD, "the sidecar holds {held} bytes");
    assert_eq!(Answer::read(response).await.expect("a body").body.len(), BYTES);
}

async fn upload(protocol: Protocol) {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let (sidecar, mut connection, before) = warm(&upstream, protocol).await;
    let taken = Arc::new(AtomicU64::new(0));
    let body = zeros(BYTES, &taken);
    let answer = tokio::spawn(async move {
        let response = connection.send("POST", "/count", &[], body).await.expect("a head");
        Answer::read(response).await.expect("a body").body
    });
    stalls(&taken).await;
    let held = sidecar.resident().saturating_sub(before);
    assert!(held < HELD, "the sidecar holds {held} bytes");
    upstream.gate.open();
    assert_eq!(answer.await.expect("no panic"), BYTES.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_http1_slows_the_upstream_down() {
    download(Protocol::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_http2_slows_the_upstream_down() {
    download(Protocol::Http2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_upstream_slows_an_http1_upload_down() {
    upload(Protocol::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_upstream_slows_an_http2_upload_down() {
    upload(Protocol::Http2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_upload_passes_with_its_trailers() {
    let upstream = Upstream::start("up", Protocol::Http2).await;
    upstream.gate.open();
    let hcm = json!({"http_protocol_options": {"enable_trailers": true}});
    let (_sidecar, listener) = super::sidecar(upstream.address, Protocol::Http2, &hcm);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-checksum"),
            HeaderValue::from_static("7"),
        )]);
        let chunk = || Ok(Frame::data(Bytes::from_static(b"0123456789")));
        let frames = stream::iter([chunk(), chunk(), Ok(Frame::trailers(trailers))]);
        let body = BodyExt::boxed_unsync(StreamBody::new(frames));
        let mut connection = Connection::must_open(listener, protocol).await;
        let headers = [("trailer", "x-checksum")];
        let response = connection.send("POST", "/count", &headers, body).await.expect("a head");
        let answer = Answer::read(response).await.expect("a body");
        assert_eq!(answer.body, "20 x-checksum", "{protocol:?}");
    }
}
