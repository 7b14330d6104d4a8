//! The client of a case: sends what a step says and notes what comes back.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use pillion::io::Stream;
use serde_json::{Map, Value, json};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::case::{Raw, Request};
use super::client_hello;
use super::http1::{Body, End, Framing, Wire, write_message};
use super::http2;
use super::text::{from_hex, header_fields, text_of};
use super::tls;

/// A step that takes longer than this is noted as unanswered.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// A new connection to `port`; none if nobody listens there.
pub async fn connect(port: u16, source: Option<&str>) -> Result<Option<Wire>, String> {
    let socket = TcpSocket::new_v4().map_err(|e| e.to_string())?;
    if let Some(source) = source {
        let address: IpAddr = source.parse().map_err(|e| format!("source {source}: {e}"))?;
        socket.bind((address, 0).into()).map_err(|e| format!("source {source}: {e}"))?;
    }
    match socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
        Ok(stream) => Ok(Some(Wire::new(Stream::Tcp(stream)))),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(format!("no connection to port {port}: {error}")),
    }
}

/// Sends a request and notes the response; the connection comes back over HTTP/1.1.
pub async fn exchange(mut wire: Wire, request: &Request) -> (Value, Option<Wire>) {
    let tls = tls::describe(&wire.stream);
    let (mut noted, wire) = if request.http2 {
        (http2(wire, request).await, None)
    } else {
        let noted = http1(&mut wire, request).await;
        (noted, Some(wire))
    };
    if let Some(tls) = tls {
        noted["tls"] = tls;
    }
    (noted, wire)
}

/// Sends a request over HTTP/1.1 and notes the response.
async fn http1(wire: &mut Wire, request: &Request) -> Value {
    let start = format!("{} {} HTTP/1.1", request.method, request.path);
    let mut headers = request.headers.clone();
    headers.0.insert(0, ("host".into(), request.host.clone()));
    let body: Vec<String> = request.body.iter().chain(&request.chunks).cloned().collect();
    let chunked = !request.chunks.is_empty() || !request.trailers.0.is_empty();
    let bytes = write_message(&start, &headers, &body, chunked, &request.trailers);
    let mut noted = Map::new();
    let exchange = async {
        if wire.send(&bytes).await.is_err() {
            return json!({"no_answer": End::Closed});
        }
        response(wire, &request.method).await
    };
    match timeout(PATIENCE, exchange).await {
        Ok(Value::Object(fields)) => noted.extend(fields),
        Ok(other) => return other,
        Err(_) => return unanswered(),
    }
    if request.closed {
        noted.extend(await_close(wire).await);
    }
    Value::Object(noted)
}

/// Sends bytes and notes the responses, or the bytes, that come back.
pub async fn raw(wire: &mut Wire, raw: &Raw) -> Value {
    let bytes = match raw_bytes(raw) {
        Ok(bytes) => bytes,
        Err(error) => return json!({"broken_case": error}),
    };
    // A proxy may refuse and close before everything was sent; its answer is there all the same.
    let _ = wire.send(&bytes).await;
    if raw.half_close {
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut wire.stream).await;
    }
    let mut noted = Map::new();
    let method = raw.send.split(' ').next().unwrap_or_default();
    let mut responses = Vec::new();
    while responses.len() < raw.responses {
        let answer =
            timeout(PATIENCE, response(wire, method)).await.unwrap_or_else(|_| unanswered());
        let last = answer.get("no_answer").is_some();
        responses.push(answer);
        if last {
            break;
        }
    }
    if raw.responses > 0 {
        noted.insert("responses".into(), json!(responses));
    }
    if raw.bytes > 0 {
        let mut received = Vec::new();
        // Whether they all came shows in the bytes.
        let _ = timeout(PATIENCE, wire.take(raw.bytes, &mut received)).await;
        noted.insert("bytes".into(), json!(text_of(&received)));
    }
    if raw.closed {
        noted.extend(await_close(wire).await);
    }
    Value::Object(noted)
}

