use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::*;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Reads until a request's head is complete; false at the end of the stream.
async fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

/// Lets seconds pass, without waiting for them, until the condition holds.
async fn pass_time_until(condition: impl Fn() -> bool) {
    tokio::time::pause();
    for _ in 0..1000 {
        if condition() {
            return tokio::time::resume();
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    panic!("the condition does not come to hold");
}

#[test]
fn requests_in_turn_share_a_connection() {
    worker(async {
        let (address, accepted) = server(serve_http1).await;
        let fixture = Fixture::new(&address, |_| {});
        for path in ["/a", "/b", "/c"] {
            assert_eq!(fixture.get(path).await.unwrap(), path);
        }
        assert_eq!(accepted.get(), 1);
        let stats = fixture.cluster.stats();
        assert_eq!((stats.upstream_rq_total.get(), stats.upstream_cx_total.get()), (3, 1));
        assert_eq!((stats.upstream_cx_http1_total.get(), stats.upstream_rq_active.get()), (1, 0));
        assert!(stats.upstream_cx_rx_bytes_total.get() > 0);

        let lease = fixture.lease().await.unwrap();
        assert!(lease.is_reused());
        assert!(lease.local_address().unwrap().to_string().starts_with("127.0.0.1:"));
        assert_eq!((lease.protocol(), lease.connection_id()), (Protocol::Http11, 1));
    });
}

#[test]
fn requests_at_once_have_connections_of_their_own_and_the_last_used_is_taken_first() {
    worker(async {
        let (address, accepted) = server(serve_http1).await;
        let fixture = Fixture::new(&address, |_| {});
        let (first, second) = tokio::join!(fixture.lease(), fixture.lease());
        let (first, second) = (first.unwrap(), second.unwrap());
        let last = second.connection_id();
        assert_ne!(first.connection_id(), last);
        drop(first);
        drop(second);
        assert_eq!(fixture.lease().await.unwrap().connection_id(), last);
        assert_eq!(accepted.get(), 2);
    });
}

#[test]
fn a_connection_that_the_host_closed_is_not_used() {
    worker(async {
        let (address, accepted) = server(|mut stream| async move {
            if read_head(&mut stream).await {
                stream.write_all(ANSWER).await.unwrap();
            }
        })
        .await;
        let fixture = Fixture::new(&address, |_| {});
        assert_eq!(fixture.get("/").await.unwrap(), "ok");
        until(|| fixture.is_quiet()).await;
        assert_eq!(fixture.get("/").await.unwrap(), "ok");
        assert_eq!(accepted.get(), 2);
        assert!(fixture.cluster.stats().upstream_cx_destroy_remote.get() >= 1);
    });
}

#[test]
fn a_close_in_answer_to_a_request_is_told_with_whether_the_connection_was_reused() {
    worker(async {
        let (address, _) = server(|mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(ANSWER).await.unwrap();
            read_head(&mut stream).await;
        })
        .await;
        let fixture = Fixture::new(&address, |_| {});
        fixture.get("/").await.unwrap();
        let error = fixture.send("/").await.err().unwrap();
        assert_eq!(error.reason, ResetReason::ConnectionTermination);
        assert!(error.is_reused && error.unsent.is_none());
        until(|| fixture.is_quiet()).await;
        assert_eq!(fixture.cluster.stats().upstream_cx_destroy_remote_with_active_rq.get(), 1);
    });
}

#[test]
fn a_malformed_answer_is_a_protocol_error() {
    worker(async {
        let (address, _) = server(|mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"hello\r\n\r\n").await.unwrap();
        })
        .await;
        let fixture = Fixture::new(&address, |_| {});
        let error = fixture.send("/").await.err().unwrap();
        assert_eq!(error.reason, ResetReason::ProtocolError);
        assert_eq!(fixture.cluster.stats().upstream_cx_protocol_error.get(), 1);
    });
}

#[test]
fn an_answer_that_is_cut_off_is_a_protocol_error() {
    worker(async {
        let (address, _) = server(|mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        })
        .await;
        let fixture = Fixture::new(&address, |_| {});
        let error = fixture.send("/").await.err().unwrap();
        assert_eq!(error.reason, ResetReason::ProtocolError);
    });
}

