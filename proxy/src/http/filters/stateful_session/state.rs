//! Where a session's host is kept: with the client, in a cookie or a header.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use proto::envoy::config::core::v3::TypedExtensionConfig;
use proto::envoy::extensions::http::stateful_session::cookie::v3::CookieBasedSessionState;
use proto::envoy::extensions::http::stateful_session::header::v3::HeaderBasedSessionState;

use crate::config::hash_policy::GeneratedCookie;
use crate::config::{At, ConfigError, any, value};
use crate::http::{cookies, request};
use crate::refuse_set;

/// Where the address of a session's host is.
#[derive(Debug)]
pub enum SessionState {
    /// `envoy.http.stateful_session.cookie`
    Cookie { name: Box<str>, cookie: GeneratedCookie },
    /// `envoy.http.stateful_session.header`
    Header(HeaderName),
}

/// What a cookie holds, in base64: Envoy's `envoy.Cookie`.
#[derive(Clone, PartialEq, Message)]
struct CookieValue {
    /// The host's address.
    #[prost(string, tag = "1")]
    address: String,
    /// Until when it holds, in seconds since 1970; 0 for as long as the client keeps it.
    #[prost(uint64, tag = "2")]
    expires: u64,
}

impl SessionState {
    /// Translates `session_state`.
    ///
    /// # Errors
    /// A kind that does not exist here, or a rule that is broken.
    pub fn from_proto(
        message: &TypedExtensionConfig,
        at: &At<'_>,
    ) -> Result<SessionState, ConfigError> {
        let config = message.typed_config.as_ref();
        let at = at.field("typed_config");
        if any::is::<CookieBasedSessionState>(config) {
            let message: CookieBasedSessionState = any::open(config, &at)?;
            let at = at.field("cookie");
            let cookie = value::required(&message.cookie, &at)?;
            let name = value::non_empty(&cookie.name, &at.field("name"))?;
            refuse_set!(at, cookie, [attributes]);
            let ttl = value::duration(cookie.ttl, &at.field("ttl"))?.unwrap_or_default();
            let (path, attributes) = (cookie.path.as_str().into(), Vec::new());
            let cookie =
                GeneratedCookie { ttl: Duration::from_secs(ttl.as_secs()), path, attributes };
            return Ok(SessionState::Cookie { name: name.into(), cookie });
        }
        if any::is::<HeaderBasedSessionState>(config) {
            let message: HeaderBasedSessionState = any::open(config, &at)?;
            let at = at.field("name");
            let name = value::non_empty(&message.name, &at)?;
            return value::header_name(name, &at).map(SessionState::Header);
        }
        Err(any::unknown(&message.name, config, &at))
    }

    /// Whether requests of this path have sessions: those that a client would send the cookie with.
    pub fn applies_to(&self, parts: &Parts) -> bool {
        let SessionState::Cookie { cookie, .. } = self else { return true };
        let path = request::path(&parts.uri);
        let path = path.split(['?', '#']).next().unwrap_or(path);
        match path.strip_prefix(&*cookie.path) {
            Some(rest) => {
                rest.is_empty()
                    || cookie.path.is_empty()
                    || cookie.path.ends_with('/')
                    || rest.starts_with('/')
            }
            None => false,
        }
    }

    /// The address of the host that has served the client before.
    pub fn address(&self, headers: &HeaderMap) -> Option<Box<str>> {
        let decode = |value: &[u8]| STANDARD.decode(value).ok().filter(|bytes| !bytes.is_empty());
        match self {
            SessionState::Cookie { name, .. } => {
                let bytes = decode(cookies::value(headers, name)?.as_bytes())?;
                match CookieValue::decode(&*bytes) {
                    Ok(CookieValue { expires, .. }) if expires > 0 && expires < now() => None,
                    Ok(CookieValue { address, .. }) => {
                        (!address.is_empty()).then(|| address.into())
                    }
                    // Before there was a message, the address stood there by itself.
                    Err(_) => Some(String::from_utf8_lossy(&bytes).into()),
                }
            }
            SessionState::Header(name) => {
                let bytes = decode(headers.get(name)?.as_bytes())?;
                Some(String::from_utf8_lossy(&bytes).into())
            }
        }
    }

    /// Tells the client the address of its host.
    pub fn tell(&self, address: &str, headers: &mut HeaderMap) {
        match self {
            SessionState::Cookie { name, cookie } => {
                let ttl = cookie.ttl.as_secs();
                let expires = if ttl == 0 { 0 } else { now() + ttl };
                let value = CookieValue { address: address.into(), expires };
                let value = STANDARD.encode(value.encode_to_vec());
                if let Some(cookie) = cookies::set(name, &value, cookie) {
                    headers.append(SET_COOKIE, cookie);
                }
            }
            SessionState::Header(name) => {
                let value = HeaderValue::try_from(STANDARD.encode(address));
                headers.insert(name, value.expect("base64 is legal in a header"));
            }
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(path: &str, ttl: u64) -> SessionState {
        let (ttl, path) = (Duration::from_secs(ttl), path.into());
        let cookie = GeneratedCookie { ttl, path, attributes: Vec::new() };
        SessionState::Cookie { name: "s".into(), cookie }
    }

    fn sent(value: &str) -> HeaderMap {
        let line = HeaderValue::try_from(format!("s=\"{value}\"")).unwrap();
        HeaderMap::from_iter([(http::header::COOKIE, line)])
    }

    #[test]
    fn cookies_of_envoy_are_read() {
        let state = cookie("/", 120);
        // As Envoy 1.40 wrote it; it is over since 2026-11-24.
        let expired = "Cg8xMjcuMC4wLjE6MTkxMDIQ4JeX2AY=";
        let value = CookieValue::decode(&*STANDARD.decode(expired).unwrap()).unwrap();
        assert_eq!(
            value,
            CookieValue { address: "127.0.0.1:19102".into(), expires: 1_795_541_984 }
        );
        let without_end = "Cg8xMjcuMC4wLjE6MTkxMDI=";
        assert_eq!(state.address(&sent(without_end)).as_deref(), Some("127.0.0.1:19102"));
        let old = STANDARD.encode("127.0.0.1:19102");
        assert_eq!(state.address(&sent(&old)).as_deref(), Some("127.0.0.1:19102"));
        assert_eq!(state.address(&sent("%%")), None);
    }

    #[test]
    fn a_cookie_comes_back_as_it_was_given_until_it_is_over() {
        for ttl in [0, 100] {
            let state = cookie("", ttl);
            let mut headers = HeaderMap::new();
            state.tell("[::1]:80", &mut headers);
            let text = headers[SET_COOKIE].to_str().unwrap();
            let value = text.split('"').nth(1).unwrap();
            assert_eq!(state.address(&sent(value)).as_deref(), Some("[::1]:80"));
        }
        let over = CookieValue { address: "a".into(), expires: now() - 1 };
        assert_eq!(cookie("", 1).address(&sent(&STANDARD.encode(over.encode_to_vec()))), None);
    }

    #[test]
    fn a_cookie_holds_for_its_path_and_what_is_below() {
        let applies = |path: &str, uri: &str| {
            let parts = http::Request::get(uri).body(()).unwrap().into_parts().0;
            cookie(path, 0).applies_to(&parts)
        };
        assert!(applies("", "/x") && applies("/", "/x") && applies("/a", "/a?b"));
        assert!(applies("/a", "/a/b") && applies("/a/", "/a/b"));
        assert!(!applies("/a", "/ab") && !applies("/a/", "/a"));
    }
}
