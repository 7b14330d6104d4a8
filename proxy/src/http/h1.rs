//! HTTP/1 on a downstream connection: requests in, one after the other, each with its answer.
//!
//! A connection is one task. It reads a head, polls the service and the answer's body itself, and meanwhile listens whether
//! the client leaves. What is not good is refused before anything is made of it (`head`), and the service answers it, so
//! that the answer is counted and logged like any other.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use bytes::BytesMut;
use http::{Method, Request, Version};

use crate::http::body::ResponseBody;
use crate::http::connection::{Connection, Verdict};
use crate::http::delayed_close::Closing;
use crate::http::service;
use crate::io::h1::{Error, Link, Outgoing, Wire};
use crate::io::{Incoming, Stream, h1};

mod answer;
mod charset;
mod head;
mod heads;
mod rules;

use answer::{Asked, write_head};
pub use charset::valid_authority;
pub use head::Head;
pub use head::read;
use heads::Heads;
pub use rules::{Refusal, Rules};

/// What goes out before the body of a request that waits for it.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What becomes of a connection after an answer.
enum Next {
    /// Another request may come.
    Request,
    /// It leaves HTTP.
    Tunnel,
    /// It ends.
    Close,
}

/// Serves the requests on a connection of which `ahead` was read before, until it ends.
///
/// # Errors
/// The client left while an answer was due to it, or the answer could not be given to its end.
pub async fn serve(
    stream: Stream,
    ahead: BytesMut,
    connection: Rc<Connection>,
) -> Result<(), Error> {
    let link = Rc::new(RefCell::new(Link::new(Wire::new(stream, ahead))));
    let mut heads = Heads::new(Rules::new(&connection.manager.config));
    loop {
        let next = poll_fn(|cx| heads.poll_next(&mut link.borrow_mut().wire, &connection, cx));
        let Some(head) = next.await? else { break };
        match exchange(&link, &connection, head).await? {
            Next::Request => {}
            Next::Tunnel => {
                hand_over(link, &connection);
                return Ok(());
            }
            Next::Close => break,
        }
    }
    let mut closing = Closing::default();
    let manager = &connection.manager;
    poll_fn(|cx| closing.poll(link.borrow_mut().wire.stream(), manager, cx))
        .await
        .map_err(Error::Io)
}

/// One request with its answer.
async fn exchange(
    link: &Rc<RefCell<Link>>,
    connection: &Rc<Connection>,
    head: Head,
) -> Result<Next, Error> {
    let Head { parts, framing, closes, expects_continue, tunnel, refusal } = head;
    if closes {
        connection.close_after_response();
    }
    connection.verdict.set(Verdict { refusal, tunnel });
    let asked = Asked {
        http10: parts.version == Version::HTTP_10,
        head_only: parts.method == Method::HEAD,
        connect: parts.method == Method::CONNECT,
    };
    let body = h1::Incoming::begin(link, framing, if expects_continue { CONTINUE } else { b"" });
    if refusal.is_some() {
        link.borrow_mut().refuse();
    }
    let request = Request::from_parts(parts, Incoming::Http1(body));
    let answering = service::serve(Rc::clone(connection), request);
    let mut answering = pin!(async { answer(link, connection, asked, answering.await).await });
    poll_fn(|cx| match answering.as_mut().poll(cx) {
        Poll::Ready(next) => Poll::Ready(next),
        Poll::Pending => {
            let error = ready!(link.borrow_mut().poll_left(cx));
            connection.note_left();
            Poll::Ready(Err(error))
        }
    })
    .await
}

/// Writes an answer.
async fn answer(
    link: &RefCell<Link>,
    connection: &Connection,
    asked: Asked,
    response: http::Response<ResponseBody>,
) -> Result<Next, Error> {
    let (head, body) = response.into_parts();
    let is_tunnel = matches!(body, ResponseBody::Detached);
    let written = {
        let mut link = link.borrow_mut();
        link.begin_answer();
        let title_case = connection.manager.config.proper_case_words;
        write_head(&head, &body, asked, title_case, link.wire.out.text())
    };
    let mut outgoing =
        Outgoing::new(body, written.encoder, connection.manager.config.http1_trailers);
    let result = poll_fn(|cx| {
        let result = ready!(outgoing.poll(link, cx));
        if result.is_err() {
            // What is there already may still go; there is nobody left to tell of another error.
            let _ = link.borrow_mut().wire.poll_write(cx);
        }
        Poll::Ready(result)
    });
    result.await?;
    Ok(match (is_tunnel, written.closes) {
        (true, _) => Next::Tunnel,
        (false, true) => Next::Close,
        (false, false) => Next::Request,
    })
}

/// Gives the connection to the tunnel that waits for it.
fn hand_over(link: Rc<RefCell<Link>>, connection: &Connection) {
    // A request whose body is still being read keeps the connection, and the tunnel ends before it has begun.
    if let Some(link) = Rc::into_inner(link) {
        connection.hand_over(link.into_inner().wire.into_stream());
    }
}
