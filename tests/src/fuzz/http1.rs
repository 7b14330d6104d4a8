//! HTTP/1: what comes of bytes does not depend on how they arrive.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use pillion::http::h1::{Rules, read};
use pillion::io::h1::fields::{Search, search};
use pillion::io::h1::framing::{Framing, Piece, TrailerLimits};

use super::Check;
use super::input::bytes;

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b" ",
    b":",
    b"\0",
    b"\xff",
    b"content-length: 1\r\n",
    b"host: b\r\n",
    b"chunked",
    b"transfer-encoding: chunked\r\n",
    b"0\r\n",
    b"ffffffffffffffff",
    b";x=y",
    b"\r\n\r\n",
    b"#",
    b"://",
];

/// A head ends at one place, and a good one has one host at most and one way to tell its length.
pub fn http1_head() -> Check {
    const SAMPLES: &[&[u8]] = &[
        b"GET /a?b=c HTTP/1.1\r\nHost: a.b:80\r\nAccept: */*\r\n\r\n",
        b"POST http://a/b HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\nexpect: 100-continue\r\n\r\nhello",
        b"PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n",
        b"\r\nCONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x00",
        b"OPTIONS * HTTP/1.0\r\n\r\n",
    ];
    let rules = Rules::strict(1, 8);
    Box::new(move |rng| {
        let input = bytes(rng, SAMPLES, WORDS);
        let split = rng.usize(..=input.len());
        let whole = search(&input, 0);
        match search(&input[..split], 0) {
            Search::More => assert_eq!(search(&input, split), whole, "{input:?} after {split}"),
            found => assert_eq!(found, whole, "{input:?} after {split}"),
        }
        let Search::End(length) = whole else { return };
        let head = read(&Bytes::copy_from_slice(&input[..length]), &rules);
        if head.refusal.is_none() {
            let count = |name| head.parts.headers.get_all(name).iter().count();
            assert!(count("host") <= 1, "{input:?}");
            assert!(count("content-length") + count("transfer-encoding") <= 1, "{input:?}");
        }
    })
}

/// A body, what stands behind it and where it ends.
#[derive(Debug, Default, PartialEq)]
struct Whole {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Whether it is complete, or broken; neither while there may be more.
    end: Option<bool>,
    rest: usize,
}

/// A chunked body is the same in one piece and in many.
pub fn http1_body() -> Check {
    const SAMPLES: &[&[u8]] = &[
        b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"1;ext=1\r\nx\r\nA\r\n0123456789\r\n00\r\nx-t: 1\r\nX-U:2\r\n\r\n",
        b"0\r\n\r\n",
    ];
    Box::new(|rng| {
        let input = bytes(rng, SAMPLES, WORDS);
        let size = rng.usize(1..8);
        let pieces = |size: usize| follow(input.chunks(size));
        assert_eq!(pieces(size), pieces(input.len().max(1)), "{input:?} by {size}");
    })
}

fn follow<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Whole {
    let mut framing = Framing::chunked(TrailerLimits { bytes: 64, fields: 3 });
    let (mut whole, mut ahead) = (Whole::default(), BytesMut::new());
    for piece in pieces {
        ahead.extend_from_slice(piece);
        while whole.end.is_none() {
            match framing.next(&mut ahead) {
                Ok(Piece::Data(data)) => whole.data.extend_from_slice(&data),
                Ok(Piece::Trailers(trailers)) => {
                    whole.trailers = Some(trailers);
                    whole.end = Some(true);
                }
                Ok(Piece::End) => whole.end = Some(true),
                Ok(Piece::More) => break,
                Err(_) => whole.end = Some(false),
            }
        }
    }
    // How much of what is broken was looked at is nobody's business.
    if whole.end == Some(true) {
        whole.rest = ahead.len();
    }
    if whole.end == Some(false) {
        whole.data.clear();
    }
    whole
}
