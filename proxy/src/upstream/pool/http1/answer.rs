//! The head of a host's answer, and how its body is framed (RFC 9112 §6.3).

use std::cell::Cell;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};

use super::is_tunnel;
use crate::config::cluster::Cluster as Config;
use crate::io::h1::fields::{self, Search};
use crate::io::h1::{Error, Framing, TrailerLimits, Wire};

/// What the cluster allows in an answer's head.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    bytes: usize,
    headers: usize,
}

impl Limits {
    /// The limits of a cluster.
    pub(super) fn new(config: &Config) -> Self {
        Limits {
            bytes: config.http.max_response_headers_kb as usize * 1024,
            headers: config.http.max_headers_count as usize,
        }
    }
}

/// A head that has come.
#[derive(Debug)]
pub(super) struct Answer {
    /// The head.
    pub(super) parts: Parts,
    /// How the body comes.
    pub(super) framing: Framing,
    /// The connection takes no further request.
    pub(super) closes: bool,
}

/// Reads the heads of the answers to one request: interim ones, which are dropped, and the final one.
pub(super) struct Answers<'a> {
    limits: Limits,
    method: &'a Method,
    /// How much of what was read holds no end of a head.
    searched: usize,
}

impl<'a> Answers<'a> {
    /// Reads the answers to a request with this method.
    pub(super) fn new(limits: Limits, method: &'a Method) -> Self {
        Answers { limits, method, searched: 0 }
    }

    /// The final answer. Any byte that comes sets `has_begun`.
    ///
    /// # Errors
    /// What comes is no answer, or the connection ends.
    pub(super) fn poll_next(
        &mut self,
        wire: &mut Wire,
        has_begun: &Cell<bool>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Answer, Error>> {
        loop {
            while let Some(length) = self.search(&wire.ahead)? {
                let head = wire.ahead.split_to(length).freeze();
                let answer = parse(&head, self.limits, self.method)?;
                let status = answer.parts.status;
                if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Ok(answer));
                }
            }
            match ready!(wire.poll_read(cx, 0))? {
                0 => return Poll::Ready(Err(Error::Cut)),
                _ => has_begun.set(true),
            }
        }
    }

    /// The length of the head that `ahead` starts with, if it has come in whole.
    fn search(&mut self, ahead: &[u8]) -> Result<Option<usize>, Error> {
        match fields::search(ahead, self.searched) {
            Search::End(length) if length <= self.limits.bytes => {
                self.searched = 0;
                Ok(Some(length))
            }
            Search::More if ahead.len() <= self.limits.bytes => {
                self.searched = ahead.len();
                Ok(None)
            }
            Search::BareLineFeed => Err(Error::Malformed("a line ends in LF alone")),
            Search::End(_) | Search::More => Err(Error::Malformed("the head is too long")),
        }
    }
}

/// Reads a whole head.
fn parse(head: &Bytes, limits: Limits, method: &Method) -> Result<Answer, Error> {
    let mut lines = fields::lines(head);
    let (version, status) = status_line(lines.next().unwrap_or_default())?;
    let mut headers = HeaderMap::with_capacity(head.len() / 40 + 6);
    let mut found = Found::default();
    for line in lines {
        let (name, value) =
            fields::parse(head, line).map_err(|_| Error::Malformed("a field of the head"))?;
        found.add(&name, &value);
        if headers.len() == limits.headers || headers.try_append(name, value).is_err() {
            return Err(Error::Malformed("the head has too many fields"));
        }
    }
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.status, parts.version) = (status, version);
    parts.headers = headers;
    let framing = found.framing(version, status, method, limits)?;
    let stays = match version {
        Version::HTTP_11 => !found.closes,
        _ => found.stays && !found.closes,
    };
    let closes = !stays || framing == Framing::UntilClose;
    Ok(Answer { parts, framing, closes })
}

/// Version and status; the reason is nobody's business.
fn status_line(line: &[u8]) -> Result<(Version, StatusCode), Error> {
    let bad = Error::Malformed("the status line");
    let (version, rest) = match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', rest @ ..] => match minor {
            b'1' => (Version::HTTP_11, rest),
            b'0' => (Version::HTTP_10, rest),
            _ => return Err(bad),
        },
        _ => return Err(bad),
    };
    match rest {
        [a, b, c] | [a, b, c, b' ', ..] => match StatusCode::from_bytes(&[*a, *b, *c]) {
            Ok(status) => Ok((version, status)),
            Err(_) => Err(bad),
        },
        _ => Err(bad),
    }
}

/// What the fields say about framing and the connection.
#[derive(Default)]
struct Found {
    length: Option<u64>,
    /// There is a length that is none, or two of them.
    odd_length: bool,
    encodings: usize,
    /// There is an encoding other than `chunked`.
    odd_encoding: bool,
    closes: bool,
    stays: bool,
}

