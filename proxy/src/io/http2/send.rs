//! A body that goes out over a stream of HTTP/2.

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body, Frame};

use crate::io::{BodyError, CodecError};

/// Sends a body as fast as the peer's windows allow: of what they do not, one piece is kept here and one by `stream`.
///
/// # Errors
/// The peer has reset the stream or the connection is lost; or the body broke off, whereupon the stream is reset.
pub async fn send_body<B>(mut body: B, stream: &mut SendStream<Bytes>) -> Result<(), CodecError>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    let mut is_first = true;
    loop {
        let frame = match poll_fn(|cx| poll_frame(&mut body, stream, cx)).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(stream.send_data(Bytes::new(), true)?),
            Err(CodecError::Body(error)) => return Err(break_off(stream, error).await),
            Err(error) => return Err(error),
        };
        match frame.into_data() {
            Ok(data) => {
                let is_last = body.is_end_stream();
                if !is_first && !data.is_empty() {
                    wait_for_room(stream).await?;
                }
                is_first = false;
                stream.send_data(data, is_last)?;
                if is_last {
                    return Ok(());
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return Ok(stream.send_trailers(trailers)?);
                }
            }
        }
    }
}

/// Resets the stream. What was sent before is written first, if the peer takes it: a reset throws away what still waits.
async fn break_off(stream: &mut SendStream<Bytes>, error: BodyError) -> CodecError {
    tokio::task::yield_now().await;
    stream.send_reset(reason_of(&*error));
    CodecError::Body(error)
}

/// The body's next frame, or the end of the stream before there is one.
fn poll_frame<B>(
    body: &mut B,
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Frame<Bytes>>, CodecError>>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    match Pin::new(body).poll_frame(cx) {
        Poll::Ready(Some(Ok(frame))) => Poll::Ready(Ok(Some(frame))),
        Poll::Ready(None) => Poll::Ready(Ok(None)),
        Poll::Ready(Some(Err(error))) => Poll::Ready(Err(CodecError::Body(error))),
        Poll::Pending => match stream.poll_reset(cx) {
            Poll::Ready(reset) => {
                Poll::Ready(Err(reset.map_or_else(|e| e, h2::Error::from).into()))
            }
            Poll::Pending => Poll::Pending,
        },
    }
}

/// Waits until what was sent before has found room in the peer's windows, and a byte more would.
async fn wait_for_room(stream: &mut SendStream<Bytes>) -> Result<(), CodecError> {
    // Only now, with something to send: a claim takes from what the connection's other streams may send.
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(room) => drop(room?),
            None => return Err(reset_of(stream).await),
        }
    }
    Ok(())
}

/// Why nothing can be sent any more.
async fn reset_of(stream: &mut SendStream<Bytes>) -> CodecError {
    poll_fn(|cx| stream.poll_reset(cx)).await.map_or_else(|error| error, h2::Error::from).into()
}

/// The reason to reset a stream with whose other side has broken: that one's reason, if it had one.
fn reason_of(error: &(dyn Error + 'static)) -> Reason {
    let causes =
        std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
    let mut reasons = causes.filter_map(|cause| cause.downcast_ref::<h2::Error>()?.reason());
    reasons.next().unwrap_or(Reason::INTERNAL_ERROR)
}
