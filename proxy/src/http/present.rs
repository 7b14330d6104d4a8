//! Which of the headers that the proxy cares about a message has, found in one pass.
//!
//! A look-up in a header map hashes the name; most messages have few headers, and few of those that the proxy would look
//! for one by one.

use http::HeaderMap;

/// A set of header names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present(u32);

macro_rules! names {
    ($($name:ident = $bit:literal, $text:literal;)*) => {
        impl Present {
            $(#[doc = $text] pub const $name: Present = Present(1 << $bit);)*

            fn of_name(name: &str) -> Present {
                match name {
                    $($text => Present::$name,)*
                    _ if name.starts_with("x-envoy-") => Present::of_envoy(name),
                    _ => Present(0),
                }
            }
        }
    };
}

names! {
    CONNECTION = 0, "connection";
    UPGRADE = 1, "upgrade";
    TRANSFER_ENCODING = 2, "transfer-encoding";
    KEEP_ALIVE = 3, "keep-alive";
    PROXY_CONNECTION = 4, "proxy-connection";
    TE = 5, "te";
    EXPECT = 6, "expect";
    REFERER = 7, "referer";
    CONTENT_TYPE = 8, "content-type";
    X_FORWARDED_FOR = 9, "x-forwarded-for";
    X_FORWARDED_PROTO = 10, "x-forwarded-proto";
    X_FORWARDED_CLIENT_CERT = 11, "x-forwarded-client-cert";
    X_REQUEST_ID = 12, "x-request-id";
    DATE = 13, "date";
    SERVER = 14, "server";
    HOST = 15, "host";
    GRPC_TIMEOUT = 16, "grpc-timeout";
    COOKIE = 17, "cookie";
}

impl Present {
    /// Any `x-envoy-*` header.
    pub const X_ENVOY: Present = Present(1 << 30);
    /// Any of the headers that ask for retries.
    pub const RETRIES: Present = Present(1 << 29);
    /// More than one `host`.
    pub const MANY_HOSTS: Present = Present(1 << 31);
    /// What only one connection may see (RFC 9110 §7.6.1).
    pub const HOP_BY_HOP: Present = Present(
        Present::CONNECTION.0
            | Present::UPGRADE.0
            | Present::TRANSFER_ENCODING.0
            | Present::KEEP_ALIVE.0
            | Present::PROXY_CONNECTION.0
            | Present::TE.0,
    );

    fn of_envoy(name: &str) -> Present {
        const ABOUT_RETRIES: [&str; 4] = [
            "x-envoy-retr",
            "x-envoy-max-retries",
            "x-envoy-hedge-on-per-try-timeout",
            "x-envoy-upstream-rq-per-try-timeout-ms",
        ];
        match ABOUT_RETRIES.iter().any(|start| name.starts_with(start)) {
            true => Present(Present::X_ENVOY.0 | Present::RETRIES.0),
            false => Present::X_ENVOY,
        }
    }

    /// The names in a message.
    pub fn scan(headers: &HeaderMap) -> Present {
        let mut present = Present(0);
        for (name, _) in headers {
            let this = Present::of_name(name.as_str());
            if this == Present::HOST && present.has(Present::HOST) {
                present.0 |= Present::MANY_HOSTS.0;
            }
            present.0 |= this.0;
        }
        present
    }

    /// Whether any of `names` is there.
    pub fn has(self, names: Present) -> bool {
        self.0 & names.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HOST;

    use super::*;

    #[test]
    fn finds_names_groups_and_repeated_hosts() {
        let mut headers = HeaderMap::new();
        headers.insert("x-envoy-retry-on", HeaderValue::from_static("5xx"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.append(HOST, HeaderValue::from_static("a"));
        let present = Present::scan(&headers);
        assert!(present.has(Present::X_ENVOY) && present.has(Present::HOP_BY_HOP));
        assert!(present.has(Present::HOST) && !present.has(Present::MANY_HOSTS));
        assert!(!present.has(Present::CONNECTION) && present.has(Present::RETRIES));
        headers.append(HOST, HeaderValue::from_static("b"));
        assert!(Present::scan(&headers).has(Present::MANY_HOSTS));
    }
}