impl Found {
    fn add(&mut self, name: &http::HeaderName, value: &HeaderValue) {
        match *name {
            CONTENT_LENGTH => self.add_length(value),
            TRANSFER_ENCODING => {
                self.encodings += 1;
                self.odd_encoding |= !value.as_bytes().eq_ignore_ascii_case(b"chunked");
            }
            CONNECTION => {
                for token in value.as_bytes().split(|byte| *byte == b',').map(fields::trim) {
                    self.closes |= token.eq_ignore_ascii_case(b"close");
                    self.stays |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ => {}
        }
    }

    /// A length that is told several times must be the same each time.
    fn add_length(&mut self, value: &HeaderValue) {
        for text in value.as_bytes().split(|byte| *byte == b',').map(fields::trim) {
            let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(text).ok().filter(|_| digits);
            let length = number.and_then(|text| text.parse().ok());
            self.odd_length |= length.is_none() || self.length.is_some_and(|l| Some(l) != length);
            self.length = self.length.or(length);
        }
    }

    fn framing(
        &self,
        version: Version,
        status: StatusCode,
        method: &Method,
        limits: Limits,
    ) -> Result<Framing, Error> {
        // Two readers may see the end of such a body at two places.
        let has_two = self.encodings > 1
            || (self.encodings == 1 && (self.length.is_some() || self.odd_length));
        if self.odd_encoding || has_two {
            return Err(Error::Malformed("the length of the body is told in two ways"));
        }
        let is_bodiless = status.is_informational()
            || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
            || method == Method::HEAD
            || is_tunnel(status, method == Method::CONNECT);
        match (is_bodiless, self.encodings, self.length) {
            (true, ..) => Ok(Framing::Length(0)),
            (false, 1, _) if version == Version::HTTP_10 => {
                Err(Error::Malformed("HTTP/1.0 has no chunks"))
            }
            (false, 1, _) => {
                let Limits { bytes, headers: fields } = limits;
                Ok(Framing::chunked(TrailerLimits { bytes, fields }))
            }
            (false, ..) if self.odd_length => Err(Error::Malformed("the length of the body")),
            (false, _, Some(length)) => Ok(Framing::Length(length)),
            (false, _, None) => Ok(Framing::UntilClose),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 1024, headers: 4 };

    fn parsed(head: &str, method: Method) -> Result<Answer, Error> {
        parse(&Bytes::copy_from_slice(head.as_bytes()), LIMITS, &method)
    }

    #[test]
    fn a_body_ends_as_its_head_says() {
        for (fields, framing, closes) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5", Framing::Length(5), false),
            (
                "HTTP/1.1 200\r\ncontent-length: 5, 5\r\ncontent-length: 5",
                Framing::Length(5),
                false,
            ),
            (
                "HTTP/1.1 200 \r\ntransfer-encoding: Chunked",
                Framing::chunked(TrailerLimits { bytes: 1024, fields: 4 }),
                false,
            ),
            ("HTTP/1.1 200 OK", Framing::UntilClose, true),
            ("HTTP/1.1 204 OK", Framing::Length(0), false),
            ("HTTP/1.1 304 OK\r\ncontent-length: 5", Framing::Length(0), false),
            ("HTTP/1.1 101 OK", Framing::Length(0), false),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: x, Close",
                Framing::Length(0),
                true,
            ),
            ("HTTP/1.0 200 OK\r\ncontent-length: 0", Framing::Length(0), true),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive",
                Framing::Length(0),
                false,
            ),
        ] {
            let answer = parsed(&format!("{fields}\r\n\r\n"), Method::GET).expect(fields);
            assert_eq!((answer.framing, answer.closes), (framing, closes), "{fields}");
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(parsed(head, Method::HEAD).unwrap().framing, Framing::Length(0));
        assert_eq!(parsed(head, Method::CONNECT).unwrap().framing, Framing::Length(0));
    }

    #[test]
    fn what_is_no_answer_is_malformed() {
        for head in [
            "hello",
            "HTTP/1.2 200 OK",
            "HTTP/2.0 200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1  200 OK",
            "HTTP/1.1 200 OK\r\nno colon",
            "HTTP/1.1 200 OK\r\na : b",
            "HTTP/1.1 200 OK\r\na: b\r\n c",
            "HTTP/1.1 200 OK\r\ncontent-length: -1",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked",
            "HTTP/1.1 200 OK\r\na: 1\r\na: 2\r\na: 3\r\na: 4\r\na: 5",
        ] {
            let error = parsed(&format!("{head}\r\n\r\n"), Method::GET).expect_err(head);
            assert!(matches!(error, Error::Malformed(_)), "{head}: {error}");
        }
    }

    #[test]
    fn a_long_head_is_malformed_before_it_ends() {
        let mut answers = Answers::new(LIMITS, &Method::GET);
        assert!(matches!(answers.search(&[b'a'; 1024]), Ok(None)));
        assert!(answers.search(&[b'a'; 1025]).is_err());
    }
}
