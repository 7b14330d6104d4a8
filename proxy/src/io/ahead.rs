//! A body of which a part has been read before whoever it is for reads it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::{CodecError, Incoming};

/// A body of which a part has been read ahead.
#[derive(Debug, Default)]
pub struct Ahead {
    /// What has been read.
    frames: VecDeque<Result<Frame<Bytes>, CodecError>>,
    /// What follows; none once that has ended.
    rest: Option<Incoming>,
    /// Whether its length is told: it was known from the start, or all of it is here.
    pub is_sized: bool,
}

impl Incoming {
    /// Reads until `most` bytes are there, and keeps them for whoever reads the body. Whether that was all; a body that
    /// breaks off meanwhile is not, and says so to whoever reads it.
    pub async fn read_ahead(&mut self, most: usize) -> bool {
        if self.is_end_stream() {
            return true;
        }
        let rest = std::mem::replace(self, Incoming::Ahead(Box::default()));
        let mut ahead = match rest {
            Incoming::Ahead(ahead) => ahead,
            rest => {
                let is_sized = rest.size_hint().exact().is_some();
                Box::new(Ahead { frames: VecDeque::new(), rest: Some(rest), is_sized })
            }
        };
        let is_whole = ahead.fill(most).await;
        *self = Incoming::Ahead(ahead);
        is_whole
    }

    /// The bytes that have been read ahead.
    pub fn ahead(&self) -> Bytes {
        let Incoming::Ahead(ahead) = self else { return Bytes::new() };
        let mut data = ahead.data();
        match (data.next(), data.next()) {
            (Some(only), None) => only.clone(),
            _ => ahead.data().flatten().copied().collect(),
        }
    }
}

impl Ahead {
    fn data(&self) -> impl Iterator<Item = &Bytes> {
        self.frames.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref())
    }

    async fn fill(&mut self, most: usize) -> bool {
        // Counted on and not anew for each frame: a body may come byte by byte.
        let mut read: usize = self.data().map(Bytes::len).sum();
        loop {
            let Some(rest) = self.rest.as_mut().filter(|rest| !rest.is_end_stream()) else {
                self.rest = None;
                return self.frames.iter().all(Result::is_ok);
            };
            if read > most {
                return false;
            }
            match rest.frame().await {
                Some(frame) => {
                    match &frame {
                        Ok(frame) => read += frame.data_ref().map_or(0, Bytes::len),
                        Err(_) => self.rest = None,
                    }
                    self.frames.push_back(frame);
                }
                None => self.rest = None,
            }
        }
    }
}

impl Body for Ahead {
    type Data = Bytes;
    type Error = CodecError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        let ahead = self.get_mut();
        match (ahead.frames.pop_front(), &mut ahead.rest) {
            (Some(frame), _) => Poll::Ready(Some(frame)),
            (None, Some(rest)) => Pin::new(rest).poll_frame(cx),
            (None, None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.data().map(|data| data.len() as u64).sum::<u64>();
        let rest = self.rest.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint);
        match rest.exact().filter(|_| self.is_sized) {
            Some(rest) => SizeHint::with_exact(read + rest),
            None => SizeHint::default(),
        }
    }
}
