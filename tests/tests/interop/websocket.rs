//! A WebSocket client and server that know nothing of the sidecar between them.

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::{SinkExt, StreamExt};
use pillion_tests::scenario::{Protocol, Sidecar};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{accept_async, client_async};

/// Sends every message back until the peer closes.
async fn serve() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut socket = accept_async(stream).await.expect("a handshake");
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() || message.is_binary() {
                    socket.send(message).await.expect("an open socket");
                }
            }
        }
    });
    address
}

/// Messages of all sizes go there and back, then both sides close in order.
async fn talk(listener: SocketAddr) {
    let stream = TcpStream::connect(listener).await.expect("a listener");
    let (mut socket, response) = client_async("ws://test/chat", stream).await.expect("an upgrade");
    assert_eq!(response.status(), 101);
    for length in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let message = Message::binary(vec![9; length]);
        socket.send(message.clone()).await.expect("an open socket");
        let answer = socket.next().await.expect("an answer").expect("a message");
        assert!(answer == message, "{length}");
    }
    socket.send(Message::Ping(Bytes::from_static(b"there?"))).await.expect("an open socket");
    let answer = socket.next().await.expect("an answer").expect("a message");
    assert_eq!(answer, Message::Pong(Bytes::from_static(b"there?")));
    socket.close(None).await.expect("an open socket");
    while let Some(message) = socket.next().await {
        assert!(message.expect("an orderly end").is_close());
    }
}

async fn ended(sidecar: &Sidecar) {
    sidecar.wait_stat("http.ingress.downstream_cx_upgrades_active", 0).await;
    assert_eq!(sidecar.stat("http.ingress.downstream_cx_upgrades_total"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_all_sizes_pass_both_ways_until_the_closing_handshake() {
    let upgrade = json!({"upgrade_configs": [{"upgrade_type": "websocket"}]});
    let (sidecar, listener) = super::sidecar(serve().await, Protocol::Http1, &upgrade);
    talk(listener).await;
    ended(&sidecar).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_pass_two_sidecars_that_speak_http2_to_each_other() {
    // The server's handshake wants a key, which no extended CONNECT has: the client's goes along as a header.
    let upgrades = json!([{"upgrade_type": "websocket"}]);
    let at_server = json!({
        "upgrade_configs": upgrades,
        "http2_protocol_options": {"allow_connect": true},
    });
    let (server_side, middle) = super::sidecar(serve().await, Protocol::Http1, &at_server);
    let at_client = json!({"upgrade_configs": upgrades});
    let (client_side, listener) = super::sidecar(middle, Protocol::Http2, &at_client);
    talk(listener).await;
    ended(&client_side).await;
    ended(&server_side).await;
}
