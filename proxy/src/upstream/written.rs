//! The bytes of a request on an HTTP/1 connection, kept so that it can be sent again on another one.
//!
//! A host may close a connection that was idle just when a request comes. The request is gone by then; what was written of
//! it is not. To keep these few hundred bytes costs much less than a copy of every request's headers would.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::{HeaderName, HeaderValue, Method, Request, Uri};
use parking_lot::Mutex;

use crate::io::Body;

/// Longer requests are not kept.
const MOST: usize = 16 * 1024;

/// What was written since the last request began.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Written {
    is_on: AtomicBool,
    bytes: Mutex<Vec<u8>>,
}

impl Written {
    /// A request begins; it is kept if `is_on` says so.
    pub(in crate::upstream) fn begin(&self, is_on: bool) {
        self.is_on.store(is_on, Relaxed);
        if is_on {
            self.bytes.lock().clear();
        }
    }

    /// The first `count` bytes of the buffers were written, or would have been had the connection still been there.
    pub(in crate::upstream) fn add<'a>(
        &self,
        buffers: impl Iterator<Item = &'a [u8]>,
        mut count: usize,
    ) {
        if !self.is_on.load(Relaxed) {
            return;
        }
        let mut bytes = self.bytes.lock();
        for buffer in buffers {
            let part = &buffer[..count.min(buffer.len())];
            if bytes.len() + part.len() > MOST {
                self.is_on.store(false, Relaxed);
                return;
            }
            bytes.extend_from_slice(part);
            count -= part.len();
        }
    }

    /// The request, if it was kept and has no body.
    pub(in crate::upstream) fn request(&self) -> Option<Request<Body>> {
        self.is_on.load(Relaxed).then(|| parse(&self.bytes.lock())).flatten()
    }
}

/// A request as hyper writes it.
fn parse(bytes: &[u8]) -> Option<Request<Body>> {
    let head = bytes.strip_suffix(b"\r\n\r\n")?;
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let mut request = Request::new(Body::Empty);
    *request.method_mut() = Method::from_bytes(words.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(words.next()?).ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: x\r\nx-a: 1\r\nx-a: \xfc\r\n\r\n";

    #[test]
    fn a_request_is_read_back_from_its_bytes() {
        let written = Written::default();
        written.begin(true);
        written.add([&HEAD[..5], &HEAD[5..]].into_iter(), 7);
        assert!(written.request().is_none());
        written.add([&HEAD[7..]].into_iter(), HEAD.len());
        let request = written.request().unwrap();
        assert_eq!((request.method(), request.uri().path()), (&Method::GET, "/a"));
        let values: Vec<_> = request.headers().get_all("x-a").iter().collect();
        assert_eq!(values, [&b"1"[..], b"\xfc"]);
        written.begin(false);
        assert!(written.request().is_none());
    }

    #[test]
    fn long_requests_and_bodies_are_not_kept() {
        let written = Written::default();
        written.begin(true);
        written.add([HEAD, b"body"].into_iter(), HEAD.len() + 4);
        assert!(written.request().is_none());
        written.begin(true);
        written.add([&[b'a'; MOST + 1][..]].into_iter(), MOST + 1);
        assert!(written.bytes.lock().is_empty() && written.request().is_none());
    }
}
