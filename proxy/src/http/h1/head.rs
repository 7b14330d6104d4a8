//! Whether the head of an HTTP/1 request is well-formed, and how its body is framed (RFC 9112).

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Uri, Version};

use super::charset::{is_in_target, is_token, valid_authority};
use super::rules::{Refusal, Rules, is_known};
use crate::io::h1::Framing;
use crate::io::h1::fields::{self, BadField};

/// A whole head that has come.
pub struct Head {
    /// The request, as far as it is known.
    pub parts: Parts,
    /// How its body is framed.
    pub framing: Framing,
    /// It says that this is the connection's last one.
    pub closes: bool,
    /// It waits for `100 Continue` before it sends its body.
    pub expects_continue: bool,
    /// What follows it may not be HTTP: CONNECT, or an upgrade.
    pub tunnel: bool,
    /// Why it is no good, if so.
    pub refusal: Option<Refusal>,
}

impl Head {
    /// In place of a head that is refused. Nothing is told of what it said.
    pub fn refused(refusal: Refusal) -> Self {
        let (parts, ()) = Request::new(()).into_parts();
        Head {
            parts,
            framing: Framing::Length(0),
            closes: true,
            expects_continue: false,
            tunnel: false,
            refusal: Some(refusal),
        }
    }
}

/// Reads a whole head, whose lines all end in CR LF.
pub fn read(head: &Bytes, rules: &Rules) -> Head {
    parse(head, rules).unwrap_or_else(Head::refused)
}

fn parse(head: &Bytes, rules: &Rules) -> Result<Head, Refusal> {
    let mut lines = fields::lines(head);
    let request = RequestLine::read(lines.next().unwrap_or_default(), rules)?;
    let mut found =
        Fields { headers: HeaderMap::with_capacity(head.len() / 40 + 6), ..Fields::default() };
    for line in lines {
        found.add(head, line, rules)?;
    }
    found.finish(head, request, rules)
}

struct RequestLine<'a> {
    method: Method,
    target: &'a [u8],
    http10: bool,
    /// It had a fragment, which is cut off.
    fragment: bool,
}

impl<'a> RequestLine<'a> {
    fn read(line: &'a [u8], rules: &Rules) -> Result<Self, Refusal> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (version, more) = (parts.next(), parts.next());
        let known = if rules.allow_custom_methods { is_token(method) } else { is_known(method) };
        if !known || target.is_empty() || more.is_some() {
            return Err(Refusal::SYNTAX);
        }
        let http10 = match version {
            Some(b"HTTP/1.1") => false,
            Some(b"HTTP/1.0") if rules.accept_http10 => true,
            None => return Err(Refusal::VERSION),
            Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Refusal::VERSION);
            }
            Some(_) => return Err(Refusal::SYNTAX),
        };
        let (target, fragment) = match check_target(method, target, rules) {
            Err(Refusal::FRAGMENT) => {
                (target.split(|byte| *byte == b'#').next().unwrap_or_default(), true)
            }
            checked => checked.map(|()| (target, false))?,
        };
        let method = Method::from_bytes(method).map_err(|_| Refusal::SYNTAX)?;
        Ok(RequestLine { method, target, http10, fragment })
    }

    /// Takes the target over; one that nobody could make a URI of is refused, which the checks before leave little of.
    fn uri(&self, head: &Bytes) -> Result<Uri, Refusal> {
        if self.target.len() >= usize::from(u16::MAX) {
            return Err(Refusal::TOO_LARGE);
        }
        let uri = Uri::from_maybe_shared(head.slice_ref(self.target));
        uri.map_err(|_| Refusal::bad("http1.invalid_url"))
    }
}

/// The four forms of a target (RFC 9112 §3.2), in characters that a URI may have.
fn check_target(method: &[u8], target: &[u8], rules: &Rules) -> Result<(), Refusal> {
    let bad_url = Err(Refusal::bad("http1.invalid_url"));
    if !is_in_target(target) {
        let fragment = target.contains(&b'#');
        return Err(if fragment { Refusal::FRAGMENT } else { Refusal::SYNTAX });
    }
    match target {
        _ if method == b"CONNECT" => match valid_authority(target) && target.contains(&b':') {
            true => Ok(()),
            false => bad_url,
        },
        [b'/', ..] => Ok(()),
        b"*" if method == b"OPTIONS" => Ok(()),
        b"*" => bad_url,
        _ if !rules.allow_absolute_url => bad_url,
        _ => {
            let Some(colon) = target.windows(3).position(|window| window == b"://") else {
                return Err(Refusal::SYNTAX);
            };
            let scheme = &target[..colon];
            if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
                return Err(Refusal::bad("http1.invalid_scheme"));
            }
            let rest = &target[colon + 3..];
            let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
            let authority = &rest[..end];
            match !authority.is_empty() && valid_authority(authority) && !authority.contains(&b'@')
            {
                true => Ok(()),
                false => bad_url,
            }
        }
    }
}

