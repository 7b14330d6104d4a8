//! Cookies: those that a client sends, and those that it is given.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::config::hash_policy::GeneratedCookie;

/// The value of the first cookie of this name, without quotes; none if it is absent or empty.
pub fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
    let value = values.next()?;
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Some(unquoted.unwrap_or(value)).filter(|value| !value.is_empty())
}

/// The `set-cookie` header that gives a client a cookie; none if that would be no header.
pub fn set(name: &str, value: &str, cookie: &GeneratedCookie) -> Option<HeaderValue> {
    let mut header = format!("{name}=\"{value}\"");
    if !cookie.ttl.is_zero() {
        header += &format!("; Max-Age={}", cookie.ttl.as_secs());
    }
    if !cookie.path.is_empty() {
        header += &format!("; Path={}", cookie.path);
    }
    for (name, value) in &cookie.attributes {
        header += &format!("; {name}");
        if !value.is_empty() {
            header += &format!("={value}");
        }
    }
    header += "; HttpOnly";
    HeaderValue::try_from(header).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_among_others() {
        let line =
            |line: &'static str| HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(line))]);
        assert_eq!(value(&line("a=1; b=\"2\"; b=3"), "b"), Some("2"));
        assert_eq!(value(&line("ab=1"), "b"), None);
        assert_eq!(value(&line("b="), "b"), None);
    }
}
