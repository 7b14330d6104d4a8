//! Whether the head of an HTTP/1 request is well-formed, and how its body is framed (RFC 9112).

use std::time::Duration;

use http::StatusCode;

use super::body::{Body, Chunks};
use super::charset::{is_in_target, is_token, valid_authority};
use crate::config::hcm::{HttpConnectionManager, Underscores};

/// The methods that pass without `allow_custom_methods`: those that Envoy knows.
const METHODS: [&[u8]; 35] = [
    b"ACL",
    b"BIND",
    b"CHECKOUT",
    b"CONNECT",
    b"COPY",
    b"DELETE",
    b"GET",
    b"HEAD",
    b"LINK",
    b"LOCK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MOVE",
    b"MSEARCH",
    b"NOTIFY",
    b"OPTIONS",
    b"PATCH",
    b"POST",
    b"PROPFIND",
    b"PROPPATCH",
    b"PURGE",
    b"PUT",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"SOURCE",
    b"SUBSCRIBE",
    b"TRACE",
    b"UNBIND",
    b"UNLINK",
    b"UNLOCK",
    b"UNSUBSCRIBE",
    b"M-SEARCH",
];

/// What the connection manager allows in a request's head.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    accept_http10: bool,
    allow_absolute_url: bool,
    allow_custom_methods: bool,
    reject_underscores: bool,
    most_kb: usize,
    most_headers: usize,
    /// `request_headers_timeout`: how long a head may take from its first byte to its last.
    pub head_timeout: Option<Duration>,
}

impl Rules {
    /// The rules of a connection manager.
    pub fn new(config: &HttpConnectionManager) -> Rules {
        Rules {
            accept_http10: config.accept_http10,
            allow_absolute_url: config.allow_absolute_url,
            allow_custom_methods: config.allow_custom_methods,
            reject_underscores: config.underscores == Underscores::Reject,
            most_kb: config.max_request_headers_kb as usize,
            most_headers: config.max_headers_count as usize,
            head_timeout: config.request_headers_timeout,
        }
    }

    /// How long a head can be that may still pass: its fields, and the punctuation between them.
    pub fn most_bytes(&self) -> usize {
        self.most_kb * 1024 + 4 * self.most_headers + 64
    }
}

/// Why a head is refused before it becomes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status; its reason phrase is the body.
    pub status: StatusCode,
    /// `%RESPONSE_CODE_DETAILS%`
    pub details: &'static str,
}

impl Refusal {
    /// What is not HTTP.
    pub const SYNTAX: Refusal = Refusal::bad("http1.codec_error");
    /// A head that is too long.
    pub const TOO_LARGE: Refusal = Refusal {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        details: "http1.headers_too_large",
    };
    /// A head that did not come to its end in time.
    pub const LATE: Refusal =
        Refusal { status: StatusCode::REQUEST_TIMEOUT, details: "request_header_timeout" };
    /// A path with a fragment, which is no part of what a server may see.
    pub const FRAGMENT: Refusal = Refusal::bad("path_normalization_failed");
    /// A name with an underscore, where those are not wanted.
    pub const UNDERSCORE: Refusal = Refusal::bad("http1.unexpected_underscore");
    const TOO_MANY: Refusal = Refusal { details: "http1.too_many_headers", ..Refusal::TOO_LARGE };
    const VERSION: Refusal =
        Refusal { status: StatusCode::UPGRADE_REQUIRED, details: "low_version" };
    const ENCODING: Refusal =
        Refusal { status: StatusCode::NOT_IMPLEMENTED, details: "http1.invalid_transfer_encoding" };

    const fn bad(details: &'static str) -> Refusal {
        Refusal { status: StatusCode::BAD_REQUEST, details }
    }
}

/// What a search for the end of a head found.
#[derive(Debug, PartialEq, Eq)]
pub enum Search {
    /// The head has this length.
    End(usize),
    /// It goes on.
    More,
    /// A line ends in LF alone.
    BareLineFeed,
}

/// Looks for the empty line that ends a head. The first `searched` bytes hold no end, as an earlier search has shown.
pub fn search(bytes: &[u8], searched: usize) -> Search {
    // Empty lines in front of a request are ignored (RFC 9112 §2.2).
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
    let mut from = searched;
    while let Some(found) = memchr::memchr(b'\n', &bytes[from..]) {
        let at = from + found;
        match at.checked_sub(1).map(|before| bytes[before]) {
            Some(b'\r') if at > start && at >= 2 && bytes[at - 2] == b'\n' => {
                return Search::End(at + 1);
            }
            Some(b'\r') => from = at + 1,
            _ => return Search::BareLineFeed,
        }
    }
    Search::More
}

/// What a good head says about what follows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// The body.
    pub body: Body,
    /// Whether the connection may leave HTTP behind the body: CONNECT, or an upgrade.
    pub tunnel: bool,
}

/// Checks a whole head, whose lines all end in CR LF.
///
/// # Errors
/// Why it is refused.
pub fn check(head: &[u8], rules: &Rules) -> Result<Head, Refusal> {
    let mut lines = lines(head).skip_while(|line| line.is_empty());
    let request = RequestLine::read(lines.next().unwrap_or_default(), rules)?;
    let mut fields = Fields::default();
    for line in lines.take_while(|line| !line.is_empty()) {
        fields.add(line, rules)?;
    }
    fields.finish(&request, rules)
}

