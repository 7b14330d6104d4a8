//! Scripted upstreams: each listens on a port of its own, notes what it receives and answers as the case says.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{Request, Response, StatusCode};
use pillion::io::Stream;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::bootstrap::fill_text;
use super::case::{Reply, Then, Upstream, UpstreamProtocol};
use super::grpc;
use super::http1::{Framing, Head, Wire, write_message};
use super::http2;
use super::stage::Stage;
use super::text::{header_fields, text_of};
use super::tls;

/// One upstream of a running case.
struct Script {
    name: String,
    upstream: Upstream,
    stage: Arc<Stage>,
    connections: AtomicUsize,
    answered: AtomicUsize,
}

/// Starts an upstream on `listener`; it ends with `tasks`.
pub fn start(
    name: &str,
    upstream: &Upstream,
    listener: TcpListener,
    stage: &Arc<Stage>,
    tasks: &mut JoinSet<()>,
) {
    let script = Arc::new(Script {
        name: name.to_owned(),
        upstream: upstream.clone(),
        stage: stage.clone(),
        connections: AtomicUsize::new(0),
        answered: AtomicUsize::new(0),
    });
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(script.clone(), stream));
        }
    });
}

async fn serve(script: Arc<Script>, stream: TcpStream) {
    let mut stream = Stream::Tcp(stream);
    if let Some(server) = &script.upstream.tls {
        stream = match tls::accept(stream, server).await {
            Ok(stream) => stream,
            // The proxy does not like the certificate.
            Err(_) => return,
        };
    }
    let connection = script.connections.fetch_add(1, Ordering::Relaxed) + 1;
    // An error is the proxy gone; what it had sent by then is noted.
    let _ = match script.upstream.protocol {
        UpstreamProtocol::Http1 => http1(&script, Wire::new(stream), connection).await,
        UpstreamProtocol::Http2 => http2(&script, stream, connection).await,
        UpstreamProtocol::Tcp => tcp(&script, Wire::new(stream)).await,
        UpstreamProtocol::Refused => Ok(()),
    };
}

impl Script {
    /// The answer for the next request.
    fn next_reply(&self) -> Reply {
        let at = self.answered.fetch_add(1, Ordering::Relaxed);
        let replies = &self.upstream.replies;
        let mut reply = replies.get(at).or(replies.last()).cloned().unwrap_or_default();
        if reply.grpc.is_some() {
            reply.headers.0.push(("content-type".into(), "application/grpc".into()));
            reply.trailers.0.push(("grpc-status".into(), "0".into()));
        }
        reply
    }

    fn body_of(&self, reply: &Reply) -> String {
        fill_text(reply.body.as_ref().unwrap_or(&self.name), &BTreeMap::new())
    }

    /// A request's body as the record tells it.
    fn told(&self, body: &[u8]) -> Value {
        match &self.upstream.grpc {
            Some(name) => grpc::messages(name, body),
            None => json!(text_of(body)),
        }
    }

    fn update(&self, place: usize, field: &str, value: Value) {
        self.stage.update(&self.name, place, field, value);
    }

    async fn hold(&self, reply: &Reply) {
        if let Some(name) = &reply.hold {
            self.stage.wait_released(name).await;
        }
    }
}

async fn http1(script: &Script, mut wire: Wire, connection: usize) -> io::Result<()> {
    while let Ok(head) = wire.read_head().await {
        let mut noted = json!({"request": head.start, "headers": header_fields(&head.headers), "connection": connection});
        if let Some(tls) = tls::describe(&wire.stream) {
            noted["tls"] = tls;
        }
        let place = script.stage.receive(&script.name, noted);
        let reply = script.next_reply();
        if !reply.early {
            read_request_body(script, &mut wire, &head, place).await;
        }
        script.hold(&reply).await;
        wire.send(&http1_reply(script, &reply, head.start.starts_with("HEAD "))).await?;
        if reply.echo {
            echo(script, &mut wire, place).await?;
        }
        match reply.then {
            Then::Keep if reply.early => read_request_body(script, &mut wire, &head, place).await,
            Then::Keep => {}
            Then::Reset => return reset(wire),
            Then::Close => return Ok(()),
        }
    }
    Ok(())
}

async fn read_request_body(script: &Script, wire: &mut Wire, head: &Head, place: usize) {
    let body = wire.read_body(head.framing(Framing::Empty)).await;
    script.update(place, "body", script.told(&body.bytes));
    script.update(place, "trailers", json!(header_fields(&body.trailers)));
    script.update(place, "end", json!(body.end));
}

fn http1_reply(script: &Script, reply: &Reply, head_only: bool) -> Vec<u8> {
    if let Some(raw) = &reply.raw {
        return fill_text(raw, &BTreeMap::new()).into_bytes();
    }
    let reason = StatusCode::from_u16(reply.status)
        .ok()
        .and_then(|s| s.canonical_reason())
        .unwrap_or("Unknown");
    let start = format!("HTTP/1.1 {} {reason}", reply.status);
    let mut headers = reply.headers.clone();
    let bodiless = head_only || matches!(reply.status, 100..=199 | 204 | 304);
    let body = if bodiless { String::new() } else { script.body_of(reply) };
    let chunked = !reply.trailers.0.is_empty();
    if body.is_empty() && !bodiless && !chunked && !headers.has("content-length") {
        headers.0.push(("content-length".into(), "0".into()));
    }
    write_message(&start, &headers, &[body], chunked, &reply.trailers)
}

