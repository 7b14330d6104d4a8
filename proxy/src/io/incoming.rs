//! A message's body as it comes in from a peer, whatever codec reads it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::io::ahead::Ahead;
use crate::io::http2::{Http2Body, Http2Tunnel};
use crate::io::{BodyError, h1};

/// A body that a codec reads.
#[derive(Debug)]
pub enum Incoming {
    /// None.
    Empty,
    /// That of HTTP/1.
    Http1(h1::Incoming),
    /// One on a stream of HTTP/2.
    Http2(Http2Body),
    /// One of which a part has been read ahead.
    Ahead(Box<Ahead>),
}

/// Why a codec could not go on with a message.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// That of HTTP/1.
    #[error(transparent)]
    Http1(#[from] h1::Error),
    /// A stream or connection of HTTP/2 broke.
    #[error("{0}")]
    Http2(#[from] h2::Error),
    /// The body that was to be sent broke off.
    #[error("{0}")]
    Body(BodyError),
}

impl Incoming {
    /// The stream of HTTP/2 that it comes over, if that can be a tunnel.
    pub fn into_tunnel(self) -> Option<Http2Tunnel> {
        match self {
            Incoming::Http2(body) => body.into_tunnel(),
            Incoming::Empty | Incoming::Http1(_) | Incoming::Ahead(_) => None,
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = CodecError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        match self.get_mut() {
            Incoming::Empty => Poll::Ready(None),
            Incoming::Http1(body) => Pin::new(body).poll_frame(cx).map_err(CodecError::from),
            Incoming::Http2(body) => Pin::new(body).poll_frame(cx).map_err(CodecError::from),
            Incoming::Ahead(ahead) => Pin::new(&mut **ahead).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Incoming::Empty => true,
            Incoming::Http1(body) => body.is_end_stream(),
            Incoming::Http2(body) => body.is_end_stream(),
            Incoming::Ahead(ahead) => ahead.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Incoming::Empty => SizeHint::with_exact(0),
            Incoming::Http1(body) => body.size_hint(),
            Incoming::Http2(body) => body.size_hint(),
            Incoming::Ahead(ahead) => ahead.size_hint(),
        }
    }
}
