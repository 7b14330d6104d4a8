//! Listener filters: what they say does not depend on how the bytes arrive.

use fastrand::Rng;
use pillion::downstream::inspect::{Step, http, proxy_protocol as proxy, tls};

use super::Check;
use super::input::bytes;
use crate::differential::hello;

/// A PROXY header takes no more bytes than there are.
pub fn proxy_protocol() -> Check {
    const SAMPLES: &[&[u8]] = &[
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\nGET /",
        b"PROXY TCP6 2001:db8::1 ::2 1 65535\r\n",
        b"PROXY UNKNOWN a b\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x04\x57\x08\xaerest",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ];
    Box::new(|rng| {
        let input = bytes(rng, SAMPLES, &[b"PROXY ", b"\r\n", b" ", b"\xff\xff", b"99999"]);
        let optional = rng.bool();
        let disallowed = [rng.bool(), false];
        let look = |bytes: &[u8]| proxy::look(bytes, optional, disallowed);
        if let Step::Done(header) = same_at_any_split(rng, &input, look) {
            assert!(header.length <= input.len(), "{input:?}");
        }
    })
}

/// A server name is in lower case.
pub fn tls_inspector() -> Check {
    let sample = hello("a.Example.com", &["h2", "http/1.1"]);
    Box::new(move |rng| {
        let input = bytes(rng, &[&sample], &[b"\0", b"\xff\xff", b"\x16\x03\x01\0\x05", b"\0\x10"]);
        if let Step::Done(Some(hello)) = same_at_any_split(rng, &input, tls::look) {
            assert!(!hello.server_name.bytes().any(|byte| byte.is_ascii_uppercase()));
        }
    })
}

/// Only versions that exist are told.
pub fn http_inspector() -> Check {
    const SAMPLES: &[&[u8]] = &[
        b"GET /path HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.0\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"no http at all\r\n",
    ];
    Box::new(|rng| {
        let input =
            bytes(rng, SAMPLES, &[b"\r", b"\n", b" ", b"HTTP/1.1", b"PRI * HTTP/2.0\r\n", b"\0"]);
        if let Step::Done(Some(version)) = same_at_any_split(rng, &input, http::look) {
            assert!(["http/1.0", "http/1.1", "h2c"].contains(&version));
        }
    })
}

/// What a filter says of all bytes. What it decided after fewer of them is the same.
fn same_at_any_split<T>(rng: &mut Rng, input: &[u8], look: impl Fn(&[u8]) -> Step<T>) -> Step<T>
where
    T: PartialEq + std::fmt::Debug,
{
    let whole = look(input);
    let split = rng.usize(..=input.len());
    let part = look(&input[..split]);
    // Nothing is said of no bytes.
    if split > 0 && part != Step::More {
        assert_eq!(part, whole, "{:?} after {split} bytes", String::from_utf8_lossy(input));
    }
    whole
}
