use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::*;
use crate::config::At;
use crate::config::cluster::{TcpKeepalive, UpstreamProtocol};
use crate::config::tls::{CommonTls, UpstreamTls};
use crate::tls::{ClientTls, FactoryStats};
use crate::upstream::cluster::Sockets;

/// A port on which nobody listens.
async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_refused_connection_fails_everybody_that_waits() {
    worker(async {
        let fixture = Fixture::new(&closed_port().await, |_| {});
        let (first, second) = tokio::join!(fixture.lease(), fixture.lease());
        for error in [first.err().unwrap(), second.err().unwrap()] {
            assert_eq!(error.reason, ResetReason::RemoteConnectionFailure);
            let text = error.transport_failure.unwrap();
            assert_eq!(&*text, "delayed connect error: Connection refused");
        }
        until(|| fixture.is_quiet()).await;
        let stats = fixture.cluster.stats();
        assert_eq!(stats.upstream_rq_pending_failure_eject.get(), 2);
        assert!(stats.upstream_cx_connect_fail.get() >= 1);
        assert_eq!(stats.upstream_cx_destroy.get(), 0);
    });
}

/// A context that verifies nothing.
fn context() -> Arc<UpstreamTls> {
    let common = CommonTls {
        certificates: Vec::new(),
        validation: None,
        alpn: Vec::new(),
        allow_tls12: true,
        allow_tls13: true,
        tls12_cipher_suites: None,
        groups: None,
    };
    Arc::new(UpstreamTls {
        common,
        sni: "a.test".into(),
        auto_host_sni: false,
        auto_sni_san_validation: false,
        max_session_keys: 1,
    })
}

/// A cluster that speaks TLS.
fn with_tls(config: &mut Config) {
    config.tls = Some(context());
}

fn sockets(fixture: &Fixture) -> Sockets {
    let at = At::resource("cluster", "a");
    let stats = Arc::new(FactoryStats::new("cluster.a.client_ssl_socket_factory."));
    let make = |context: &Arc<UpstreamTls>, _| {
        let find = &mut |_: &_| unreachable!("it names no secret");
        ClientTls::new(Arc::clone(context), &at, Arc::clone(&stats), find)
    };
    Sockets::new(fixture.cluster.config(), make).unwrap()
}

