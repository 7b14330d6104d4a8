//! The body of a message that is coming in.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{Error, Framing, Link};

/// A body. Dropped before its end, what is left of it is of no more use to anybody.
pub struct Incoming(Option<Reader>);

struct Reader {
    link: Rc<RefCell<Link>>,
    /// The number of the message.
    number: u32,
}

impl Incoming {
    /// The body of the message that begins now on `link`; see [`Link::begin`].
    pub fn begin(link: &Rc<RefCell<Link>>, framing: Framing, interim: &'static [u8]) -> Self {
        let is_empty = framing.is_complete();
        let number = link.borrow_mut().begin(framing, interim);
        Incoming((!is_empty).then(|| Reader { link: Rc::clone(link), number }))
    }

    /// The body of a message that has none.
    pub fn empty() -> Self {
        Incoming(None)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Incoming" } else { "Incoming(empty)" })
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &self.0 {
            Some(reader) => reader.link.borrow_mut().poll_frame(reader.number, cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|reader| reader.link.borrow().is_end(reader.number))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(reader) => reader.link.borrow().size_hint(reader.number),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.link.borrow_mut().abandon(self.number);
    }
}
