//! A body that comes in over a stream of HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http_body::{Body, Frame, SizeHint};
use tokio_util::task::AbortOnDropHandle;

use super::Http2Tunnel;
use crate::io::CodecError;

/// A body on a stream. Dropped before its end, it resets the stream.
#[derive(Debug)]
pub struct Http2Body {
    stream: RecvStream,
    is_data_done: bool,
    /// Whether the last frame has been taken.
    has_ended: bool,
    other_way: Upload,
}

/// What goes the other way on the stream of a response.
#[derive(Debug)]
pub enum Upload {
    /// Nothing, or nothing any more that this side would have to do something for.
    Done,
    /// A task sends the request's body. It ends with the response, since nobody reads on then (RFC 9113 §8.1).
    Task(AbortOnDropHandle<Result<(), CodecError>>),
    /// The stream may become a tunnel.
    Tunnel(SendStream<Bytes>),
}

impl Http2Body {
    /// The body that comes over `stream`.
    pub fn new(stream: RecvStream, other_way: Upload) -> Self {
        let has_ended = stream.is_end_stream();
        Http2Body { stream, is_data_done: false, has_ended, other_way }
    }

    /// The stream as a tunnel, if it can be one.
    pub fn into_tunnel(self) -> Option<Http2Tunnel> {
        match self.other_way {
            Upload::Tunnel(send) => Some(Http2Tunnel::new(send, self.stream)),
            _ => None,
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let Some(data) = ready!(self.stream.poll_data(cx)).transpose()? else {
            self.is_data_done = true;
            return Poll::Ready(None);
        };
        // Whoever polls takes the bytes, and asks for no more than can be sent on.
        self.stream.flow_control().release_capacity(data.len())?;
        self.has_ended = self.stream.is_end_stream();
        Poll::Ready(Some(Ok(data)))
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        if this.has_ended {
            return Poll::Ready(None);
        }
        if !this.is_data_done
            && let Some(data) = ready!(this.poll_data(cx)).transpose()?
        {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = ready!(this.stream.poll_trailers(cx))?;
        this.has_ended = true;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    fn size_hint(&self) -> SizeHint {
        // A length that the head tells stands there for whoever sends the body on.
        if self.has_ended { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}
