//! The head of an answer, and how its body is framed.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode};
use http_body::Body;

use crate::io::h1::Encoder;
use crate::io::h1::encoder::{HEAD, field, number};

/// What the request says about the form of its answer.
#[derive(Clone, Copy, Default)]
pub struct Asked {
    /// It came by HTTP/1.0.
    pub http10: bool,
    /// It was HEAD.
    pub head_only: bool,
    /// It was CONNECT.
    pub connect: bool,
}

/// A head that was written.
pub struct Written {
    /// How the body goes.
    pub encoder: Encoder,
    /// The answer is the connection's last one.
    pub closes: bool,
}

/// Writes the head of an answer into `text`. Names go in title case where `title_case` says so.
pub fn write_head<B: Body>(
    head: &http::response::Parts,
    body: &B,
    asked: Asked,
    title_case: bool,
    text: &mut Vec<u8>,
) -> Written {
    text.reserve(HEAD);
    text.extend_from_slice(if asked.http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    text.extend_from_slice(head.status.as_str().as_bytes());
    text.push(b' ');
    text.extend_from_slice(head.status.canonical_reason().unwrap_or("Unknown").as_bytes());
    text.extend_from_slice(b"\r\n");
    let start = text.len();
    let (mut length, mut closes) = (None, false);
    let has_length = may_have_length(head.status, asked);
    for (name, value) in &head.headers {
        match *name {
            CONTENT_LENGTH if !has_length || length.is_some() => continue,
            CONTENT_LENGTH => match number(value) {
                Some(number) => length = Some(number),
                None => continue,
            },
            // Ours to say.
            TRANSFER_ENCODING => continue,
            CONNECTION => closes |= value.as_bytes().eq_ignore_ascii_case(b"close"),
            _ => {}
        }
        field(text, name.as_str(), value);
    }
    let exact = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
    let encoder = match (has_body(head.status, asked), length, exact) {
        (false, ..) => Encoder::Length(0),
        (true, Some(length), _) => Encoder::Length(length),
        (true, None, Some(length)) => {
            field(text, CONTENT_LENGTH.as_str(), &HeaderValue::from(length));
            Encoder::Length(length)
        }
        (true, None, None) if asked.http10 => {
            closes = true;
            Encoder::UntilClose
        }
        (true, None, None) => {
            field(text, TRANSFER_ENCODING.as_str(), &HeaderValue::from_static("chunked"));
            Encoder::Chunked
        }
    };
    if asked.http10 && !closes {
        field(text, CONNECTION.as_str(), &HeaderValue::from_static("keep-alive"));
    }
    if title_case {
        into_title_case(&mut text[start..]);
    }
    text.extend_from_slice(b"\r\n");
    Written { encoder, closes }
}

/// Whether an answer has a body (RFC 9110 §6.4.1).
fn has_body(status: StatusCode, asked: Asked) -> bool {
    !asked.head_only && status != StatusCode::NOT_MODIFIED && may_have_length(status, asked)
}

/// Whether an answer may tell the length of a body (RFC 9110 §8.6).
fn may_have_length(status: StatusCode, asked: Asked) -> bool {
    !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && !(asked.connect && status.is_success())
}

/// Capitalises the words of the names in these lines.
fn into_title_case(lines: &mut [u8]) {
    let (mut in_name, mut at_start) = (true, true);
    for byte in lines {
        if in_name && at_start {
            byte.make_ascii_uppercase();
        }
        at_start = matches!(byte, b'-' | b'\n');
        in_name = match byte {
            b':' => false,
            b'\n' => true,
            _ => in_name,
        };
    }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use http_body_util::{Empty, Full, StreamBody};

    use super::*;

    type Endless = StreamBody<
        futures_util::stream::Pending<
            Result<http_body::Frame<bytes::Bytes>, std::convert::Infallible>,
        >,
    >;

    fn endless() -> Endless {
        StreamBody::new(futures_util::stream::pending())
    }

    fn written<B: Body>(response: &str, body: &B, asked: Asked) -> (String, Encoder, bool) {
        let mut lines = response.lines();
        let mut head = Response::builder().status(lines.next().unwrap());
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            head = head.header(name, value);
        }
        let (head, ()) = head.body(()).unwrap().into_parts();
        let mut text = Vec::new();
        let Written { encoder, closes } = write_head(&head, body, asked, false, &mut text);
        (String::from_utf8(text).unwrap(), encoder, closes)
    }

    #[test]
    fn a_body_is_framed_by_what_is_known_of_it() {
        let full = Full::new(bytes::Bytes::from_static(b"abc"));
        let empty = Empty::<bytes::Bytes>::new();
        let http10 = Asked { http10: true, ..Asked::default() };
        let head_only = Asked { head_only: true, ..Asked::default() };
        let ok = "HTTP/1.1 200 OK\r\n";
        let plain = Asked::default();
        assert_eq!(
            written("200", &full, plain),
            (format!("{ok}content-length: 3\r\n\r\n"), Encoder::Length(3), false)
        );
        assert_eq!(
            written("200", &empty, plain),
            (format!("{ok}content-length: 0\r\n\r\n"), Encoder::Length(0), false)
        );
        assert_eq!(
            written("200", &endless(), plain),
            (format!("{ok}transfer-encoding: chunked\r\n\r\n"), Encoder::Chunked, false)
        );
        assert_eq!(
            written("200\ncontent-length: 7", &endless(), plain),
            (format!("{ok}content-length: 7\r\n\r\n"), Encoder::Length(7), false)
        );
        assert_eq!(
            written("200", &endless(), http10),
            ("HTTP/1.0 200 OK\r\n\r\n".to_owned(), Encoder::UntilClose, true)
        );
        assert_eq!(
            written("200\ncontent-length: 7", &empty, head_only),
            (format!("{ok}content-length: 7\r\n\r\n"), Encoder::Length(0), false)
        );
        assert_eq!(written("200", &empty, head_only).0, format!("{ok}\r\n"));
    }

    #[test]
    fn some_answers_have_no_body_and_no_length() {
        let empty = Empty::<bytes::Bytes>::new();
        let connect = Asked { connect: true, ..Asked::default() };
        for (status, asked, line) in [
            ("204", Asked::default(), "HTTP/1.1 204 No Content"),
            ("304", Asked::default(), "HTTP/1.1 304 Not Modified"),
            ("101", Asked::default(), "HTTP/1.1 101 Switching Protocols"),
            ("200", connect, "HTTP/1.1 200 OK"),
        ] {
            let expected = (format!("{line}\r\n\r\n"), Encoder::Length(0), false);
            assert_eq!(written(status, &empty, asked), expected, "{status}");
        }
        let length = "\ncontent-length: 5";
        assert!(!written(&format!("204{length}"), &empty, Asked::default()).0.contains("content"));
        assert!(written(&format!("304{length}"), &empty, Asked::default()).0.contains("content"));
    }

    #[test]
    fn whether_the_connection_stays_is_said() {
        let empty = Empty::<bytes::Bytes>::new();
        let http10 = Asked { http10: true, ..Asked::default() };
        assert!(written("200\nconnection: close", &empty, Asked::default()).2);
        assert!(written("200\nconnection: close", &empty, http10).2);
        let (text, _, closes) = written("200", &empty, http10);
        assert!(text.contains("connection: keep-alive\r\n") && !closes);
        assert!(written("599", &empty, http10).0.starts_with("HTTP/1.0 599 Unknown\r\n"));
    }

    #[test]
    fn names_may_go_in_title_case() {
        let mut text = b"x-a: b-c\r\ncontent-type: text/d\r\n".to_vec();
        into_title_case(&mut text);
        assert_eq!(text, b"X-A: b-c\r\nContent-Type: text/d\r\n");
    }
}