async fn tcp(script: &Script, mut wire: Wire) -> io::Result<()> {
    let place = script.stage.receive(&script.name, json!({"bytes": ""}));
    let reply = script.next_reply();
    if !reply.early {
        match wire.read_some().await {
            Ok(bytes) => script.update(place, "bytes", json!(text_of(&bytes))),
            Err(end) => {
                script.update(place, "end", json!(end));
                return Ok(());
            }
        }
    }
    script.hold(&reply).await;
    let answer = reply.raw.clone().unwrap_or_else(|| script.name.clone());
    wire.send(answer.as_bytes()).await?;
    if reply.echo {
        return echo(script, &mut wire, place).await;
    }
    match reply.then {
        Then::Keep => {
            let mut rest = Vec::new();
            wire.read_to_end(&mut rest).await;
            script.update(place, "rest", json!(text_of(&rest)));
            Ok(())
        }
        Then::Reset => reset(wire),
        Then::Close => Ok(()),
    }
}

async fn echo(script: &Script, wire: &mut Wire, place: usize) -> io::Result<()> {
    let mut echoed = Vec::new();
    while let Ok(bytes) = wire.read_some().await {
        echoed.extend_from_slice(&bytes);
        script.update(place, "echoed", json!(text_of(&echoed)));
        wire.send(&bytes).await?;
    }
    Ok(())
}

/// Closes with a reset: that is what closing with linger zero does.
fn reset(wire: Wire) -> io::Result<()> {
    wire.stream.tcp().map_or(Ok(()), TcpStream::set_zero_linger)
}

async fn http2(script: &Arc<Script>, stream: Stream, connection: usize) -> Result<(), io::Error> {
    let tls = tls::describe(&stream);
    let mut server = h2::server::handshake(stream).await.map_err(io::Error::other)?;
    let mut streams = JoinSet::new();
    while let Some(accepted) = server.accept().await {
        let (request, respond) = accepted.map_err(io::Error::other)?;
        let (script, tls) = (script.clone(), tls.clone());
        streams.spawn(async move {
            // A failure is the stream gone; what came by then is noted.
            let _ = http2_stream(&script, request, respond, connection, tls).await;
        });
    }
    Ok(())
}

async fn http2_stream(
    script: &Script,
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: usize,
    tls: Option<Value>,
) -> Result<(), String> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("", |p| p.as_str());
    let mut headers = http2::pairs(&head.headers);
    headers.extend(head.uri.authority().map(|a| (":authority".into(), a.to_string())));
    headers.extend(head.uri.scheme_str().map(|s| (":scheme".into(), s.to_owned())));
    let line = format!("{} {path} HTTP/2", head.method);
    let mut noted =
        json!({"request": line, "headers": header_fields(&headers), "connection": connection});
    if let Some(tls) = tls {
        noted["tls"] = tls;
    }
    let place = script.stage.receive(&script.name, noted);
    let reply = script.next_reply();
    let read = async |body| {
        let body = http2::read_body(body).await;
        script.update(place, "body", script.told(&body.bytes));
        script.update(place, "trailers", json!(header_fields(&body.trailers)));
        script.update(place, "end", json!(body.end));
    };
    if reply.early {
        http2_reply(script, &reply, &mut respond).await?;
        read(body).await;
        return Ok(());
    }
    read(body).await;
    http2_reply(script, &reply, &mut respond).await
}

async fn http2_reply(
    script: &Script,
    reply: &Reply,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), String> {
    let error = |error: h2::Error| error.to_string();
    let ends_in_reset = reply.then == Then::Reset;
    if !ends_in_reset {
        script.hold(reply).await;
    }
    if reply.raw.is_some() {
        let reason = if ends_in_reset { Reason::INTERNAL_ERROR } else { Reason::REFUSED_STREAM };
        respond.send_reset(reason);
        return Ok(());
    }
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(reply.status).map_err(|e| e.to_string())?;
    *response.headers_mut() = http2::header_map(&reply.headers)?;
    let body = match &reply.grpc {
        Some(message) => grpc::frame(message)?,
        None => script.body_of(reply).into_bytes(),
    };
    let bare = body.is_empty() && reply.trailers.0.is_empty();
    let mut stream = respond.send_response(response, bare).map_err(error)?;
    if bare {
        return Ok(());
    }
    let last = reply.trailers.0.is_empty() && !ends_in_reset;
    stream.send_data(Bytes::from(body), last).map_err(error)?;
    if ends_in_reset {
        script.hold(reply).await;
        stream.send_reset(Reason::INTERNAL_ERROR);
    } else if !last {
        stream.send_trailers(http2::header_map(&reply.trailers)?).map_err(error)?;
    }
    Ok(())
}
