//! The head of a request to a host, and how its body is framed.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Uri};
use http_body::Body as _;

use crate::io::Body;
use crate::io::h1::Encoder;
use crate::io::h1::encoder::{HEAD, field, number};

/// Writes the head of a request into `text`.
pub(super) fn write(parts: &Parts, body: &Body, text: &mut Vec<u8>) -> Encoder {
    let target = target(&parts.uri);
    text.reserve(HEAD);
    text.extend_from_slice(parts.method.as_str().as_bytes());
    text.push(b' ');
    text.extend_from_slice(target.as_bytes());
    text.extend_from_slice(b" HTTP/1.1\r\n");
    let mut length = None;
    for (name, value) in &parts.headers {
        match *name {
            CONTENT_LENGTH => match (length, number(value)) {
                (None, Some(number)) => length = Some(number),
                _ => continue,
            },
            // Ours to say.
            TRANSFER_ENCODING => continue,
            _ => {}
        }
        field(text, name.as_str(), value);
    }
    let encoder = match (length, body) {
        (Some(length), _) => Encoder::Length(length),
        (None, Body::Empty) => Encoder::Length(0),
        (None, body) => match body.size_hint().exact() {
            Some(length) => {
                field(text, CONTENT_LENGTH.as_str(), &HeaderValue::from(length));
                Encoder::Length(length)
            }
            None => {
                let chunked = HeaderValue::from_static("chunked");
                field(text, TRANSFER_ENCODING.as_str(), &chunked);
                Encoder::Chunked
            }
        },
    };
    text.extend_from_slice(b"\r\n");
    encoder
}

/// The path with its query; of CONNECT, the authority.
fn target(uri: &Uri) -> &str {
    match (uri.path_and_query(), uri.authority()) {
        (Some(path), _) => path.as_str(),
        (None, Some(authority)) => authority.as_str(),
        (None, None) => "/",
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn written(request: http::request::Builder, body: Body) -> (String, Encoder) {
        let (parts, body) = request.body(body).unwrap().into_parts();
        let mut text = Vec::new();
        let encoder = write(&parts, &body, &mut text);
        (String::from_utf8(text).unwrap(), encoder)
    }

    fn endless() -> Body {
        Body::stream(http_body_util::StreamBody::new(futures_util::stream::pending()))
    }

    #[test]
    fn a_head_is_written_with_what_frames_the_body() {
        let get = || Request::get("/a?b").header("host", "x");
        assert_eq!(
            written(get(), Body::Empty),
            ("GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), Encoder::Length(0))
        );
        let (text, encoder) = written(get(), endless());
        assert!(text.ends_with("transfer-encoding: chunked\r\n\r\n"));
        assert_eq!(encoder, Encoder::Chunked);
        let (text, encoder) = written(get().header("content-length", "9"), endless());
        assert!(text.ends_with("host: x\r\ncontent-length: 9\r\n\r\n"));
        assert_eq!(encoder, Encoder::Length(9));
        let (text, encoder) = written(get(), Body::full("abc"));
        assert!(text.ends_with("content-length: 3\r\n\r\n"));
        assert_eq!(encoder, Encoder::Length(3));
    }

    #[test]
    fn the_target_is_a_path_or_an_authority() {
        for (uri, expected) in [("/a?b", "/a?b"), ("*", "*"), ("a:1", "a:1")] {
            assert_eq!(target(&uri.parse().unwrap()), expected);
        }
    }
}
