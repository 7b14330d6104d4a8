//! A body on its way out, behind its head.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::{Encoder, Error, Link};
use crate::io::BodyError;

/// Moves a body out over a link. Whatever is there goes in one write: the head with the first data, and the last data with
/// the end. No more than one piece of the body waits for the peer to take it.
pub struct Outgoing<B> {
    body: Option<B>,
    encoder: Encoder,
    /// Whether trailers go too.
    trailers: bool,
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Outgoing<B> {
    /// A body that stands behind a head which is in the link's buffer already.
    /// Without `trailers`, those are dropped.
    pub fn new(body: B, encoder: Encoder, trailers: bool) -> Self {
        Outgoing { body: Some(body), encoder, trailers }
    }

    /// Whether everything has been taken from the body.
    pub fn is_complete(&self) -> bool {
        self.body.is_none()
    }

    /// Ready once everything is written. The body is dropped as soon as its end is known, before that is written.
    pub fn poll(&mut self, link: &RefCell<Link>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let has_more = self.gather(link, cx)?;
            let wire = &mut link.borrow_mut().wire;
            if !wire.out.is_empty() {
                ready!(wire.poll_write(cx))?;
            }
            if !has_more {
                return if self.body.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
        }
    }

    /// Takes from the body what is there and has room; true if there may be more at once.
    fn gather(&mut self, link: &RefCell<Link>, cx: &mut Context<'_>) -> Result<bool, Error> {
        while let Some(body) = &mut self.body {
            if link.borrow().wire.out.is_full() {
                return Ok(true);
            }
            let frame = match body.is_end_stream() {
                true => None,
                false => match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(frame) => frame.transpose().map_err(Error::Body)?,
                    Poll::Pending => return Ok(false),
                },
            };
            let is_last = frame.as_ref().is_none_or(Frame::is_trailers) || body.is_end_stream();
            self.put(link, frame, is_last)?;
            if is_last {
                self.body = None;
            }
        }
        Ok(false)
    }

    fn put(
        &mut self,
        link: &RefCell<Link>,
        frame: Option<Frame<Bytes>>,
        is_last: bool,
    ) -> Result<(), Error> {
        let out = &mut link.borrow_mut().wire.out;
        let put = match frame.map(Frame::into_data) {
            None => self.encoder.end(out),
            Some(Ok(data)) => self.encoder.data(data, is_last, out),
            Some(Err(frame)) => match frame.trailers_ref() {
                Some(trailers) if self.trailers => self.encoder.trailers(trailers, out),
                _ => self.encoder.end(out),
            },
        };
        put.map_err(|wrong| Error::Body(wrong.into()))
    }
}