/// The fields, and what stands in them about framing, their number and size.
#[derive(Default)]
struct Fields {
    headers: HeaderMap,
    count: usize,
    size: usize,
    length: Option<u64>,
    encoded: bool,
    hosts: usize,
    asks_upgrade: bool,
    upgrade: bool,
    closes: bool,
    expects_continue: bool,
}

impl Fields {
    fn add(&mut self, head: &Bytes, line: &[u8], rules: &Rules) -> Result<(), Refusal> {
        let (name, value) = fields::parse(head, line).map_err(|bad| match bad {
            BadField::Syntax => Refusal::SYNTAX,
            BadField::Characters => Refusal::bad("http1.invalid_characters"),
            BadField::TooMany => Refusal::TOO_MANY,
        })?;
        if rules.reject_underscores && name.as_str().contains('_') {
            return Err(Refusal::UNDERSCORE);
        }
        self.count += 1;
        self.size += name.as_str().len() + value.len();
        let said = value.as_bytes();
        match name {
            HOST => self.add_host(said)?,
            UPGRADE => self.upgrade |= !said.eq_ignore_ascii_case(b"h2c"),
            CONNECTION => self.add_connection(said)?,
            CONTENT_LENGTH => self.add_length(said)?,
            TRANSFER_ENCODING => self.add_encoding(said)?,
            EXPECT => self.expects_continue |= said.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
        self.headers.try_append(name, value).map_err(|_| Refusal::TOO_MANY)?;
        Ok(())
    }

    fn add_host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.hosts += 1;
        match (self.hosts, valid_authority(value)) {
            (1, true) => Ok(()),
            (1, false) => Err(Refusal::bad("http.invalid_authority")),
            _ => Err(Refusal::SYNTAX),
        }
    }

