//! One stream: the request that it brings, and the answer to it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::response;
use http::{Method, Request, Response};
use http_body::Body;
use tokio::task::spawn_local;

use crate::http::body::StreamBody;
use crate::http::connection::Connection;
use crate::http::overdue;
use crate::http::service::{self, Answer};
use crate::http::stream::Stream;
use crate::http::upgrade::Tunnel;
use crate::io::Incoming;
use crate::io::deadline::Deadline;
use crate::io::http2::{Http2Body, Http2Tunnel, Upload, send_body};

/// Serves a request in a task of its own. The stream starts at once and not when the task does: a client that leaves in
/// between is logged too.
pub fn start(
    connection: &Rc<Connection>,
    request: Request<RecvStream>,
    reply: SendResponse<Bytes>,
) {
    let (parts, receive) = request.into_parts();
    // What follows a CONNECT is no body.
    let (body, tunnel) = match parts.method {
        Method::CONNECT => (Incoming::Empty, Some(receive)),
        _ => (Incoming::Http2(Http2Body::new(receive, Upload::Done)), None),
    };
    let stream = service::start(connection, &parts, &body);
    // Boxed, it is moved once and not from hand to hand.
    spawn_local(Box::pin(run(stream, parts, body, tunnel, reply)));
}

async fn run(
    mut stream: Stream,
    mut parts: Parts,
    body: Incoming,
    receive: Option<RecvStream>,
    mut reply: SendResponse<Bytes>,
) {
    let answered = {
        let mut answering = pin!(service::answer(&mut stream, &mut parts, body));
        poll_fn(|cx| match answering.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            // Whoever has reset the stream wants no answer.
            Poll::Pending => reply.poll_reset(cx).map(|_| None),
        })
        .await
    };
    let Some(mut answer) = answered else { return };
    service::finish(&mut answer, &mut stream);
    let Answer { head, source, limits, tunnel } = answer;
    if let Some((tunnel, receive)) = tunnel.zip(receive) {
        // In a box, so that plain requests do not carry the room for it.
        return Box::pin(join(head, *tunnel, stream, receive, reply)).await;
    }
    let connection = Rc::clone(&stream.connection);
    let shared = Rc::clone(&stream.shared);
    // Dropped before its end, it resets the stream.
    let mut body = StreamBody::new(source, stream, limits);
    let is_whole = body.is_end_stream();
    let Some(mut send) = send_head(&mut reply, head, is_whole) else { return };
    if is_whole {
        return;
    }
    let mut deadline = Deadline::default();
    let mut sending = pin!(send_body(&mut body, &mut send));
    poll_fn(|cx| match sending.as_mut().poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(()),
        Poll::Ready(Err(error)) => {
            tracing::debug!(connection = connection.info.id, %error, "response broke off");
            Poll::Ready(())
        }
        Poll::Pending => overdue::poll(&connection, &shared, &mut deadline, cx),
    })
    .await;
}

/// Grants a tunnel, and runs it to its end.
async fn join(
    mut head: response::Parts,
    tunnel: Tunnel,
    stream: Stream,
    receive: RecvStream,
    mut reply: SendResponse<Bytes>,
) {
    // Nothing of it is a body (RFC 9110 §9.3.6).
    head.headers.remove(CONTENT_LENGTH);
    if let Some(send) = send_head(&mut reply, head, false) {
        tunnel.over(stream, Http2Tunnel::new(send, receive)).await;
    }
}

/// Sends the head. Nothing if it is none of HTTP/2, which resets the stream, or the stream is gone.
fn send_head(
    reply: &mut SendResponse<Bytes>,
    head: response::Parts,
    is_whole: bool,
) -> Option<SendStream<Bytes>> {
    match reply.send_response(Response::from_parts(head, ()), is_whole) {
        Ok(send) => Some(send),
        Err(error) => {
            tracing::debug!(%error, "cannot send a response");
            reply.send_reset(Reason::INTERNAL_ERROR);
            None
        }
    }
}