#[test]
fn too_many_response_headers_are_a_protocol_error() {
    worker(async {
        let (address, _) = server(|mut stream| async move {
            read_head(&mut stream).await;
            let many = "a: b\r\n".repeat(20);
            let answer = format!("HTTP/1.1 200 OK\r\n{many}content-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let fixture = Fixture::new(&address, |config| config.http.max_headers_count = 10);
        let error = fixture.send("/").await.err().unwrap();
        assert_eq!(error.reason, ResetReason::ProtocolError);
    });
}

#[test]
fn an_unfinished_response_closes_its_connection() {
    worker(async {
        let (address, accepted) = server(serve_http1).await;
        let fixture = Fixture::new(&address, |_| {});
        let (response, lease) = fixture.send("/").await.unwrap();
        drop(lease);
        drop(response);
        until(|| fixture.is_quiet()).await;
        assert_eq!(fixture.cluster.stats().upstream_cx_destroy_local.get(), 1);
        fixture.get("/").await.unwrap();
        assert_eq!(accepted.get(), 2);
    });
}

#[test]
fn a_request_that_is_given_up_closes_its_connection() {
    worker(async {
        let (address, _) = server(|mut stream| async move {
            read_head(&mut stream).await;
            // Never answers; ends with the peer.
            read_head(&mut stream).await;
        })
        .await;
        let fixture = Fixture::new(&address, |_| {});
        let sending = spawn_local({
            let fixture = Rc::clone(&fixture);
            async move { fixture.send("/").await.map(|_| ()) }
        });
        until(|| fixture.cluster.stats().upstream_rq_active.get() == 1).await;
        sending.abort();
        until(|| fixture.is_quiet()).await;
    });
}

#[test]
fn a_response_that_ends_before_its_request_closes_the_connection() {
    worker(async {
        let (address, accepted) = server(|mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(ANSWER).await.unwrap();
            read_head(&mut stream).await;
        })
        .await;
        let fixture = Fixture::new(&address, |_| {});
        let never = http_body_util::StreamBody::new(futures_util::stream::pending());
        let request = Request::post("/").header("host", "a").body(Body::stream(never)).unwrap();
        let (response, lease) = fixture.lease().await.unwrap().send(request).await.unwrap();
        response.into_body().collect().await.unwrap();
        lease.finish();
        until(|| fixture.is_quiet()).await;
        assert_eq!(accepted.get(), 1);
    });
}

#[test]
fn an_upgraded_connection_passes_bytes_and_leaves_the_pool() {
    worker(async {
        let (address, _) = server(|mut stream| async move {
            read_head(&mut stream).await;
            let answer =
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        })
        .await;
        let fixture = Fixture::new(&address, |_| {});
        let request = Request::builder().uri("/").header("host", "a");
        let request = request.header("connection", "upgrade").header("upgrade", "x");
        let request = request.body(Body::Empty).unwrap();
        let (_response, lease) = fixture.lease().await.unwrap().send(request).await.unwrap();
        let mut tunnel = lease.take_tunnel().unwrap();
        tunnel.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        tunnel.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ping");
        let stats = fixture.cluster.stats();
        assert_eq!((stats.upstream_cx_active.get(), stats.upstream_rq_active.get()), (1, 1));
        drop(tunnel);
        lease.finish();
        assert!(fixture.is_quiet());
    });
}

#[test]
fn idle_connections_close_in_time_and_the_pool_goes_with_them() {
    worker(async {
        let (address, _) = server(serve_http1).await;
        let timeout = Duration::from_secs(60);
        let fixture = Fixture::new(&address, |config| config.http.idle_timeout = Some(timeout));
        fixture.get("/").await.unwrap();
        pass_time_until(|| fixture.is_quiet()).await;
        assert_eq!(fixture.cluster.stats().upstream_cx_idle_timeout.get(), 1);
        pass_time_until(|| fixture.pools.is_empty()).await;
    });
}

#[test]
fn a_connection_closes_after_its_requests_or_its_time() {
    worker(async {
        let (address, accepted) = server(serve_http1).await;
        let fixture = Fixture::new(&address, |config| {
            config.http.max_requests_per_connection = Some(2);
            config.http.max_connection_duration = Some(Duration::from_secs(60));
        });
        for _ in 0..3 {
            fixture.get("/").await.unwrap();
        }
        assert_eq!(accepted.get(), 2);
        assert_eq!(fixture.cluster.stats().upstream_cx_max_requests.get(), 1);
        pass_time_until(|| fixture.is_quiet()).await;
        assert_eq!(fixture.cluster.stats().upstream_cx_max_duration_reached.get(), 1);
    });
}

#[test]
fn a_caller_that_stops_waiting_leaves_the_connection_to_the_pool() {
    worker(async {
        let (address, accepted) = server(serve_http1).await;
        let fixture = Fixture::new(&address, |_| {});
        let stats = fixture.cluster.stats();
        let mut waiting = Box::pin(fixture.lease());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert_eq!(stats.upstream_rq_pending_active.get(), 1);
        drop(waiting);
        assert_eq!(stats.upstream_rq_cancelled.get(), 1);
        until(|| stats.upstream_cx_http1_total.get() == 1).await;
        fixture.get("/").await.unwrap();
        assert_eq!(accepted.get(), 1);
    });
}

#[test]
fn pools_of_a_removed_host_vanish_after_their_requests() {
    worker(async {
        let answering = Rc::new(Notify::new());
        let (address, _) = server({
            let answering = Rc::clone(&answering);
            move |mut stream| {
                let answering = Rc::clone(&answering);
                async move {
                    read_head(&mut stream).await;
                    answering.notified().await;
                    stream.write_all(ANSWER).await.unwrap();
                    read_head(&mut stream).await;
                }
            }
        })
        .await;
        let fixture = Fixture::new(&address, |_| {});
        let idle = fixture.lease().await.unwrap();
        let getting = spawn_local({
            let fixture = Rc::clone(&fixture);
            async move { fixture.get("/").await.unwrap() }
        });
        until(|| fixture.cluster.stats().upstream_rq_active.get() == 2).await;
        drop(idle);
        fixture.cluster.set_assignment(&Default::default());
        until(|| fixture.pools.is_empty()).await;
        until(|| fixture.cluster.stats().upstream_cx_active.get() == 1).await;
        answering.notify_one();
        assert_eq!(getting.await.unwrap(), "ok");
        until(|| fixture.is_quiet()).await;
    });
}

#[test]
fn another_configuration_of_the_cluster_has_other_connections() {
    worker(async {
        let (address, accepted) = server(serve_http1).await;
        let fixture = Fixture::new(&address, |_| {});
        fixture.get("/").await.unwrap();
        let config = Config { buffer_limit: 1, ..config("c", &[&address]) };
        let next = crate::upstream::cluster::tests::cluster(config, Some(&fixture.cluster));
        assert!(Arc::ptr_eq(&next.hosts().hosts()[0], &fixture.host));
        let pools = Rc::clone(&fixture.pools);
        let next = Fixture { pools, cluster: next, host: Arc::clone(&fixture.host) };
        next.get("/").await.unwrap();
        assert_eq!((accepted.get(), next.pools.len()), (2, 1));
        until(|| next.cluster.stats().upstream_cx_active.get() == 1).await;
    });
}