/// The lines, without their ends.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr::memchr_iter(b'\n', head).map(move |end| {
        let line = &head[start..end];
        start = end + 1;
        line.strip_suffix(b"\r").unwrap_or(line)
    })
}

struct RequestLine {
    connect: bool,
    http10: bool,
    length: usize,
}

impl RequestLine {
    fn read(line: &[u8], rules: &Rules) -> Result<RequestLine, Refusal> {
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
        let connect = method == b"CONNECT";
        check_target(method, target, rules)?;
        Ok(RequestLine { connect, http10, length: target.len() })
    }
}

fn is_known(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"POST") || METHODS.contains(&method)
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

/// What stands in the fields about framing, and their number and size.
#[derive(Default)]
struct Fields {
    count: usize,
    size: usize,
    length: Option<u64>,
    encoded: bool,
    hosts: usize,
    asks_upgrade: bool,
    upgrade: bool,
}

impl Fields {
    fn add(&mut self, line: &[u8], rules: &Rules) -> Result<(), Refusal> {
        let invalid = Refusal::bad("http1.invalid_characters");
        // A line that starts with white space would continue the one before (obs-fold): no name is empty or has a blank.
        let colon = memchr::memchr(b':', line).ok_or(Refusal::SYNTAX)?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if !is_token(name) {
            return Err(if has_control(name) { invalid } else { Refusal::SYNTAX });
        }
        if has_control(value) {
            return Err(invalid);
        }
        if rules.reject_underscores && name.contains(&b'_') {
            return Err(Refusal::UNDERSCORE);
        }
        self.count += 1;
        self.size += name.len() + value.len();
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.add_host(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade |= !value.eq_ignore_ascii_case(b"h2c");
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.add_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.add_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.add_encoding(value),
            _ => Ok(()),
        }
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
        for token in value.split(|byte| *byte == b',').map(trim) {
            let is = |name: &[u8]| token.eq_ignore_ascii_case(name);
            if token.starts_with(b":") || GUARDED.iter().any(|name| is(name)) {
                return Err(Refusal::bad("http1.connection_header_rejected"));
            }
            self.asks_upgrade |= is(b"upgrade");
        }
        Ok(())
    }

    fn add_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits);
        // The two highest numbers mean something else to hyper.
        let length =
            number.and_then(|text| text.parse().ok()).filter(|length| *length < u64::MAX - 1);
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

    fn finish(self, request: &RequestLine, rules: &Rules) -> Result<Head, Refusal> {
        if self.size + request.length > rules.most_kb * 1024 {
            return Err(Refusal::TOO_LARGE);
        }
        if self.count > rules.most_headers {
            return Err(Refusal::TOO_MANY);
        }
        let body = match (self.encoded, self.length) {
            (true, Some(_)) => {
                return Err(Refusal::bad("http1.content_length_and_chunked_not_allowed"));
            }
            // HTTP/1.0 has no chunks, and who speaks it may not know them (RFC 9112 §6.1).
            (true, None) if request.http10 => return Err(Refusal::SYNTAX),
            (true, None) => Body::Chunked(Chunks::default()),
            (false, length) => Body::Length(length.unwrap_or(0)),
        };
        Ok(Head { body, tunnel: request.connect || (self.asks_upgrade && self.upgrade) })
    }
}

fn has_control(text: &[u8]) -> bool {
    // Without a way out of the loop, so that the compiler can look at many bytes at once.
    text.iter()
        .fold(false, |found, byte| found | ((*byte < b' ') & (*byte != b'\t')) | (*byte == 0x7F))
}

fn trim(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| b" \t".contains(byte);
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        accept_http10: true,
        allow_absolute_url: true,
        allow_custom_methods: false,
        reject_underscores: false,
        most_kb: 1,
        head_timeout: None,
        most_headers: 3,
    };

    fn details(head: &str) -> &'static str {
        assert_eq!(search(head.as_bytes(), 0), Search::End(head.len()), "{head:?}");
        check(head.as_bytes(), &RULES).map_or_else(|refusal| refusal.details, |_| "good")
    }

    #[test]
    fn a_head_ends_at_an_empty_line_and_has_no_bare_line_feeds() {
        assert_eq!(search(b"\r\n\r\nGET / HTTP/1.1\r\na: b\r\n\r\nx", 0), Search::End(28));
        assert_eq!(search(b"GET / HTTP/1.1\r\na: b\r\n", 0), Search::More);
        assert_eq!(search(b"\r\n\r\n", 0), Search::More);
        assert_eq!(search(b"GET / HTTP/1.1\na: b\r\n\r\n", 0), Search::BareLineFeed);
        assert_eq!(search(b"GET / HTTP/1.1\r\n\n", 0), Search::BareLineFeed);
        assert_eq!(search(b"GET / HTTP/1.1\r\n\r\n", 17), Search::End(18));
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
            ("content-length: 18446744073709551615", "http1.codec_error"),
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
            let head = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
            assert_eq!(
                check(head.as_bytes(), &RULES).map(|head| head.tunnel),
                Ok(tunnel),
                "{fields}"
            );
        }
    }
}