    /// A connection may not take away what tells where a request comes from and where it goes.
    fn add_connection(&mut self, value: &[u8]) -> Result<(), Refusal> {
        const GUARDED: [&[u8]; 4] =
            [b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"];
        for token in value.split(|byte| *byte == b',').map(fields::trim) {
            let is = |name: &[u8]| token.eq_ignore_ascii_case(name);
            if token.starts_with(b":") || GUARDED.iter().any(|name| is(name)) {
                return Err(Refusal::bad("http1.connection_header_rejected"));
            }
            self.asks_upgrade |= is(b"upgrade");
            self.closes |= is(b"close");
        }
        Ok(())
    }

    fn add_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits);
        let length = number.and_then(|text| text.parse().ok());
        match (self.length, length) {
            (None, Some(_)) => self.length = length,
            _ => return Err(Refusal::SYNTAX),
        }
        Ok(())
    }

    fn add_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.encoded || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::ENCODING);
        }
        self.encoded = true;
        Ok(())
    }

    fn finish(
        self,
        head: &Bytes,
        request: RequestLine<'_>,
        rules: &Rules,
    ) -> Result<Head, Refusal> {
        if self.size + request.target.len() > rules.most_kb * 1024 {
            return Err(Refusal::TOO_LARGE);
        }
        if self.count > rules.most_headers {
            return Err(Refusal::TOO_MANY);
        }
        let connect = request.method == Method::CONNECT;
        let framing = match (self.encoded, self.length) {
            (true, Some(_)) => {
                return Err(Refusal::bad("http1.content_length_and_chunked_not_allowed"));
            }
            // HTTP/1.0 has no chunks, and who speaks it may not know them (RFC 9112 §6.1).
            (true, None) if request.http10 => return Err(Refusal::SYNTAX),
            // A body in front of a tunnel has no meaning (RFC 9110 §9.3.6).
            (true, None) if connect => {
                return Err(Refusal::bad("http1.transfer_encoding_not_allowed"));
            }
            (false, Some(1..)) if connect => return Err(Refusal::bad("http1.body_disallowed")),
            (true, None) => Framing::chunked(rules.trailers()),
            (false, length) => Framing::Length(length.unwrap_or(0)),
        };
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.uri = request.uri(head)?;
        parts.method = request.method;
        parts.version = if request.http10 { Version::HTTP_10 } else { Version::HTTP_11 };
        parts.headers = self.headers;
        Ok(Head {
            parts,
            framing,
            closes: self.closes,
            expects_continue: self.expects_continue && !request.http10,
            tunnel: connect || (self.asks_upgrade && self.upgrade),
            refusal: request.fragment.then_some(Refusal::FRAGMENT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::h1::fields::{Search, search};

    fn head(text: &str) -> Head {
        assert_eq!(search(text.as_bytes(), 0), Search::End(text.len()), "{text:?}");
        read(&Bytes::copy_from_slice(text.as_bytes()), &Rules::strict(1, 3))
    }

    fn details(text: &str) -> &'static str {
        head(text).refusal.map_or("good", |refusal| refusal.details)
    }

    #[test]
    fn request_lines() {
        for (line, expected) in [
            ("GET / HTTP/1.1", "good"),
            ("GET / HTTP/1.0", "good"),
            ("OPTIONS * HTTP/1.1", "good"),
            ("CONNECT a:1 HTTP/1.1", "good"),
            ("GET http://a/ HTTP/1.1", "good"),
            ("GET * HTTP/1.1", "http1.invalid_url"),
            ("GET http:///x HTTP/1.1", "http1.invalid_url"),
            ("GET ftp://a/ HTTP/1.1", "http1.invalid_scheme"),
            ("GET /#x HTTP/1.1", "path_normalization_failed"),
            ("GET x HTTP/1.1", "http1.codec_error"),
            ("GET  / HTTP/1.1", "http1.codec_error"),
            ("GET / x HTTP/1.1", "http1.codec_error"),
            ("get / HTTP/1.1", "http1.codec_error"),
            ("CONNECT a HTTP/1.1", "http1.invalid_url"),
            ("GET http://a:b:c/ HTTP/1.1", "http1.invalid_url"),
            ("GET / HTTP/1.2", "low_version"),
            ("GET /", "low_version"),
            ("GET / HTTQ/1.1", "http1.codec_error"),
        ] {
            assert_eq!(details(&format!("{line}\r\n\r\n")), expected, "{line}");
        }
    }

    #[test]
    fn fields() {
        let long = format!("a: {}", "x".repeat(1100));
        for (fields, expected) in [
            ("content-length: 5", "good"),
            ("transfer-encoding: Chunked", "good"),
            ("a: b\tc\u{fc}", "good"),
            (
                "content-length: 5\r\ntransfer-encoding: chunked",
                "http1.content_length_and_chunked_not_allowed",
            ),
            ("content-length: 5\r\ncontent-length: 5", "http1.codec_error"),
            ("content-length: +5", "http1.codec_error"),
            ("content-length:", "http1.codec_error"),
            ("content-length: 18446744073709551616", "http1.codec_error"),
            ("transfer-encoding: gzip, chunked", "http1.invalid_transfer_encoding"),
            (
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
                "http1.invalid_transfer_encoding",
            ),
            ("transfer-encoding : chunked", "http1.codec_error"),
            ("a: b\r\n folded", "http1.codec_error"),
            (": x", "http1.codec_error"),
            ("a", "http1.codec_error"),
            ("a: b\rc", "http1.invalid_characters"),
            ("a: b\0", "http1.invalid_characters"),
            ("host: a\r\nhost: a", "http1.codec_error"),
            ("host: a/b", "http.invalid_authority"),
            ("connection: close, Host", "http1.connection_header_rejected"),
            ("a: 1\r\nb: 2\r\nc: 3\r\nd: 4", "http1.too_many_headers"),
            (&long, "http1.headers_too_large"),
        ] {
            assert_eq!(
                details(&format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n")),
                expected,
                "{fields}"
            );
        }
        assert_eq!(
            details("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n"),
            "http1.codec_error"
        );
    }

    #[test]
    fn an_authority_holds_no_list_and_no_path() {
        for (host, valid) in [("a.b:80", true), ("[::1]", true), ("a,b", false), ("a/b", false)] {
            assert_eq!(valid_authority(host.as_bytes()), valid, "{host}");
        }
    }

    #[test]
    fn an_upgrade_may_leave_http_unless_it_is_to_http2() {
        for (fields, tunnel) in [
            ("connection: x, Upgrade\r\nupgrade: websocket", true),
            ("upgrade: websocket", false),
            ("connection: upgrade\r\nupgrade: h2c", false),
        ] {
            let text = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
            assert_eq!(head(&text).tunnel, tunnel, "{fields}");
        }
    }

    #[test]
    fn a_good_head_is_a_request() {
        let head = head(
            "\r\nPOST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n",
        );
        let Parts { method, uri, version, headers, .. } = head.parts;
        assert_eq!(
            (method, uri.to_string(), version),
            (Method::POST, "/a?b".to_owned(), Version::HTTP_11)
        );
        assert_eq!((headers.len(), headers[HOST].as_bytes()), (3, &b"x"[..]));
        assert_eq!(
            (head.framing, head.expects_continue, head.closes),
            (Framing::Length(5), true, false)
        );
    }

    #[test]
    fn what_is_refused_for_its_fragment_is_told_without_it() {
        let head = head("GET /a#b HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!((head.parts.uri.path(), head.refusal), ("/a", Some(Refusal::FRAGMENT)));
    }
}