/// Sends a request over HTTP/2 on a connection of its own and notes the response.
async fn http2(wire: Wire, request: &Request) -> Value {
    match timeout(PATIENCE, http2_exchange(wire, request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => error,
        Err(_) => unanswered(),
    }
}

async fn http2_exchange(wire: Wire, request: &Request) -> Result<Value, Value> {
    let failed = |error: h2::Error| json!({"no_answer": http2::end_of(&error), "reason": error.reason().map(|r| r.to_string())});
    let broken = |error: String| json!({"broken_case": error});
    let (client, connection) = h2::client::handshake(wire.stream).await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    let uri = match request.method.as_str() {
        "CONNECT" => request.host.clone(),
        _ if request.tls.is_some() => format!("https://{}{}", request.host, request.path),
        _ => format!("http://{}{}", request.host, request.path),
    };
    let mut head = http::Request::builder()
        .method(request.method.as_str())
        .uri(uri)
        .version(http::Version::HTTP_2)
        .body(())
        .map_err(|e| broken(e.to_string()))?;
    *head.headers_mut() = http2::header_map(&request.headers).map_err(broken)?;
    let chunks: Vec<&String> = request.body.iter().chain(&request.chunks).collect();
    let trailers = !request.trailers.0.is_empty();
    let mut client = client.ready().await.map_err(failed)?;
    let (response, mut stream) =
        client.send_request(head, chunks.is_empty() && !trailers).map_err(failed)?;
    for (at, chunk) in chunks.iter().enumerate() {
        let last = at + 1 == chunks.len() && !trailers;
        // A stream that the proxy ended early answers below.
        let _ = stream.send_data(Bytes::from(chunk.as_bytes().to_vec()), last);
    }
    if trailers {
        let _ = stream.send_trailers(http2::header_map(&request.trailers).map_err(broken)?);
    }
    let (head, body) = response.await.map_err(failed)?.into_parts();
    let body = http2::read_body(body).await;
    connection.abort();
    Ok(answer(head.status.as_u16(), &http2::pairs(&head.headers), &body, &[]))
}

/// Reads one response with the informational ones before it.
async fn response(wire: &mut Wire, method: &str) -> Value {
    let mut informational = Vec::new();
    loop {
        let head = match wire.read_head().await {
            Ok(head) => head,
            Err(end) => return json!({"no_answer": end}),
        };
        let Some(status) = head.status() else {
            return json!({"no_answer": End::Garbage, "instead": head.start});
        };
        if status < 200 && status != 101 {
            informational.push(status);
            continue;
        }
        let framing = match status {
            101 | 204 | 304 => Framing::Empty,
            200..=299 if method == "CONNECT" => Framing::Empty,
            _ if method == "HEAD" => Framing::Empty,
            _ => head.framing(Framing::UntilClose),
        };
        let body = wire.read_body(framing).await;
        return answer(status, &head.headers, &body, &informational);
    }
}

fn answer(status: u16, headers: &[(String, String)], body: &Body, informational: &[u16]) -> Value {
    let mut noted =
        json!({"status": status, "headers": header_fields(headers), "body": text_of(&body.bytes)});
    if !body.trailers.is_empty() {
        noted["trailers"] = json!(header_fields(&body.trailers));
    }
    if body.end != End::Complete {
        noted["end"] = json!(body.end);
    }
    if !informational.is_empty() {
        noted["informational"] = json!(informational);
    }
    noted
}

/// Waits for the proxy to close, and notes whether it did and what it said before.
async fn await_close(wire: &mut Wire) -> Map<String, Value> {
    let mut rest = Vec::new();
    let closed = timeout(PATIENCE, wire.read_to_end(&mut rest)).await.is_ok();
    let mut noted = Map::from_iter([("closed".to_owned(), json!(closed))]);
    if !rest.is_empty() {
        noted.insert("rest".into(), json!(text_of(&rest)));
    }
    noted
}

fn unanswered() -> Value {
    json!({"no_answer": "in time"})
}

fn raw_bytes(raw: &Raw) -> Result<Vec<u8>, String> {
    let mut bytes = from_hex(&raw.hex)?;
    if let Some(hello) = &raw.client_hello {
        bytes.extend(client_hello::record(hello));
    }
    bytes.extend_from_slice(raw.send.as_bytes());
    Ok(bytes)
}
