//! What routing looks at.

use http::{HeaderMap, Method, header};

use crate::config::matcher::{MatchInput, PseudoHeaders, RequestView};
use crate::telemetry::stream_info::StreamInfo;

/// A request as routing sees it. Borrowed, so that asking costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct RouteRequest<'a> {
    /// `:method`
    pub method: &'a Method,
    /// `:scheme`
    pub scheme: &'a str,
    /// `:authority`
    pub authority: &'a str,
    /// `:path` with its query; empty for a plain CONNECT.
    pub path: &'a str,
    /// Every other header.
    pub headers: &'a HeaderMap,
    /// What is known of the client's certificate.
    pub certificate: ClientCertificate,
    /// The stream, for trees that ask for filter state; none where no route is looked up.
    pub info: Option<&'a StreamInfo>,
    /// A random number that stays the same for the whole stream, so that every evaluation gives the same answer.
    pub random: u64,
}

/// What routes may ask of a client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// There is one.
    pub presented: bool,
    /// It is known to be good, and not just let in.
    pub validated: bool,
}

impl<'a> RouteRequest<'a> {
    /// The parts that matchers see as headers with a colon.
    pub fn pseudo(&self) -> PseudoHeaders<'a> {
        PseudoHeaders {
            method: self.method.as_str(),
            scheme: self.scheme,
            authority: self.authority,
            path: self.path,
        }
    }

    /// The request as matcher trees see it.
    pub fn match_input(&self) -> Option<MatchInput<'a>> {
        let info = self.info?;
        let protocol = info.protocol.map_or("", |protocol| protocol.as_str());
        let view = RequestView { pseudo: self.pseudo(), headers: self.headers, protocol };
        Some(MatchInput::stream(info, Some(view), None))
    }

    /// The first value of a header, `:authority` and the like included; none if it is absent or no text.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        if name.starts_with(':') {
            return self.pseudo().get(name);
        }
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether this is a gRPC request: its content type is `application/grpc` or `application/grpc+...`.
    pub fn is_grpc(&self) -> bool {
        is_grpc(self.headers)
    }

    /// `x-forwarded-proto`, or the scheme: how the client at the edge came in.
    pub fn forwarded_proto(&self) -> &'a str {
        self.header("x-forwarded-proto").unwrap_or(self.scheme)
    }
}

/// Whether a message's content type is `application/grpc` or `application/grpc+...`.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| rest.first().is_none_or(|next| *next == b'+'))
}

/// The path before its query and fragment.
pub fn without_query(path: &str) -> &str {
    memchr::memchr2(b'?', b'#', path.as_bytes()).map_or(path, |end| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn grpc_is_told_by_the_content_type() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let value = HeaderValue::from_static(content_type);
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value)]);
            assert_eq!(is_grpc(&headers), expected, "{content_type}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn query_and_fragment_are_cut() {
        for (path, expected) in [("/a", "/a"), ("/a?b#c", "/a"), ("/a#c?d", "/a"), ("?b", "")] {
            assert_eq!(without_query(path), expected);
        }
    }
}
