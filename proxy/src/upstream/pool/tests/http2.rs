use hyper::service::Service;
use tokio::sync::Notify;

use super::*;
use crate::config::cluster::UpstreamProtocol;

fn is_http2(config: &mut Config) {
    config.protocol = UpstreamProtocol::Http2;
}

#[derive(Clone)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// Serves HTTP/2; says GOAWAY when told to.
async fn serve(
    stream: TcpStream,
    limit: u32,
    goaway: Rc<Notify>,
    service: impl Service<
        Request<Incoming>,
        Response = Response<String>,
        Error = Infallible,
        Future: 'static,
    >,
) {
    let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
    builder.max_concurrent_streams(limit);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = &mut serving => return,
        () = goaway.notified() => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

/// A server that answers `/now` at once and all else when told to.
struct Gated {
    gate: Rc<Notify>,
    goaway: Rc<Notify>,
    address: String,
    accepted: Rc<Cell<usize>>,
}

async fn gated(limit: u32) -> Gated {
    let (gate, goaway) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
    let (opens, ends) = (Rc::clone(&gate), Rc::clone(&goaway));
    let (address, accepted) = server(move |stream| {
        let opens = Rc::clone(&opens);
        let service = service_fn(move |request: Request<Incoming>| {
            let opens = Rc::clone(&opens);
            async move {
                if request.uri().path() != "/now" {
                    opens.notified().await;
                }
                Ok(Response::new(request.uri().path().to_owned()))
            }
        });
        serve(stream, limit, Rc::clone(&ends), service)
    })
    .await;
    Gated { gate, goaway, address, accepted }
}

fn get(fixture: &Rc<Fixture>, path: &'static str) -> tokio::task::JoinHandle<String> {
    let fixture = Rc::clone(fixture);
    spawn_local(async move { fixture.get(path).await.unwrap() })
}

#[test]
fn requests_at_once_share_a_connection() {
    worker(async {
        let server = gated(100).await;
        let fixture = Fixture::new(&server.address, is_http2);
        let first = get(&fixture, "/a");
        let second = get(&fixture, "/b");
        until(|| fixture.cluster.stats().upstream_rq_active.get() == 2).await;
        assert_eq!(fixture.get("/now").await.unwrap(), "/now");
        server.gate.notify_waiters();
        let (first, second) = (first.await.unwrap(), second.await.unwrap());
        assert_eq!((first.as_str(), second.as_str()), ("/a", "/b"));
        assert_eq!(server.accepted.get(), 1);
        assert_eq!(fixture.cluster.stats().upstream_cx_http2_total.get(), 1);
    });
}

#[test]
fn another_connection_is_made_when_the_hosts_streams_are_used_up() {
    worker(async {
        let server = gated(1).await;
        let fixture = Fixture::new(&server.address, is_http2);
        // The host's settings come with the first answer at the latest.
        fixture.get("/now").await.unwrap();
        let first = get(&fixture, "/a");
        until(|| fixture.cluster.stats().upstream_rq_active.get() == 1).await;
        assert_eq!(fixture.get("/now").await.unwrap(), "/now");
        assert_eq!(server.accepted.get(), 2);
        server.gate.notify_one();
        first.await.unwrap();
    });
}

#[test]
fn after_goaway_requests_finish_and_new_ones_go_elsewhere() {
    worker(async {
        let server = gated(100).await;
        let fixture = Fixture::new(&server.address, is_http2);
        let first = get(&fixture, "/a");
        until(|| server.accepted.get() == 1).await;
        fixture.get("/now").await.unwrap();
        server.goaway.notify_one();
        while server.accepted.get() < 2 {
            assert_eq!(fixture.get("/now").await.unwrap(), "/now");
        }
        server.gate.notify_one();
        assert_eq!(first.await.unwrap(), "/a");
        until(|| fixture.cluster.stats().upstream_cx_active.get() == 1).await;
    });
}

#[test]
fn dropping_a_response_resets_its_stream_only() {
    worker(async {
        let server = gated(100).await;
        let fixture = Fixture::new(&server.address, is_http2);
        let waiting = spawn_local({
            let fixture = Rc::clone(&fixture);
            async move { fixture.send("/a").await.map(|_| ()) }
        });
        until(|| fixture.cluster.stats().upstream_rq_active.get() == 1).await;
        waiting.abort();
        until(|| fixture.cluster.stats().upstream_rq_active.get() == 0).await;
        fixture.get("/now").await.unwrap();
        assert_eq!(server.accepted.get(), 1);
    });
}

/// Serves HTTP/2 and resets every stream.
async fn reset(stream: TcpStream, reason: h2::Reason) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        respond.send_reset(reason);
    }
}

#[test]
fn resets_of_the_host_are_told_apart() {
    worker(async {
        for (code, reason, counted) in [
            (h2::Reason::REFUSED_STREAM, ResetReason::RemoteRefusedStreamReset, 0),
            (h2::Reason::INTERNAL_ERROR, ResetReason::RemoteReset, 1),
        ] {
            let (address, _) = server(move |stream| reset(stream, code)).await;
            let fixture = Fixture::new(&address, is_http2);
            let error = fixture.send("/").await.err().unwrap();
            assert_eq!(error.reason, reason);
            assert_eq!(fixture.cluster.stats().upstream_rq_rx_reset.get(), counted);
        }
    });
}

#[test]
fn the_downstreams_protocol_decides_where_the_cluster_follows_it() {
    worker(async {
        let server = gated(100).await;
        let fixture = Fixture::new(&server.address, |config| {
            config.protocol = UpstreamProtocol::UseDownstream;
        });
        let Fixture { pools, cluster, host } = &*fixture;
        let lease = pools.http(cluster, host, Protocol::Http2, 0, None, None).await.unwrap();
        assert_eq!(lease.protocol(), Protocol::Http2);
        let lease = pools.http(cluster, host, Protocol::Http10, 0, None, None).await.unwrap();
        assert_eq!(lease.protocol(), Protocol::Http11);
        assert_eq!(pools.len(), 2);
    });
}