#[test]
fn the_connect_timeout_covers_the_tls_handshake() {
    worker(async {
        let (address, _) = server(|mut stream| async move {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
        let fixture = Fixture::new(&address, |config| {
            with_tls(config);
            config.connect_timeout = Duration::from_millis(50);
        });
        let error = fixture.lease().await.err().unwrap();
        assert_eq!(error.reason, ResetReason::RemoteConnectionFailure, "the secret is not there");
        assert!(fixture.cluster.sockets.set(sockets(&fixture)).is_ok());
        let error = fixture.lease().await.err().unwrap();
        assert_eq!(error.reason, ResetReason::ConnectionTimeout);
        assert_eq!(fixture.cluster.stats().upstream_cx_connect_timeout.get(), 1);
    });
}

#[test]
fn a_failed_handshake_tells_its_reason() {
    worker(async {
        let (address, _) = server(serve_http1).await;
        let fixture = Fixture::new(&address, with_tls);
        assert!(fixture.cluster.sockets.set(sockets(&fixture)).is_ok());
        let error = fixture.lease().await.err().unwrap();
        assert_eq!(error.reason, ResetReason::RemoteConnectionFailure);
        assert!(error.transport_failure.unwrap().starts_with("TLS_error:|"));
    });
}

#[test]
fn at_max_connections_a_request_waits_for_the_connection_in_use() {
    worker(async {
        let (address, accepted) = server(serve_http1).await;
        let fixture = Fixture::new(&address, |c| c.circuit_breakers[0].max_connections = 1);
        let first = fixture.lease().await.unwrap();
        let waiting = spawn_local({
            let fixture = Rc::clone(&fixture);
            async move { fixture.get("/b").await.unwrap() }
        });
        let stats = fixture.cluster.stats();
        until(|| stats.upstream_cx_overflow.get() == 1).await;
        drop(first);
        assert_eq!(waiting.await.unwrap(), "/b");
        assert_eq!(accepted.get(), 1);
    });
}

#[test]
fn an_empty_pool_may_have_a_connection_above_the_limit() {
    worker(async {
        let (address, _) = server(serve_http1).await;
        let fixture = Fixture::new(&address, |c| c.circuit_breakers[0].max_connections = 0);
        assert_eq!(fixture.get("/a").await.unwrap(), "/a");
        assert_eq!(fixture.cluster.stats().upstream_cx_overflow.get(), 1);
    });
}

#[test]
fn requests_above_the_limits_overflow_at_once() {
    worker(async {
        let (address, _) = server(serve_http1).await;
        let none_pending = Fixture::new(&address, |config| {
            config.circuit_breakers[0].max_pending_requests = 0;
        });
        let error = none_pending.lease().await.err().unwrap();
        assert_eq!(error.reason, ResetReason::Overflow);
        assert_eq!(none_pending.cluster.stats().upstream_rq_pending_overflow.get(), 1);

        let one = Fixture::new(&address, |c| c.circuit_breakers[0].max_requests = 1);
        let first = one.lease().await.unwrap();
        assert_eq!(one.lease().await.err().unwrap().reason, ResetReason::Overflow);
        drop(first);
        assert_eq!(one.get("/a").await.unwrap(), "/a");
        // The other priority has limits of its own.
        let high = one.pools.http(&one.cluster, &one.host, Protocol::Http11, 1, None, None).await;
        assert!(high.is_ok());
    });
}

#[test]
fn connections_start_from_the_source_address() {
    worker(async {
        let (address, _) = server(serve_http1).await;
        let fixture = Fixture::new(&address, |config| {
            config.source_address = Some(([127, 0, 0, 6], 0).into());
            config.tcp_keepalive = Some(TcpKeepalive {
                probes: Some(3),
                time: Some(Duration::from_secs(7)),
                interval: Some(Duration::from_secs(5)),
            });
        });
        let lease = fixture.lease().await.unwrap();
        assert!(lease.local_address().unwrap().to_string().starts_with("127.0.0.6:"));
    });
}

#[test]
fn an_abstract_unix_socket_can_be_a_host() {
    worker(async {
        let name = format!("pillion-test-{}-{}", std::process::id(), fastrand::u64(..));
        let listener = tokio::net::UnixListener::bind(format!("\0{name}")).unwrap();
        spawn_local(async move { listener.accept().await.map(|_| ()) });
        let fixture = Fixture::new("127.0.0.1:1", |_| {});
        let mut next = crate::upstream::cluster::tests::assignment(&[&["127.0.0.1:1"]]);
        let path: Arc<std::path::Path> = std::path::Path::new(&format!("@{name}")).into();
        next.localities[0].endpoints[0].target =
            crate::config::endpoint::Target::Address(crate::io::Address::Pipe(path));
        fixture.cluster.set_assignment(&next);
        let host = fixture.cluster.pick(&PickContext::default()).unwrap().host;
        let lease = fixture.pools.tcp(&fixture.cluster, &host, 0, None).await.unwrap();
        assert!(lease.local_address().is_none());
    });
}

#[test]
fn a_tcp_session_counts_until_it_is_dropped() {
    worker(async {
        let (address, _) = server(|mut stream| async move {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
        let fixture = Fixture::new(&address, |config| {
            config.protocol = UpstreamProtocol::Http2;
            config.circuit_breakers[0].max_connections = 1;
        });
        let lease = fixture.pools.tcp(&fixture.cluster, &fixture.host, 0, None).await.unwrap();
        assert_eq!(fixture.host.active_requests(), 1);
        let second = fixture.pools.tcp(&fixture.cluster, &fixture.host, 0, None).await;
        assert_eq!(second.err().unwrap().reason, ResetReason::Overflow);
        drop(lease);
        assert!(fixture.is_quiet());
        assert_eq!(fixture.cluster.stats().upstream_cx_destroy_local.get(), 1);
    });
}
